"""Requests of one process that wait for each other: Turns (one at a time for each key), Flights (one asks for all)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class TurnTaken(Exception):
    """Another request has this turn, and waiting for it is over, or not to be begun."""


class Turns:
    """One request at a time for each key. At most `most` wait in all, so that the others keep threads and connections."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting = 0
        self._taken: set[Hashable] = set()
        self._free = threading.Condition()

    @contextmanager
    def turn(self, key: Hashable, seconds: float) -> Iterator[None]:
        """Hold the key for the block; wait for it at most `seconds`, then raise TurnTaken."""
        with self._free:
            if key in self._taken:
                with self.waiting():  # the lock is one that its holder may take again
                    if not self._free.wait_for(lambda: key not in self._taken, seconds):
                        raise TurnTaken
            self._taken.add(key)
        try:
            yield
        finally:
            with self._free:
                self._taken.discard(key)
                self._free.notify_all()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Be one of those who wait, for what is not told here; TurnTaken when there are enough of them."""
        with self._free:
            if self._waiting >= self._most:
                raise TurnTaken
            self._waiting += 1
        try:
            yield
        finally:
            with self._free:
                self._waiting -= 1


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
