"""Requests of one process that wait for each other: of many who need the same, one asks for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Call(Generic[T]):
    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: T | None = None


class SingleFlight(Generic[T]):
    """Many who need the same at the same time: the first one makes it, the others take what it made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Hashable, _Call[T]] = {}

    def share(self, key: Hashable, make: Callable[[], T], seconds: float) -> T:
        """What `make` gives. Who comes while it is being made waits at most `seconds`, then makes it too, as after a failure."""
        with self._lock:
            call = self._calls.get(key)
            first = call is None
            if call is None:
                call = self._calls[key] = _Call()
        if not first:
            call.done.wait(seconds)
            return make() if call.result is None else call.result
        try:
            call.result = make()
            return call.result
        finally:
            with self._lock:
                del self._calls[key]
            call.done.set()
