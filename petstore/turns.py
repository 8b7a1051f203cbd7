"""Turns at hashing: of all processes on the machine, as many at once as half of its cores."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from petstore import errors

# A hash takes tens of milliseconds of a core: more at once than half of the cores would starve every other request.
AT_ONCE = max(1, (os.cpu_count() or 2) // 2)
_POLL_SECONDS = 0.002  # between two looks for a turn that another process has
_PAUSE_SECONDS = 0.003  # between two turns of one process, for those of others to see that one is free

_free_at = 0.0  # time.monotonic() from which this process may look for its next turn

_here = threading.BoundedSemaphore(AT_ONCE)
logger = logging.getLogger(__name__)


@contextmanager
def turn(wait_until: float) -> Iterator[None]:
    """A turn for the block; raise Unavailable if none comes by time.monotonic() `wait_until`."""
    global _free_at
    if not _here.acquire(timeout=max(0.0, wait_until - time.monotonic())):
        raise _too_many()
    try:
        file = _take_slot(wait_until)
        try:
            yield
        finally:
            if file is not None:
                os.close(file)  # which ends the lock; so does the end of the process, however it ends
                _free_at = time.monotonic() + _PAUSE_SECONDS
    finally:
        _here.release()


def _too_many() -> errors.Unavailable:
    return errors.Unavailable("Too many logins at the moment; try again.")


def _take_slot(wait_until: float) -> int | None:
    """An open file whose lock (flock(2)) is one of the machine's turns; None where such files cannot be used."""
    time.sleep(max(0.0, _free_at - time.monotonic()))
    while True:
        for number in range(AT_ONCE):
            try:
                file = os.open(_slot(number), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError as error:
                logger.warning("%s: hashing is bounded in this process only", error)
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except OSError:
                os.close(file)
        if time.monotonic() >= wait_until:
            raise _too_many()
        time.sleep(_POLL_SECONDS)


def _slot(number: int) -> Path:
    return Path(tempfile.gettempdir(), f"petstore-hashing-{os.getuid()}.{number}")
