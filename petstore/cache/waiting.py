"""Threads that may not wait: they answer what is at hand, and leave the rest to threads that may."""

from __future__ import annotations

import threading
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


def about_to_wait() -> None:
    """Call it before a wait of unknown length."""
    error = getattr(_this_thread, "error", None)
    if error is not None:
        raise error.with_traceback(None)
