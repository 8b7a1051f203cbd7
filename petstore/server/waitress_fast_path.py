"""What waitress's I/O thread answers itself, as it is in memory; and how it asks Redis if that is still true, once for many."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from time import monotonic
from typing import Any, TypeAlias

from petstore.cache.redis_cache import Cache, by_prefix
from petstore.cache.redis_connection import SECONDS, CacheDown, RedisConnection
from petstore.server.waitress_channel import Channel
from petstore.web.response_cache import ResponseCache, may_hit, note_generations

_PATIENCE = 0.02  # seconds that the I/O thread may wait for something else while Redis is asked
_Generations: TypeAlias = Mapping[str, "str | None"]
logger = logging.getLogger(__name__)


class FastPath:
    """Channels whose next request may need no thread. poll_map: the files of waitress's poll; otherwise: takes the other ones."""

    def __init__(self, hits: ResponseCache | None, poll_map: dict[int, Any], otherwise: Callable[[Channel], None]) -> None:
        self._hits, self._otherwise = hits, otherwise
        self._found: deque[Channel] = deque()
        self._checks = _Checks(hits.cache, poll_map, self._checked) if hits else None

    @property
    def patience(self) -> float:
        """Seconds that the I/O thread may wait before its next turn."""
        return 0 if self._found else _PATIENCE if self._checks and self._checks.busy else math.inf

    def take(self, channel: Channel) -> bool:
        """Whether it is seen to here: its answer is in memory, or Redis is asked whether it still may be. In the I/O thread."""
        environ = channel.next_environ()
        if self._hits is None or self._checks is None or environ is None:
            return False
        if self._hits.cache.shared is not None:
            return may_hit(environ) and self._find(self._hits, channel, environ)
        kept = self._hits.look(environ).kept
        if kept:
            self._checks.add(channel, [one.prefix for one in kept])
        return bool(kept)

    def turn(self) -> None:
        """Once in each turn of the loop: ask Redis, and answer what was found (`take` cannot: its caller holds the lock)."""
        if self._checks:
            self._checks.turn()
        for _ in range(len(self._found)):
            channel = self._found.popleft()
            try:
                channel.service()
            except Exception:  # as waitress's threads do
                logger.exception("an answer could not be given")
                channel.hang_up()

    def _checked(self, channel: Channel, generations: _Generations | None) -> None:
        environ = channel.next_environ()
        if self._hits and environ is not None and generations is not None:
            note_generations(environ, generations)
            if self._find(self._hits, channel, environ):
                return
        self._otherwise(channel)

    def _find(self, hits: ResponseCache, channel: Channel, environ: dict[str, Any]) -> bool:
        if hits.find(environ) is None:
            return False
        self._found.append(channel)
        return True


class _Checks:
    """Channels that wait for generations. A file for waitress's poll: readable when Redis has answered.

    done: takes a channel and the generations that are current; None when this thread cannot learn them: others may.
    """

    def __init__(
        self, cache: Cache, poll_map: dict[int, Any], done: Callable[[Channel, Mapping[str, str | None] | None], None]
    ) -> None:
        self._cache, self._map, self._done = cache, poll_map, done
        self._waiting: list[tuple[Channel, Collection[str]]] = []
        self._asked: list[tuple[Channel, Collection[str]]] = []
        self._prefixes: list[str] = []
        self._link: RedisConnection | None = None
        self._open, self._overdue = ExitStack(), 0.0

    def add(self, channel: Channel, prefixes: Collection[str]) -> None:
        """Let a channel wait for the generations of these prefixes."""
        self._waiting.append((channel, prefixes))

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
        with ExitStack() as stack:
            try:
                link = stack.enter_context(self._cache.reach(connect=False))  # to connect may take long: a thread does it
                link.ask_generations(prefixes)
            except CacheDown:
                self._tell(None)
                return
            self._map[link.fileno()] = self
            self._open, self._link = stack.pop_all(), link
            self._prefixes, self._overdue = prefixes, monotonic() + SECONDS

    def _take(self) -> None:
        link, self._link = self._link, None
        if link is None:  # an answer and the end may come together
            return
        del self._map[link.fileno()]
        found = None
        try:
            with self._open:
                if monotonic() > self._overdue:
                    raise TimeoutError("Redis does not answer")
                found = by_prefix(self._prefixes, link.take_generations())
        except CacheDown:
            pass
        except Exception:
            logger.exception("what Redis says of generations cannot be read")
        finally:
            self._tell(found)

    def _tell(self, found: _Generations | None) -> None:
        asked, self._asked = self._asked, []
        for channel, _ in asked:
            self._done(channel, found)

    # What wasyncore asks of a file.

    accepting = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        self._take()

    handle_close = handle_expt_event = handle_error = handle_read_event
