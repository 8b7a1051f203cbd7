"""The service's I/O thread asks Redis whether what it keeps is still true: once for all requests that have come before."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from time import monotonic
from typing import Any, Generic, TypeVar

from petstore.cache import Cache, CacheDown, by_prefix
from petstore.redis_link import SECONDS, Link

T = TypeVar("T")


class Checks(Generic[T]):
    """Requests that wait for generations. A file for waitress's poll: readable when Redis has answered.

    done: takes a request and the generations that are current, or None for each when the cache is down.
    """

    def __init__(self, cache: Cache, poll_map: dict[int, Any], done: Callable[[T, dict[str, str | None]], None]) -> None:
        self._cache, self._map, self._done = cache, poll_map, done
        self._waiting: list[tuple[T, Collection[str]]] = []
        self._asked: list[tuple[T, Collection[str]]] = []
        self._prefixes: list[str] = []
        self._link: Link | None = None
        self._open, self._overdue = ExitStack(), 0.0

    def add(self, request: T, prefixes: Collection[str]) -> None:
        """Let a request wait for the generations of these prefixes."""
        self._waiting.append((request, prefixes))

    def turn(self) -> None:
        """Once in each turn of the loop: ask, if there is nothing asked, for all who wait."""
        if self._link is not None and monotonic() > self._overdue:
            self._take()
        if self._link is None and self._waiting:
            self._asked, self._waiting = self._waiting, []
            self._ask(list({prefix for _, prefixes in self._asked for prefix in prefixes}))

    @property
    def busy(self) -> bool:
        return bool(self._asked or self._waiting)

    def _ask(self, prefixes: list[str]) -> None:
        try:
            with ExitStack() as stack:
                link = stack.enter_context(self._cache.reach())
                link.ask_generations(prefixes)
                self._map[link.fileno()] = self
                self._open, self._link = stack.pop_all(), link
        except CacheDown:
            self._tell(dict.fromkeys(prefixes))
        else:
            self._prefixes, self._overdue = prefixes, monotonic() + SECONDS

    def _take(self) -> None:
        link, self._link = self._link, None
        if link is None:  # an answer and the end may come together
            return
        del self._map[link.fileno()]
        try:
            with self._open:
                if monotonic() > self._overdue:
                    raise TimeoutError("Redis does not answer")
                found = by_prefix(self._prefixes, link.take_generations())
        except CacheDown:
            found = dict.fromkeys(self._prefixes)
        self._tell(found)

    def _tell(self, found: dict[str, str | None]) -> None:
        asked, self._asked = self._asked, []
        for request, _ in asked:
            self._done(request, found)

    # What wasyncore asks of a file.

    accepting = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        self._take()

    handle_close = handle_expt_event = handle_error = handle_read_event
