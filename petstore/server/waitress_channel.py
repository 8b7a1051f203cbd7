"""One HTTP connection in waitress: the stage it is in, backpressure, lingering close, what it holds."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from waitress.channel import HTTPChannel

from petstore.cache.waiting import WouldWait
from petstore.server.bodies import LARGE
from petstore.server.connections import networks_of
from petstore.server.limits import NEW_CONNECTION_SECONDS
from petstore.server.progress import FLUSH_BYTES, PROGRESS_BYTES, unacknowledged
from petstore.server.waitress_parser import Busy, Parser
from petstore.server.waitress_task import ErrorTask, RequestTask
from petstore.web.plugin import TURN, end_turn

OUTPUT_HIGH_WATER = 65_536  # bytes of answers that a client has not read; its next pipelined request waits then (backpressure)
# What a connection waits for: its client to send the rest of a request ("reading") or to read answers ("writing"), an answer of
# the application ("serving"), or the next request ("idle").
Stage: TypeAlias = Literal["reading", "writing", "serving", "idle"]


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection, with the stage it is in, backpressure and lingering close."""

    error_task_class = ErrorTask
    request: Any  # that is being received
    answered = 0  # requests
    answered_early = False  # a request was answered before its body was read
    lingering = False  # lingering close: the last answer is sent, further input is thrown away
    will_close = False
    holds_body = False  # a large one, or a large part of one: see Bodies
    paused = False  # backpressure: the next request waits until the client has read the answers before it
    _last_seen: tuple[Stage, int] = ("reading", 0)  # stage and `answered`
    _sent = 0  # bytes
    _moved_before = 0  # bytes that had moved in this stage at _since
    _budget = math.inf  # bytes that may be sent now

    def __init__(self, *arguments: Any, parser_class: Callable[[Any], Parser], **options: Any) -> None:
        self.parser_class = parser_class
        super().__init__(*arguments, **options)
        self._since = self.connected_at = time.monotonic()
        if not self.server.connections.add(self):
            self.close_now()

    def del_channel(self, map: dict[int, Any] | None = None) -> None:
        super().del_channel(map)
        self.server.connections.remove(self)
        if self.holds_body:
            self.server.bodies.update(self)

    @property
    def networks(self) -> tuple[str, ...]:
        """Those of the client of the request that is being answered or received, the narrowest first."""
        request = self.requests[0] if self.requests else self.request
        forwarded = request.headers.get("X_FORWARDED_FOR") if request else None
        return networks_of(self.addr[0], self.server.trusted_proxies, forwarded)

    @property
    def is_silent(self) -> bool:
        """Whether nothing is being answered, and nothing has arrived that was not read yet."""
        return not self.requests and not self.total_outbufs_len and not self._has_unread_input()

    @property
    def body_size(self) -> int:
        """Bytes of request bodies that it holds."""
        requests = [*self.requests, self.request] if self.connected else []
        return sum(request.body_size for request in requests if request is not None)

    @property
    def is_receiving_body(self) -> bool:
        """Whether a part of a body has arrived."""
        return self.request is not None and self.request.body_size > 0

    def refuse_body(self) -> None:
        """Refuse the request whose body is being received: there is no room for it."""
        with self.requests_lock:
            request, self.request, self.sent_continue = self.request, None, False
            request.refuse(Busy("The service holds as much of request bodies as it can; try again"))
            self.requests.append(request)
            if len(self.requests) == 1:
                self.server.add_task(self)
        self.server.bodies.update(self)

    def task_class(self, _: HTTPChannel, request: Parser) -> RequestTask:
        if request.task is None:
            request.task = RequestTask(self, request)
        task: RequestTask = request.task
        return task

    def next_environ(self) -> dict[str, Any] | None:
        """The WSGI environ of the next request; None if the request could not be parsed."""
        request = self.requests[0]
        return None if request.error else self.task_class(self, request).get_environment()

    def is_new(self, now: float) -> bool:
        """Whether its first request may still be on its way. now: time.monotonic()."""
        return not self.answered and now < self.connected_at + NEW_CONNECTION_SECONDS

    def stage_seconds(self, now: float) -> tuple[Stage, float]:
        """The stage, and for how many seconds it has been in it, as seen by calls of this method.

        It begins anew whenever PROGRESS_BYTES of a body or an answer have moved: who is slow but steady has the time for it.
        """
        stage = self._stage()
        seen, moved = (stage, 0 if stage == "writing" else self.answered), self._moved(stage)
        if seen != self._last_seen or moved >= self._moved_before + PROGRESS_BYTES:
            self._last_seen, self._since, self._moved_before = seen, now, moved
        return stage, now - self._since

    def _moved(self, stage: Stage) -> int:
        """Bytes that the client has taken, or sent of a body."""
        if stage == "writing":
            return self._sent - unacknowledged(self.socket)
        return self.request.body_size if self.request is not None else 0

    def _stage(self) -> Stage:
        if self.total_outbufs_len:
            return "writing"
        if self.requests:
            return "serving"
        # Once reading, it stays so until the request is complete: blank lines before a request would make it idle again.
        reading = self.request is not None or self.lingering or self._last_seen == ("reading", self.answered)
        return "reading" if reading else "idle"

    def has_more_input(self) -> bool:
        """Whether the client has sent anything after the request that is being answered."""
        return len(self.requests) > 1 or self.request is not None or self._has_unread_input()

    def _has_unread_input(self) -> bool:
        try:
            return bool(self.socket and self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def received(self, data: bytes) -> bool:
        if self.lingering or not super().received(data):
            return False
        large = self.request is not None and self.request.body_bytes_received > LARGE
        if large or self.holds_body:
            self.server.bodies.make_room(self)
        return True

    def send_continue(self) -> None:
        # Not for a request that is complete, because it has no body or was refused: waitress would then wait for its body.
        if not self.request.completed:
            super().send_continue()

    def service(self) -> None:
        request = self.requests[0]
        try:
            super().service()
        except WouldWait:
            self.server.lanes.add_waiting(self)
            return
        if request.task is not None and TURN in (request.task.environ or ()):
            end_turn(request.task.environ)
        request.task = None  # breaks a reference cycle, so that both are freed at once
        self.answered += 1
        if self.holds_body:
            self.server.bodies.update(self)

    def writable(self) -> bool:
        if self.total_outbufs_len and self._is_being_sent():
            return False
        return bool(self.paused or super().writable())

    def _is_being_sent(self) -> bool:
        """Whether a thread is sending. It wakes the I/O thread if something is left; polling meanwhile would only cost CPU."""
        if not self.outbuf_lock.acquire(blocking=False):
            return True
        self.outbuf_lock.release()
        return False

    def send(self, data: bytes, do_close: bool = True) -> int:
        if self._budget <= 0:
            return 0
        sent = int(super().send(data if len(data) <= self._budget else data[: int(self._budget)], do_close=do_close))
        self._sent += sent
        self._budget -= sent
        return sent

    def handle_write(self) -> None:
        self._budget = FLUSH_BYTES
        super().handle_write()
        self._budget = math.inf
        if self.paused and self.total_outbufs_len < OUTPUT_HIGH_WATER:
            self.paused = False
            self.server.add_task(self)

    def handle_close(self) -> None:
        """Close, or begin a lingering close: a socket closed with unread input resets the connection (RFC 9112, 9.6).

        The client would lose the answer then.
        """
        if self.answered_early and self.will_close and not self.lingering and self.socket:
            self.lingering, self.will_close = True, False
            with contextlib.suppress(OSError):  # the client is gone: the next read notices
                self.socket.shutdown(socket.SHUT_WR)
        else:
            super().handle_close()

    def close_now(self) -> None:
        """Close without lingering. waitress's will_close would wait until the client reads, which it may never do.

        What the client has not taken for a second is thrown away (RST): the system would keep megabytes of it for minutes.
        """
        self.answered_early = False
        if self.socket and unacknowledged(self.socket) and time.time() > self.last_activity + 1:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handle_close()
