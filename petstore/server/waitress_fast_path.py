"""The fast path: waitress's I/O thread answers cached reads from memory itself, so they need no worker thread.

A request is answered here if the response cache has it (petstore.web.response_cache), in gzip if that is asked for, and its
generations are current. With
PETSTORE_CACHE_SCOPE=machine the generations are in shared memory. Otherwise GenerationCheck asks Redis without blocking: all
requests that arrived since the last question share the next one. Everything else goes to a worker thread.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from time import monotonic
from typing import Any, TypeAlias

from petstore.cache.redis_cache import Cache, decode_generations
from petstore.cache.redis_connection import TIMEOUT_SECONDS, CacheDown, RedisConnection
from petstore.server.waitress_channel import Channel
from petstore.web.response_cache import ResponseCache, is_cacheable, set_generations

_CHECK_POLL_SECONDS = 0.02  # the longest poll while Redis is asked, so that its time-out is noticed
_Generations: TypeAlias = Mapping[str, "str | None"]
logger = logging.getLogger(__name__)


class FastPath:
    """Answers cached reads in the I/O thread, in which all methods run.

    response_cache: None switches the fast path off. poll_map: what waitress's loop polls, by file descriptor. to_thread: hands a
    channel's next request to a worker thread.
    """

    def __init__(
        self, response_cache: ResponseCache | None, poll_map: dict[int, Any], to_thread: Callable[[Channel], None]
    ) -> None:
        self._response_cache, self._to_thread = response_cache, to_thread
        self._ready: deque[Channel] = deque()  # channels whose response is in memory and current
        self._check = GenerationCheck(response_cache.cache, poll_map, self._checked) if response_cache else None

    @property
    def poll_seconds(self) -> float:
        """The longest that the loop may poll before `run`."""
        return 0 if self._ready else _CHECK_POLL_SECONDS if self._check and self._check.pending else math.inf

    def take(self, channel: Channel) -> bool:
        """Take over a channel's next request, if memory has its response; False: it needs a worker thread.

        The caller holds the channel's lock, so it is answered by the next `run`.
        """
        environ = channel.next_environ()
        if self._response_cache is None or self._check is None or environ is None:
            return False
        if self._response_cache.cache.shared is not None:
            return is_cacheable(environ) and self._add_if_current(self._response_cache, channel, environ)
        entries = self._response_cache.lookup(environ).entries
        if entries:
            self._check.add(channel, [entry.prefix for entry in entries])
        return bool(entries)

    def run(self) -> None:
        """Once in each iteration of the loop: ask Redis for generations, answer the requests that are ready."""
        if self._check:
            self._check.run()
        for _ in range(len(self._ready)):
            channel = self._ready.popleft()
            try:
                channel.service()
            except Exception:  # as waitress's worker threads do
                logger.exception("the response could not be sent, its connection is closed")
                channel.close_now()

    def _checked(self, channel: Channel, generations: _Generations | None) -> None:
        environ = channel.next_environ()
        if self._response_cache and environ is not None and generations is not None:
            set_generations(environ, generations)
            if self._add_if_current(self._response_cache, channel, environ):
                return
        self._to_thread(channel)

    def _add_if_current(self, response_cache: ResponseCache, channel: Channel, environ: dict[str, Any]) -> bool:
        if not response_cache.is_ready(environ):
            return False
        self._ready.append(channel)
        return True


class GenerationCheck:
    """Asks Redis for the generations that channels wait for: one question at a time, for all that wait.

    It is an object for waitress's loop to poll: readable when the reply has arrived. done: gets each channel with the current
    generations, or with None when Redis cannot be asked without blocking.
    """

    def __init__(
        self, cache: Cache, poll_map: dict[int, Any], done: Callable[[Channel, Mapping[str, str | None] | None], None]
    ) -> None:
        self._cache, self._poll_map, self._done = cache, poll_map, done
        self._waiting: list[tuple[Channel, Collection[str]]] = []  # for the next question
        self._asked: list[tuple[Channel, Collection[str]]] = []  # for the reply to the present one
        self._prefixes: list[str] = []  # of the present question
        self._connection: RedisConnection | None = None
        self._connection_block, self._deadline = ExitStack(), 0.0

    def add(self, channel: Channel, prefixes: Collection[str]) -> None:
        """Let a channel wait for the generations of these prefixes."""
        self._waiting.append((channel, prefixes))

    def run(self) -> None:
        """Once in each iteration of the loop: end a question that timed out, ask the next one."""
        if self._connection is not None and monotonic() > self._deadline:
            self._receive()
        if self._connection is None and self._waiting:
            self._asked, self._waiting = self._waiting, []
            self._send(list({prefix for _, prefixes in self._asked for prefix in prefixes}))

    @property
    def pending(self) -> bool:
        """Whether any channel waits."""
        return bool(self._asked or self._waiting)

    def _send(self, prefixes: list[str]) -> None:
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._cache.connection(only_open=True))  # connecting would block
                connection.send_generations(prefixes)
            except CacheDown:
                self._finish(None)
                return
            self._poll_map[connection.fileno()] = self
            self._connection_block, self._connection = stack.pop_all(), connection
            self._prefixes, self._deadline = prefixes, monotonic() + TIMEOUT_SECONDS

    def _receive(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:  # handled already: poll may report a reply and a closed connection together
            return
        del self._poll_map[connection.fileno()]
        generations = None
        try:
            with self._connection_block:
                if monotonic() > self._deadline:
                    raise TimeoutError("Redis does not answer")
                generations = decode_generations(self._prefixes, connection.receive_generations())
        except CacheDown:
            pass
        except Exception:
            logger.exception("the reply of Redis could not be read, worker threads answer instead")
        finally:
            self._finish(generations)

    def _finish(self, generations: _Generations | None) -> None:
        asked, self._asked = self._asked, []
        for channel, _ in asked:
            self._done(channel, generations)

    # The interface of wasyncore.dispatcher, as far as the loop uses it.

    accepting = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        self._receive()

    handle_close = handle_expt_event = handle_error = handle_read_event
