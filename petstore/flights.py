"""Requests of one process that wait for each other: of many who need the same, one asks for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.landed = threading.Event()
        self.result: T | None = None


class Flights(Generic[T]):
    """Many who need the same at the same time: the first one makes it, the others take what it made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[T]] = {}

    def share(self, key: Hashable, make: Callable[[], T], seconds: float) -> T:
        """What `make` gives. Who comes while it is being made waits at most `seconds`, then makes it too, as after a failure."""
        with self._lock:
            flight = self._flights.get(key)
            first = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if not first:
            flight.landed.wait(seconds)
            return make() if flight.result is None else flight.result
        try:
            flight.result = make()
            return flight.result
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
