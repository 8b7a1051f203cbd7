"""Threads that may not wait: they answer what is at hand, and leave the rest to threads that may."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_this_thread = threading.local()


class WouldWait(BaseException):
    """The request has to wait, for the database or for another request: a thread serves it that may."""


@contextmanager
def may_not_wait(error: BaseException) -> Iterator[None]:
    """In the block, `about_to_wait` raises `error` in this thread."""
    _this_thread.error = error
    try:
        yield
    finally:
        _this_thread.error = None


class _Resting:
    """How many threads of the process sleep on purpose."""

    def __init__(self) -> None:
        self.threads = 0
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        """Sleep, so that a server does not take it for a wait of its database."""
        with self._lock:
            self.threads += 1
        try:
            time.sleep(seconds)
        finally:
            with self._lock:
                self.threads -= 1


resting = _Resting()


def about_to_wait() -> None:
    """Call it before a wait of unknown length."""
    error = getattr(_this_thread, "error", None)
    if error is not None:
        raise error.with_traceback(None)
