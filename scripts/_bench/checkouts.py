"""The revisions that are loaded: this checkout as it is, and another one from git."""

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
    """A revision in a folder. python: an interpreter with its packages; present: it is the checkout of this bench."""

    name: str
    folder: Path
    python: str
    present: bool

    def takes(self, word: str) -> bool:
        """Whether it knows an option or setting. This checkout gets all of them, and refuses unknown ones itself."""
        files = (self.folder / "petstore" / name for name in ("__main__.py", "settings.py"))
        return self.present or any(word in file.read_text("utf-8") for file in files)


def this_checkout() -> Checkout:
    """This checkout, with changes that are not committed."""
    status, described = run(["git", "-C", ROOT, "describe", "--always", "--dirty=, changed"])
    name = f"petstore ({described.strip()})" if status == 0 else "petstore"
    return Checkout(name, ROOT, sys.executable, present=True)


def revision(name: str, folder: Path) -> Checkout:
    """Extract a git revision into the folder. If its packages differ, it gets its own virtual environment."""
    file = folder.with_suffix(".tar")
    status, printed = run(["git", "-C", ROOT, "archive", "-o", file, name])
    if status:
        raise CommandError(f"git does not know {name}: {printed.strip()}")
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
    """The install_requires of setup.cfg."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(folder / "setup.cfg")
    return setup["options"]["install_requires"]
