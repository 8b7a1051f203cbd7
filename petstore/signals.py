"""What ends a command early: Ctrl-C, SIGTERM and SIGHUP. They are taken between two steps, never in the middle of one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_held = 0
_waiting: int | None = None


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end. status: what a shell says of a process that it ended."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def install() -> None:
    """From now on each of the signals raises Interrupted, once: what is done after it is cleaning up, and must be whole."""
    _handle(_interrupt)


def call(function: Callable[[], object], at_hangup: Callable[[], object] | None = None) -> None:
    """From now on each of the signals calls the function and interrupts nothing; SIGHUP another one, where it is given."""
    _handle(lambda number, _: (at_hangup or function)() if number == signal.SIGHUP else function())


def has_terminal() -> bool:
    """Whether there is a terminal that may end, and take us with it (SIGHUP)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ignore() -> None:
    """From now on the signals do nothing."""
    _handle(signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """What is done in the block is done whole: a signal that comes in it is taken after it."""
    global _held, _waiting
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if not _held and _waiting is not None:
            number, _waiting = _waiting, None
            _raise(number)


def _handle(handler: Any) -> None:
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1)
            signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> None:
    global _waiting
    if _held:
        _waiting = number
    else:
        _raise(number)


def _raise(number: int) -> None:
    ignore()
    raise Interrupted(number)
