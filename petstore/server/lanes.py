"""Lanes: which threads serve a request, so that those that wait for the database do not keep all others waiting.

    quick     needs no database
    looks     the first look of a cached read into the cache; and what is refused
    reads     GET and HEAD, which wait for no row lock
    writes    everything else
    hashing   hashes a password
    exports   makes an export, of one account after the other; the request has been in the lane of reads before, to get its turn
    health    GET /readyz

Reads or writes stand still when none of their threads becomes free for a second: the database is frozen, rows are locked, the
pool is used up. Then whatever waits for them is refused (503), and so is what comes, at once, until one request is served soon.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

from waitress.task import ThreadedTaskDispatcher

from petstore import errors
from petstore.app import cached_paths, paths_of, sections_with_database
from petstore.cache.waiting import WouldWait, may_not_wait, resting
from petstore.limits.exports import MAX_MAKING
from petstore.server.waitress_channel import Channel
from petstore.web.middleware import WSGI, RequestMiddleware
from petstore.web.plugin import TURN
from petstore.web.response_cache import is_cacheable

QUICK_THREADS = 2
STILL_SECONDS = 1.0
logger = logging.getLogger(__name__)
_BUSY = "The service waits for its database and can take no more; try again."


class _Queue(deque["_LaneTask"]):
    """A queue that knows when it last moved."""

    moved_at = 0.0  # time.monotonic(): a task was taken, or came when none was waiting

    def append(self, task: _LaneTask) -> None:
        if not self:
            self.moved_at = time.monotonic()
        super().append(task)

    def popleft(self) -> _LaneTask:
        self.moved_at = time.monotonic()
        return super().popleft()


class Lane:
    """Threads, and the channels whose next request waits for one of them. name: for the log."""

    def __init__(self, name: str, threads: int) -> None:
        self.stands_still = False
        self.dispatcher = ThreadedTaskDispatcher()
        self._name, self._tries = name, max(1, threads // 2)
        self._queue = self.dispatcher.queue = _Queue()
        self.dispatcher.set_thread_count(threads)

    def add(self, channel: Channel) -> bool:
        """Serve a channel's next request; False if the lane stands still: then a half of its threads tries whether it does."""
        if self.stands_still and self.dispatcher.active_count + len(self._queue) >= self._tries:
            return False
        self.dispatcher.add_task(_LaneTask(self, channel))
        return True

    def served(self, seconds: float) -> None:
        """A request took so long."""
        if self.stands_still and seconds < STILL_SECONDS:
            self.stands_still = False

    def take_back(self) -> list[Channel]:
        """The channels that wait, if the lane stands still: they wait no longer."""
        with self.dispatcher.lock:
            if not self._queue or resting.threads or time.monotonic() < self._queue.moved_at + STILL_SECONDS:
                return []
            if not self.stands_still:
                logger.warning("%s stand still: no thread has become free for a second; further ones are refused", self._name)
            self.stands_still = True
            return [self._queue.popleft().channel for _ in range(len(self._queue))]


class _LaneTask:
    """Serves a channel's next request in a lane."""

    def __init__(self, lane: Lane, channel: Channel) -> None:
        self._lane, self.channel = lane, channel

    def service(self) -> None:
        started = time.monotonic()
        try:
            self.channel.service()
        finally:
            self._lane.served(time.monotonic() - started)

    def cancel(self) -> None:
        self.channel.cancel()


class Lanes:
    """All lanes of a server.

    quick, hashing: the dispatchers of two. threads: of each of the others. app: is told when reads or writes stand still, and has
    the cache to look into.
    """

    def __init__(self, quick: ThreadedTaskDispatcher, hashing: ThreadedTaskDispatcher, threads: int, app: WSGI) -> None:
        self._quick, self._hashing = quick, hashing
        self._app = app if isinstance(app, RequestMiddleware) else None
        self._reads, self._writes, self._health = Lane("reads", threads), Lane("writes", threads), Lane("health", 1)
        self._looks = ThreadedTaskDispatcher()
        self._looks.set_thread_count(QUICK_THREADS)
        self._exports = ThreadedTaskDispatcher()
        self._exports.set_thread_count(MAX_MAKING)
        self._hashing_paths, self._cached_paths = paths_of("hashes"), cached_paths()
        self._with_database = sections_with_database()

    @property
    def dispatchers(self) -> list[ThreadedTaskDispatcher]:
        lanes = self._reads, self._writes, self._health
        return [self._quick, self._looks, self._hashing, self._exports, *(lane.dispatcher for lane in lanes)]

    def add(self, channel: Channel) -> None:
        """Have a channel's next request served."""
        request = channel.requests[0]
        section = request.path.split("/", 2)[1] if request.path.startswith("/") else ""
        if request.error or request.refused_at_head or request.command == "OPTIONS" or section not in self._with_database:
            self._quick.add_task(channel)
        elif self._may_be_cached(channel):
            self._looks.add_task(_QuickTask(channel, WouldWait()))
        else:
            self.add_waiting(channel)

    def add_waiting(self, channel: Channel) -> None:
        """Have it served by a thread that may wait."""
        request = channel.requests[0]
        if request.command == "POST" and request.path in self._hashing_paths:
            self._hashing.add_task(channel)
        elif TURN in (channel.next_environ() or ()):
            self._exports.add_task(channel)
        elif not self._lane_of(request).add(channel):
            self._refuse(channel)

    def _lane_of(self, request: Any) -> Lane:
        if request.path == "/readyz":
            return self._health
        return self._reads if request.command in ("GET", "HEAD") else self._writes

    def refuse_overdue(self) -> None:
        """Once in each iteration of the loop: refuse whatever waits in a lane that stands still."""
        for lane in (self._reads, self._writes, self._health):
            overdue = lane.take_back()
            if overdue and self._app:
                self._app.on_still()
            for channel in overdue:
                self._refuse(channel)

    def _may_be_cached(self, channel: Channel) -> bool:
        cache, needs_login = self._app.response_cache if self._app else None, self._cached_paths.get(channel.requests[0].path)
        if needs_login is None or cache is None or not cache.cache.up:
            return False
        environ = channel.next_environ()
        if environ is None or not is_cacheable(environ):
            return False
        # A login that has to be looked up in the database makes the look useless.
        return not needs_login or cache.lookup(environ).caller is not None

    def _refuse(self, channel: Channel) -> None:
        self._looks.add_task(_QuickTask(channel, errors.Unavailable(_BUSY)))


class _QuickTask:
    """Serves a channel's next request without waiting. error: what a wait raises instead."""

    def __init__(self, channel: Channel, error: BaseException) -> None:
        self._channel, self._error = channel, error

    def service(self) -> None:
        with may_not_wait(self._error):
            self._channel.service()

    def cancel(self) -> None:
        self._channel.cancel()
