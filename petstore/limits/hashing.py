"""Turns at hashing: of all processes on the machine, as many at once as half of its cores."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from petstore import errors

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2  # that we may use
# A hash takes tens of milliseconds of a core: more at once than half of the cores would starve every other request.
AT_ONCE = max(1, CORES // 2)
_POLL_SECONDS = 0.002  # between two looks for a turn that another process has
_PAUSE_SECONDS = 0.003  # between two turns of one process, for those of others to see that one is free
_free_at = 0.0  # time.monotonic() from which this process may look for its next turn
_here = threading.BoundedSemaphore(AT_ONCE)
logger = logging.getLogger(__name__)


@contextmanager
def hashing_slot(wait_until: float) -> Iterator[None]:
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
        usable = False
        for number in range(AT_ONCE):
            file = _open_slot(number)
            if file is None:
                continue
            usable = True
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except OSError:
                os.close(file)
        if not usable:
            return None
        if time.monotonic() >= wait_until:
            raise _too_many()
        time.sleep(_POLL_SECONDS)


def _open_slot(number: int) -> int | None:
    """The file of one turn, if it is ours alone: another's could be locked for ever."""
    path = _slot(number)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        status = os.fstat(file)
        if status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return file
        os.close(file)
        _warn_once(f"{path} belongs to somebody else, or others may use it")
    except OSError as error:
        _warn_once(str(error))
    return None


def _slot(number: int) -> Path:
    return Path(tempfile.gettempdir(), f"petstore-hashing-{os.getuid()}.{number}")


@functools.cache
def _warn_once(fault: str) -> None:
    logger.warning("%s: hashing is bounded in each process only", fault)
