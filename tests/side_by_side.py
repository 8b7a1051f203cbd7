"""Tests that run in several processes at once: what each process has for itself, and which tests have the machine for themselves."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# gw0, gw1, ... when there are several processes. Not for the programs that tests start: some of them are pytest.
WORKER = os.environ.pop("PYTEST_XDIST_WORKER", "")
_EARLY = "history", "contract", "sql", "cli", "faults"  # folders whose files take long: a long one must not be the last
_TOGETHER = "tests/sql/test_plans.py", "tests/db/test_migrations_in_use.py"  # the fixture big_shop
_FOLDER = pytest.StashKey[Path]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The first process makes a folder for all of them, before it starts another."""
    if _FOLDER not in node.config.stash:
        node.config.stash[_FOLDER] = Path(tempfile.mkdtemp(prefix="petstore-tests-"))
        node.config.stash[_FOLDER].chmod(0o755)
    node.workerinput["folder"] = str(node.config.stash[_FOLDER])


def pytest_configure(config: pytest.Config) -> None:
    """Each other process has a TMPDIR of its own: in it are the machine's turns at hashing, for which it would wait."""
    if WORKER:
        config.stash[_FOLDER] = Path(config.workerinput["folder"])  # type: ignore[attr-defined]
        own = config.stash[_FOLDER] / WORKER
        own.mkdir()
        own.chmod(0o1777)
        tempfile.tempdir = os.environ["TMPDIR"] = str(own)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The first process, when the others have ended."""
    if not WORKER and _FOLDER in config.stash:
        shutil.rmtree(config.stash[_FOLDER])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first; tests that need the machine for themselves last, when other processes are done."""
    items.sort(key=lambda item: (_is_alone(item), item.path.parent.name not in _EARLY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file stay in one process, and so do all files of _TOGETHER: what they share takes long to make."""
    return _Files(config, log) if config.getoption("dist") == "loadfile" else None


class _Files(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return _TOGETHER[0] if file in _TOGETHER else file


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """While a test marked `alone` runs, no other process runs one."""
    if not WORKER:
        return (yield)
    with _turn(item.config.stash[_FOLDER], alone=_is_alone(item)):
        return (yield)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@contextmanager
def _turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Many share the lock of the machine, or one has it. Who waits for it holds the gate: nobody comes before him."""
    with (folder / "gate.lock").open("w") as gate, (folder / "machine.lock").open("w") as machine:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield
