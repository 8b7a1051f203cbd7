"""The limit of concurrent password hashing: all processes of the machine together use half of its cores.

A slot is a lock (flock(2)) on one of a few files in the folder for temporary files. The kernel frees it however a process ends.
"""

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

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2  # that this process may use
# A hash takes a core for tens of milliseconds: on more than half of them it would starve all other requests.
MAX_CONCURRENT = max(1, CORES // 2)
_POLL_SECONDS = 0.002  # between two attempts to get a slot that another process has
_PAUSE_SECONDS = 0.003  # after giving a slot back: longer than _POLL_SECONDS, so that other processes get their turn
_pause_until = 0.0  # time.monotonic()
_slots_here = threading.BoundedSemaphore(MAX_CONCURRENT)  # of this process, so that its threads do not poll
logger = logging.getLogger(__name__)


@contextmanager
def hashing_slot(wait_until: float) -> Iterator[None]:
    """Hold a slot for the block. Unavailable if none is free by `wait_until` (time.monotonic())."""
    global _pause_until
    if not _slots_here.acquire(timeout=max(0.0, wait_until - time.monotonic())):
        raise _too_many()
    try:
        file = _lock_slot(wait_until)
        try:
            yield
        finally:
            if file is not None:
                os.close(file)  # which releases the lock
                _pause_until = time.monotonic() + _PAUSE_SECONDS
    finally:
        _slots_here.release()


def _too_many() -> errors.Unavailable:
    return errors.Unavailable("Too many logins at the moment; try again.")


def _lock_slot(wait_until: float) -> int | None:
    """The open file of a slot, locked; None if no such file can be used: the limit of this process still holds."""
    time.sleep(max(0.0, _pause_until - time.monotonic()))
    while True:
        usable = False
        for number in range(MAX_CONCURRENT):
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
    """The file of a slot, if only this user can open it: others could keep it locked for ever."""
    path = _slot_path(number)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        status = os.fstat(file)
        if status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return file
        os.close(file)
        _warn_once(f"{path} belongs to another user, or others may open it")
    except OSError as error:
        _warn_once(str(error))
    return None


def _slot_path(number: int) -> Path:
    return Path(tempfile.gettempdir(), f"petstore-hashing-{os.getuid()}.{number}")


@functools.cache
def _warn_once(fault: str) -> None:
    logger.warning("%s: concurrent hashing is limited per process only, not for the whole machine", fault)
