"""Makes .venv with the packages of the project, and runs a command in it. Any Python 3 can read it, to report one too old.

By hand: python3 scripts/_bootstrap.py EXTRAS ARGUMENTS, such as python3 scripts/_bootstrap.py dev -m mypy
"""

import configparser
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
CONSTRAINTS = os.path.join(ROOT, "constraints.txt")  # the versions that were tested
STAMP = os.path.join(VENV, "petstore.stamp")  # a hash of what was installed (see _wanted), and the extras
OLDEST, NEWEST = 10, 14  # minor versions of Python 3


def run(arguments, extras="embedded"):
    """Install petstore[extras] if needed, then replace this process by `.venv/bin/python ARGUMENTS`."""
    _find_newer_python()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    with open(os.path.join(ROOT, "setup.cfg")) as setup:
        fcntl.flock(setup, fcntl.LOCK_EX)  # when two commands start at once, one installs
        _install(set(extras.split(",")))
    for name, folder in (("PETSTORE_HOME", "var"), ("PETSTORE_KEYS", "keys")):
        os.environ[name] = os.environ.get(name) or os.path.join(ROOT, folder)
    os.execv(PYTHON, [PYTHON] + arguments)


def petstore(*arguments):
    """Replace this process by a `petstore` command; arguments of the command line follow it."""
    run(["-m", "petstore"] + list(arguments) + sys.argv[1:])


def _find_newer_python():
    """If this interpreter is too old, continue with a newer one from PATH."""
    if sys.version_info >= (3, OLDEST):
        return
    for minor in range(NEWEST, OLDEST - 1, -1):
        newer = shutil.which("python3.%d" % minor)
        if newer and subprocess.call([newer, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(newer, [newer] + sys.argv)
    _fail("Python 3.%d or newer is needed; this is %s (%s)" % (OLDEST, sys.version.split()[0], sys.executable))


def _install(extras):
    """Bring .venv up to date. The stamp tells what is installed, so pip runs only when that is not enough."""
    have = _read(STAMP).split() if os.path.exists(PYTHON) else []
    if have[:1] == [_wanted()] and extras <= set(have[1:]):
        return
    if not have or have[0].split("-")[0] != _python():
        _make_venv()
    extras = sorted(extras | set(have[1:]))
    _report("installing what petstore[%s] needs, which takes a while the first time" % ",".join(extras))
    if _pip(requirements(extras)):
        _fail("pip failed; its messages are above. Can PyPI be reached, and is %s writable?" % ROOT)
    _link_project()
    _write_stamp([_wanted()] + extras)


def _make_venv():
    _report("making .venv with Python %d.%d" % sys.version_info[:2])
    shutil.rmtree(VENV, ignore_errors=True)
    status, output = _call([sys.executable, "-m", "venv", VENV], stderr=subprocess.STDOUT)
    if status:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.stderr.write(output)
        _fail("this Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv")
    _write_stamp([_python() + "-empty"])


def requirements(extras):
    """The requirements of the project and of these extras, from setup.cfg."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(os.path.join(ROOT, "setup.cfg"))
    lines = setup["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += setup["options.extras_require"][extra].splitlines()
    return [line for line in lines if line]


def _pip(wanted):
    """Install, and report each package; the exit status."""
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["-c", CONSTRAINTS] + wanted
    # A temporary folder of its own, which is removed: an interrupted pip leaves files behind.
    folder = tempfile.mkdtemp(prefix="pip-", dir=VENV)
    try:
        status, _ = _call(
            command,
            lambda line: line.startswith("Collecting") and _report("  " + re.split("[ <>=!~]+", line)[1]),
            env=dict(os.environ, TMPDIR=folder),
        )
        return status
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _call(command, show=lambda line: None, **options):
    """Run a program; its exit status and output. show: called with each line. Interrupted, it interrupts the program, too."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True, start_new_session=True, **options)
    output = ""
    try:
        for line in process.stdout:
            output += line
            show(line)
        return process.wait(), output
    except BaseException:
        _report("interrupted")
        os.killpg(process.pid, signal.SIGINT)
        process.communicate()
        raise


def _wanted():
    """A hash of what .venv depends on: the Python that made it, setup.cfg, constraints.txt, and the folder of the project."""
    text = ROOT + _read(os.path.join(ROOT, "setup.cfg")) + _read(CONSTRAINTS)
    return _python() + "-" + hashlib.sha256(text.encode()).hexdigest()


def _python():
    """A hash of the interpreter behind .venv: after an upgrade of the system it may be another one, with other folders."""
    return hashlib.sha256(os.path.realpath(PYTHON).encode()).hexdigest()[:12]


def _link_project():
    """Make the checkout importable, and the command `petstore`: an editable install, but much faster."""
    _, folder = _call([PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    with open(os.path.join(folder.strip(), "petstore.pth"), "w") as file:
        file.write(ROOT + "\n")
    command = os.path.join(VENV, "bin", "petstore")
    with open(command, "w") as file:
        file.write('#!/bin/sh\nexec "$(dirname "$0")/python" -m petstore "$@"\n')
    shutil.copymode(os.path.join(VENV, "bin", "pip"), command)


def _write_stamp(words):
    with open(STAMP, "w") as file:
        file.write(" ".join(words) + "\n")


def _read(path):
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        return file.read()


def _report(text):
    sys.stderr.write("petstore: %s\n" % text)
    sys.stderr.flush()


def _fail(text):
    _report(text)
    sys.exit(2)


if __name__ == "__main__":
    run(sys.argv[2:], extras=sys.argv[1])
