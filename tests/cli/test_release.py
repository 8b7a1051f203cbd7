"""scripts/release, run in a repository of its own: what a release is made of, and that a refused or failed one leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.cli.shops import ROOT, checkout
from tests.commands import environment
from tests.waiting import eventually

pytest.importorskip("uv")
pytestmark = pytest.mark.slow
ADDRESS = {f"GIT_{who}_{what}": "ana@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
NOTHING = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
NEWS = "## Unreleased\n\n### Added\n\n- Dogs.\n"
PIP = sys.executable, "-m", "pip", "--disable-pip-version-check"
MADE = "petstore-0.2.0-constraints.txt", "petstore-0.2.0-py3-none-any.whl", "petstore-0.2.0.tar.gz"


class Repository:
    """A repository with one commit on main: the checkout that is tested, at version 0.1.0, with something new in its changelog."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.temporary = folder, folder.parent / "tmp"
        self.temporary.mkdir()
        self.environ = environment(**ADDRESS, **NOTHING, PYTHONPATH=str(folder), TMPDIR=str(self.temporary))

    def make(self) -> Repository:
        checkout(self.folder)
        for name, version in ("petstore/__init__.py", '__version__ = "'), ("docs/openapi.json", '"version": "'):
            self.write(name, re.sub(f'(?<={version}).*(?=")', "0.1.0", self.read(name), count=1))
        self.write("CHANGELOG.md", f"# Changelog\n\n{NEWS}\n## 0.1.0\n\nThe first version.\n")
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit("first")
        return self

    def read(self, name: str) -> str:
        return (self.folder / name).read_text("utf-8")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, "utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        assert old in self.read(name)
        self.write(name, self.read(name).replace(old, new))

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.folder, env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def commit(self, subject: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", subject)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, self.folder / "scripts/_release.py", *arguments]
        return subprocess.Popen(
            command, cwd="/", env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def release(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=300)
        return process.returncode, output, errors

    def state(self) -> tuple[object, ...]:
        """What a release that was not made leaves as it was."""
        return self.git("for-each-ref"), self.git("status", "--porcelain", "--branch"), self.files(), self.left()

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "dist").glob("*"))

    def left(self) -> list[str]:
        return [path.name for path in self.temporary.iterdir()]

    def builds(self) -> bool:
        """Whether a release is in the middle of its build."""
        return any(self.temporary.glob("petstore-release-*/made/*"))

    def wheel(self) -> Path:
        """A wheel that is built by hand, in the checkout."""
        made = self.folder.parent / "by hand"
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run([*PIP, "wheel", "-q", "--no-deps", "-w", made, self.folder], env=self.environ, check=True)
        return next(made.iterdir())


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("first") / "petstore").make()


@pytest.fixture
def repository(first: Repository, tmp_path: Path) -> Repository:
    return Repository(shutil.copytree(first.folder, tmp_path / "petstore", symlinks=True))


def test_every_reason_why_it_is_not_ready_is_told_at_once_and_nothing_is_made(repository):
    repository.replace("CHANGELOG.md", "- Dogs.\n", "")
    repository.commit("nothing new")
    repository.git("tag", "v0.2.0")
    repository.git("switch", "--quiet", "--create", "feature")
    repository.write("petstore/new.py", '"""New."""\n')
    before = repository.state()
    assert repository.release("minor") == (
        1,
        "",
        "scripts/release: a release is made on the branch main; this is feature\n"
        "there are changes that are not committed:\n?? petstore/new.py\n"
        "the tag v0.2.0 exists\n"
        "CHANGELOG.md tells nothing below '## Unreleased'\n",
    )
    for version, reason in [
        ("0.1.0", "0.1.0 is not higher than the version 0.1.0"),
        ("0.0.9", "0.0.9 is not higher than the version 0.1.0"),
        ("v0.2.0", "'v0.2.0' is no version"),
        ("0.02.0", "'0.02.0' is no version"),
    ]:
        assert reason in repository.release(version)[2]
    assert repository.state() == before


def test_a_release_is_one_commit_with_a_tag_and_files_of_nothing_but_its_own(repository, tmp_path):
    repository.write("petstore/web/gone.py", '"""Deleted before the release."""\n')
    repository.commit("a module that goes")
    old = shutil.copy(repository.wheel(), tmp_path)
    (repository.folder / "petstore/web/gone.py").unlink()
    repository.commit("it goes")
    assert (repository.folder / "build/lib/petstore/web/gone.py").exists()
    assert "petstore/web/gone.py" not in zipfile.ZipFile(repository.wheel()).namelist(), (
        "a wheel that is built by hand is clean, too"
    )
    before = repository.git("rev-parse", "HEAD")

    status, said, errors = repository.release("minor")
    assert status == 0, said + errors
    assert "git push --atomic origin main v0.2.0" in said

    assert repository.git("log", "--format=%s", f"{before}..main") == "chore(release): 0.2.0"
    assert repository.git("rev-parse", "v0.2.0^{commit}") == repository.git("rev-parse", "HEAD")
    assert repository.git("cat-file", "-t", "v0.2.0") == "tag"
    changed = repository.git("diff", "--unified=0", before).splitlines()
    today = datetime.now(timezone.utc).date()
    assert [line for line in changed if line.startswith("+")] == [
        *("+++ b/CHANGELOG.md", f"+## 0.2.0 ({today})", "+"),
        *("+++ b/docs/openapi.json", '+    "version": "0.2.0",'),
        *("+++ b/petstore/__init__.py", '+__version__ = "0.2.0"'),
    ]
    assert f"## Unreleased\n\n## 0.2.0 ({today})\n\n### Added\n\n- Dogs.\n\n## 0.1.0\n" in repository.read("CHANGELOG.md")
    assert (repository.git("status", "--porcelain"), repository.left()) == ("", [])

    assert repository.files() == list(MADE)
    constraints, wheel, sdist = (repository.folder / "dist" / name for name in MADE)
    assert constraints.read_bytes() == (ROOT / "constraints.txt").read_bytes()
    tracked = repository.git("ls-tree", "-r", "--name-only", "v0.2.0", "petstore", "sql").splitlines()
    inside = {re.sub("^sql/", "petstore/sql/", name) for name in tracked}
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == inside
    with tarfile.open(sdist) as archive:
        assert {f"petstore-0.2.0/{name}" for name in tracked} <= set(archive.getnames())

    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    for file, version in (old, "0.1.0"), (wheel, "0.2.0"):
        subprocess.run([*PIP, "--python", python, "install", "-q", "--no-deps", "--no-index", file], check=True)
        shown = subprocess.check_output([python, "-c", "import petstore; print(petstore.__version__)"], text=True, cwd=tmp_path)
        assert shown.strip() == version


def test_a_dry_run_shows_the_release_and_keeps_nothing(repository):
    before = repository.state()
    status, said, errors = repository.release("--dry-run", "1.0.0")
    assert status == 0, said + errors
    for text in ("chore(release): 1.0.0", "CHANGELOG.md", "would be made:", "dist/petstore-1.0.0-py3-none-any.whl", "tag v1.0.0"):
        assert text in said
    assert "git push" not in said
    assert repository.state() == before


def package_forgotten(repository: Repository) -> None:
    repository.replace("setup.cfg", "    petstore.web\n", "")
    repository.commit("a package that setup.cfg does not name")


def docs_out_of_date(repository: Repository) -> None:
    repository.replace("docs/openapi.json", '"version": "0.1.0"', '"version": "0.0.1"')
    repository.commit("a document of another version")


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (package_forgotten, r"the wheel and the commit differ in petstore/web/__init__\.py, "),
        (docs_out_of_date, r'docs/openapi\.json needs one "version": "0\.1\.0"'),
    ],
)
def test_a_release_that_fails_half_way_leaves_nothing(repository, arrange, reason):
    arrange(repository)
    before = repository.state()
    status, _, errors = repository.release("patch")
    assert status == 1
    assert re.search(f"scripts/release: {reason}", errors, re.DOTALL), errors
    assert repository.state() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_release_that_is_interrupted_leaves_nothing(repository, number):
    before = repository.state()
    process = repository.start("patch")
    eventually(repository.builds)
    os.killpg(process.pid, number)  # as a terminal does
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert repository.state() == before


def test_what_was_done_on_main_meanwhile_stays_and_no_release_is_made(repository):
    process = repository.start("patch")
    eventually(repository.builds)
    repository.git("commit", "--quiet", "--allow-empty", "-m", "other")
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert re.search("scripts/release: git merge .*fast-forward", errors, re.DOTALL), errors
    assert repository.git("log", "--format=%s", "main") == "other\nfirst"
    assert (repository.git("tag", "--list"), repository.files()) == ("", [])
