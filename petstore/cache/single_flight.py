"""Single-flight, against a cache stampede: of many threads that need the same result at the same time, one makes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from petstore.cache.waiting import about_to_wait

T = TypeVar("T")


class _Call(Generic[T]):
    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: T | None = None


class SingleFlight(Generic[T]):
    """Calls in progress, by key. The first caller makes the result, the others share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Hashable, _Call[T]] = {}

    def share(self, key: Hashable, make: Callable[[], T], seconds: float) -> T:
        """The result of `make`. While another thread makes it, wait for that; after `seconds`, or if it failed, make it here."""
        with self._lock:
            call = self._calls.get(key)
            first = call is None
            if call is None:
                call = self._calls[key] = _Call()
        if not first:
            about_to_wait()
            call.done.wait(seconds)
            return make() if call.result is None else call.result
        try:
            call.result = make()
            return call.result
        finally:
            with self._lock:
                del self._calls[key]
            call.done.set()
