"""Handling of SIGINT (Ctrl-C), SIGTERM and SIGHUP. A signal never interrupts a step that must not be left half done."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_deferred_blocks = 0  # that are being run, one inside the other
_pending: int | None = None  # the signal that came in one of them


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end. status: the exit status, 128 + the signal's number as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def raise_interrupted() -> None:
    """From now on the first of the signals raises Interrupted. Later ones are ignored, so that cleaning up is not interrupted."""
    _handle(_interrupt)


def call(
    handler: Callable[[], object],
    on_hangup: Callable[[], object] | None = None,
    on_interrupt: Callable[[], object] | None = None,
) -> None:
    """From now on each of the signals calls `handler`, and nothing is interrupted.

    on_hangup: called for SIGHUP instead. on_interrupt: called for SIGINT instead.
    """
    others = {signal.SIGHUP: on_hangup, signal.SIGINT: on_interrupt}
    _handle(lambda number, _: (others.get(number) or handler)())


def has_terminal() -> bool:
    """Whether the process has a controlling terminal. When it closes, the kernel sends SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ignore() -> None:
    """From now on the signals are ignored."""
    _handle(signal.SIG_IGN)


@contextmanager
def deferred() -> Iterator[None]:
    """Run the block to its end: a signal that arrives meanwhile is handled after it."""
    global _deferred_blocks, _pending
    _deferred_blocks += 1
    try:
        yield
    finally:
        _deferred_blocks -= 1
        if not _deferred_blocks and _pending is not None:
            number, _pending = _pending, None
            _raise(number)


def _handle(handler: Any) -> None:
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) sets it
            signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    global _pending
    if _deferred_blocks:
        _pending = number
    else:
        _raise(number)


def _raise(number: int) -> None:
    ignore()
    raise Interrupted(number)
