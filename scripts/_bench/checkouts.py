"""Which revisions are loaded: this checkout as it is now, and another one out of git."""

from __future__ import annotations

import configparser
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from petstore.cli.output import CommandError, report
from petstore.embedded.processes import run

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Checkout:
    """A revision in a folder, with the Python that has what it needs. present: it is the one that the bench is of."""

    name: str
    folder: Path
    python: str
    present: bool

    def takes(self, word: str) -> bool:
        """Whether to give it an option or setting. This checkout is given all: what it does not know, it refuses itself."""
        files = (self.folder / "petstore" / name for name in ("__main__.py", "settings.py"))
        return self.present or any(word in file.read_text("utf-8") for file in files)


def this_checkout() -> Checkout:
    """The files as they are now, committed or not."""
    status, described = run(["git", "-C", ROOT, "describe", "--always", "--dirty=, changed"])
    name = f"petstore ({described.strip()})" if status == 0 else "petstore"
    return Checkout(name, ROOT, sys.executable, present=True)


def revision(name: str, folder: Path) -> Checkout:
    """A revision of git in the folder; with a virtual environment of its own where it needs other packages."""
    file = folder.with_suffix(".tar")
    status, printed = run(["git", "-C", ROOT, "archive", "-o", file, name])
    if status:
        raise CommandError(f"git has no {name}: {printed.strip()}")
    with tarfile.open(file) as archive:
        archive.extractall(folder)  # noqa: S202 - the repository's own
    python = Path(sys.executable)
    if _requirements(folder) != _requirements(ROOT):
        report(f"{name} needs other packages: making a virtual environment for it")
        status, printed = run([python, folder / "scripts" / "_bootstrap.py", "embedded", "-c", ""])
        if status:
            raise CommandError(printed.strip())
        python = folder / ".venv" / "bin" / "python"
    return Checkout(name, folder, str(python), present=False)


def _requirements(folder: Path) -> str:
    """What setup.cfg asks for."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(folder / "setup.cfg")
    return setup["options"]["install_requires"]
