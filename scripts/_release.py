"""Makes a release: raises the version, dates the changelog, commits and tags, and builds sdist and wheel from that commit alone.

All is made in a temporary folder, with an index of its own. The tag, dist/ and the branch come last: a failure leaves nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import petstore

ROOT = Path(__file__).resolve().parent.parent
VERSION_FILE, CHANGELOG, OPENAPI, CONSTRAINTS = "petstore/__init__.py", "CHANGELOG.md", "docs/openapi.json", "constraints.txt"
PARTS = ("major", "minor", "patch")
PACKAGES = {"petstore": "petstore", "sql": "petstore/sql"}  # folder in the checkout: in the wheel


class Refusal(Exception):
    """Why no release is made."""


def run(*command: str | Path, **environ: str) -> str:
    """What a program prints. Raises Refusal with its message when it fails."""
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True)
    if done.returncode:
        raise Refusal(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.rstrip("\n")


def next_version(current: str, asked: str) -> str:
    """The version to make. asked: MAJOR.MINOR.PATCH, or the name of the part to raise."""
    numbers = [int(number) for number in current.split(".")]
    if asked in PARTS:
        place = PARTS.index(asked)
        return ".".join(map(str, [*numbers[:place], numbers[place] + 1, 0, 0][:3]))
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", asked, re.ASCII):
        raise Refusal(f"{asked!r} is no version: give MAJOR.MINOR.PATCH such as 1.2.3, or one of {', '.join(PARTS)}")
    if [int(number) for number in asked.split(".")] <= numbers:
        raise Refusal(f"{asked} is not higher than the version {current}")
    return asked


def check_repository(version: str) -> None:
    """Raise Refusal with every reason why the checkout is not ready for a release."""
    reasons = []
    if (branch := run("git", "branch", "--show-current")) != "main":
        reasons.append(f"a release is made on the branch main; this is {branch or 'none'}")
    if changes := run("git", "status", "--porcelain", "--untracked-files=normal"):
        reasons.append(f"there are changes that are not committed:\n{changes}")
    if run("git", "tag", "--list", f"v{version}"):
        reasons.append(f"the tag v{version} exists")
    if not re.search(r"^## Unreleased\n(###.*\n|\n)*[^#\s]", (ROOT / CHANGELOG).read_text("utf-8"), re.MULTILINE):
        reasons.append(f"{CHANGELOG} tells nothing below '## Unreleased'")
    if reasons:
        raise Refusal("\n".join(reasons))


def commit(version: str, source: Path) -> str:
    """A commit of the release, which no branch has yet, with its files in the folder `source`."""
    changes = {
        VERSION_FILE: (f'__version__ = "{petstore.__version__}"\n', f'__version__ = "{version}"\n'),
        CHANGELOG: ("## Unreleased\n", f"## Unreleased\n\n## {version} ({datetime.now(timezone.utc).date()})\n"),
        OPENAPI: (f'"version": "{petstore.__version__}",\n', f'"version": "{version}",\n'),
    }
    base, index = run("git", "rev-parse", "HEAD"), {"GIT_INDEX_FILE": str(source.parent / "index")}
    run("git", "read-tree", base, **index)
    run("git", "checkout-index", "--all", f"--prefix={source}/", **index)
    for name, (old, new) in changes.items():
        text = (source / name).read_text("utf-8")
        if text.count(old) != 1:
            raise Refusal(f"{name} needs one {old.strip()}")
        (source / name).write_text(text.replace(old, new), "utf-8")
    run("git", f"--work-tree={source}", "add", *changes, **index)
    return run("git", "commit-tree", run("git", "write-tree", **index), "-p", base, "-m", f"chore(release): {version}")


def build(version: str, source: Path, folder: Path) -> list[Path]:
    """Build the files of the release in a folder: the sdist, the wheel, and constraints.txt by the name of the release.

    The wheel is built from the sdist, so both are whole when the wheel holds exactly the files of the packages.
    """
    wanted = {
        f"{inside}/{path.relative_to(source / outside)}": path.read_bytes()
        for outside, inside in PACKAGES.items()
        for path in (source / outside).rglob("*")
        if path.is_file()
    }
    command = sys.executable, "-m", "uv", "build", "--quiet", "--python", sys.executable, "--out-dir", folder, source
    run(*command, TMPDIR=str(source.parent))
    names = f"petstore-{version}.tar.gz", f"petstore-{version}-py3-none-any.whl", f"petstore-{version}-{CONSTRAINTS}"
    sdist, wheel, constraints = (folder / name for name in names)
    shutil.copy(source / CONSTRAINTS, constraints)
    with zipfile.ZipFile(wheel) as archive:
        about = f"petstore-{version}.dist-info/"
        found = {name: archive.read(name) for name in archive.namelist() if not name.startswith(about)}
    if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise Refusal(f"the wheel and the commit differ in {', '.join(differing)}")
    return [sdist, wheel, constraints]


def publish(revision: str, version: str, files: list[Path]) -> None:
    """Put the files into dist/, tag the commit, and bring main to it. All of it, or nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # for git, too: it takes milliseconds
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    with ExitStack() as undo:
        for file in files:
            undo.callback((dist / file.name).unlink, missing_ok=True)
            shutil.copy(file, dist)
        run("git", "tag", "--annotate", f"v{version}", "-m", f"Petstore {version}", revision)
        undo.callback(run, "git", "tag", "--delete", f"v{version}")
        run("git", "merge", "--quiet", "--ff-only", revision)  # refused when main has moved, or a file was changed
        undo.pop_all()


def release(asked: str, dry_run: bool) -> None:
    """Make the release. dry_run: do all of it except what stays."""
    version = next_version(petstore.__version__, asked)
    check_repository(version)
    with tempfile.TemporaryDirectory(prefix="petstore-release-", ignore_cleanup_errors=True) as folder:
        source = Path(folder, "source")
        revision = commit(version, source)
        files = build(version, source, Path(folder, "made"))
        print(run("git", "show", "--stat", "--format=%s", revision))
        if not dry_run:
            publish(revision, version, files)
    print("would be made:" if dry_run else "made:", *(f"dist/{file.name}" for file in files), f"the tag v{version}", sep="\n  ")
    if not dry_run:
        print(f"to publish it: git push --atomic origin main v{version}")
        print(f"to take it back before that: git tag -d v{version} && git reset --keep HEAD~")


def main() -> None:
    """See the options."""
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__.partition("\n")[0])
    parser.add_argument("version", help="MAJOR.MINOR.PATCH, or major, minor or patch")
    parser.add_argument("--dry-run", action="store_true", help="do all of it, show the commit, and keep nothing")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that the folder is removed
    try:
        release(options.version, options.dry_run)
    except Refusal as refusal:
        raise SystemExit(f"scripts/release: {refusal}") from None


if __name__ == "__main__":
    main()
