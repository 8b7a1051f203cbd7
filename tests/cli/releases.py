"""The release before this one, from git, and the commands of either release."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.commands import environment

ROOT = Path(__file__).parents[2]
BEFORE = "c8d30a7a"  # the last commit of the release before
ITS_OWN = "swagger-ui-bundle-v2==5.31.0"  # the package that it needs and this one does not
INSTALLED = "petstore", "sql", "swagger_ui_bundle"  # what an installation consists of, as far as a release has it


def release_before(folder: Path) -> Path:
    """The checkout of the release before, made in the folder. It runs in our .venv, with ITS_OWN beside it."""
    command = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "archive", BEFORE]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the release before is not here: {getattr(error, 'stderr', b'').decode().strip() or error}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    subprocess.run([*pip, "--no-deps", "--target", str(folder), ITS_OWN], check=True)
    return folder


def install(release: Path, place: Path) -> Path:
    """Put the files of a release in place of those of another, as pip does: while programs run that were started from them."""
    for name in INSTALLED:
        if not (release / name).exists():
            continue
        if (place / name).exists():
            (place / name).rename(place / f"{name}.old")
        shutil.copytree(release / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.rmtree(place / f"{name}.old", ignore_errors=True)
    return place


def run(release: Path, environ: dict[str, str], *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """A petstore command of a release; it must do what it is asked."""
    command = [sys.executable, "-m", "petstore", *arguments]
    done = subprocess.run(command, cwd=release, env=environment(**environ), input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done
