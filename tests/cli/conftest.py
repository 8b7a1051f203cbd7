"""Shops to start and stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.cli.shops import Shop, processes


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


@pytest.fixture(scope="session")
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
