"""The server: waitress with bounds on connections, sizes and waiting, and with graceful shutdown.

One I/O thread (`Server.run`) polls all sockets and parses requests. Each request goes one of two ways (`_add_task`): the fast
path answers it in the I/O thread, a lane of worker threads takes all others (petstore.server.lanes).
"""

from __future__ import annotations

import logging
import math
import socket
import sys
import threading
import time
from functools import partial

from waitress import wasyncore
from waitress.server import BaseWSGIServer, create_server

from petstore.server.bodies import Bodies
from petstore.server.connections import ACCEPTS, Connections
from petstore.server.hashing_lane import hashing_lane
from petstore.server.lanes import QUICK_THREADS, Lanes
from petstore.server.limits import (
    BACKLOG,
    DRAIN_SECONDS,
    MAX_HEADERS,
    PARTIAL_REQUEST_SECONDS,
    RETIRE_SECONDS,
    listen,
    max_connections,
)
from petstore.server.waitress_channel import OUTPUT_HIGH_WATER, Channel, Stage
from petstore.server.waitress_fast_path import FastPath
from petstore.server.waitress_parser import Parser
from petstore.settings import Settings
from petstore.web.middleware import WSGI, RequestMiddleware
from petstore.web.validation import MAX_BODY

_SWEEP_SECONDS = 0.5  # between two looks for connections to close
_POLL_SECONDS = 0.2


def _create_server(app: WSGI, settings: Settings, listener: socket.socket) -> BaseWSGIServer:
    """Waitress's server, with what its channels read."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # more requests than threads is no event
    server = create_server(
        app,
        sockets=[listener],
        threads=QUICK_THREADS,
        max_request_body_size=2 * MAX_BODY,  # of a chunked body, with its framing; the application checks all others (413)
        inbuf_overflow=4 * MAX_BODY,  # never reached, so no temporary files, which would count as open files
        max_request_header_size=2 * MAX_HEADERS,  # Parser refuses what is larger than one, once it knows the Origin
        outbuf_high_watermark=sys.maxsize,  # no thread waits for a client to read: its next request does (`_add_task`)
        asyncore_use_poll=True,  # select() cannot watch file descriptors above 1,023
        ident=None,
        expose_tracebacks=False,
        clear_untrusted_proxy_headers=False,  # petstore.limits.clients decides which proxies to trust
    )
    refuses_head = app.refuses_head if isinstance(app, RequestMiddleware) else lambda environ: False
    server.channel_class = partial(Channel, parser_class=partial(Parser, refuses_head=refuses_head))
    server.trusted_proxies, server.cors_origins, server.bodies = settings.trusted_proxies, settings.cors_origins, Bodies()
    server.closing = False  # set before the I/O thread notices, while its threads answer
    return server


class Server:
    """The application on a listening socket. `run()` serves until `stop()` is called, then drains: requests in progress finish.

    listener: a listening socket, which may be shared with other processes; by default one is made.
    """

    def __init__(self, app: WSGI, settings: Settings, listener: socket.socket | None = None) -> None:
        self._read_seconds, self._keep_alive_seconds = settings.read_seconds, settings.keep_alive_seconds
        self._stopping = self._retiring = False
        self._stop_at = math.inf  # time.monotonic()
        self._server = _create_server(app, settings, listener or listen(*settings.listen))
        self._sweep_at, self._io_thread = 0.0, 0
        self._connections = self._server.connections = Connections(max_connections(settings), settings.trusted_proxies)
        self._server.handle_accept, self._server.readable = self._set_acceptable, self._can_accept
        self._acceptable = False  # connections wait to be accepted
        self._server.add_task = self._add_task
        self._server.pull_trigger = self._wake
        response_cache = app.response_cache if isinstance(app, RequestMiddleware) else None
        self._hashing_lane = hashing_lane()
        self._lanes = self._server.lanes = Lanes(self._server.task_dispatcher, self._hashing_lane, settings.threads, app)
        self._fast_path = FastPath(response_cache, self._server._map, self._lanes.add)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on. The port is the real one if 0 was asked for."""
        return str(self._server.effective_host), int(self._server.effective_port)

    def stop_later(self, seconds: float) -> None:
        """`stop()` after so many seconds. Until then everything is served, but each answer ends its connection.

        So no connection is left on which a proxy sends a request while it is closed. Safe in a signal handler.
        """
        self._stop_at, self._server.closing = time.monotonic() + seconds, True

    def stop(self) -> None:
        """Begin a graceful shutdown: finish requests that run or wait, accept no new ones. Safe in a signal handler."""
        self._stopping = self._server.closing = True

    def retire(self) -> None:
        """Leave new connections to the other processes on the socket, end keep-alive connections politely, then stop.

        Safe in a signal handler.
        """
        self._retiring = self._server.closing = True

    def run(self) -> None:
        """Serve, in this thread as the I/O thread, until stopped and drained."""
        self._io_thread = threading.get_ident()
        while not self._stopping and not self._retiring and time.monotonic() < self._stop_at:
            self._iterate()
        if self._retiring:
            self._end_keep_alive()
        self._drain()

    def _iterate(self) -> None:
        self._poll(_POLL_SECONDS)
        if time.monotonic() >= self._sweep_at:
            self._close_overdue_channels()
            self._sweep_at = time.monotonic() + _SWEEP_SECONDS

    def _end_keep_alive(self) -> None:
        """Stop listening, and serve until every connection is closed: each next answer has `Connection: close`."""
        wasyncore.dispatcher.close(self._server)
        until = time.monotonic() + RETIRE_SECONDS
        while self._channels() and not self._stopping and time.monotonic() < until:
            self._iterate()

    def _poll(self, seconds: float) -> None:
        wasyncore.loop(timeout=min(seconds, self._fast_path.poll_seconds), use_poll=True, map=self._server._map, count=1)
        if self._acceptable:
            self._acceptable = False
            self._accept()
        self._fast_path.run()
        self._lanes.refuse_overdue()

    def _wake(self) -> None:
        """Wake the I/O thread from its poll, if this is another thread."""
        if threading.get_ident() != self._io_thread:
            self._server.trigger.pull_trigger()

    def _add_task(self, channel: Channel) -> None:
        # Backpressure. Without it, a thread would wait for a client that pipelines requests and does not read the answers.
        if channel.total_outbufs_len >= OUTPUT_HIGH_WATER:
            channel.paused = True
        elif threading.get_ident() != self._io_thread or not self._fast_path.take(channel):
            self._lanes.add(channel)

    def _set_acceptable(self) -> None:
        # Accepted in the loop, a connection could get the number of one that was closed there, and then the events of that one.
        self._acceptable = True

    def _can_accept(self) -> bool:
        return bool(self._server.accepting and not self._connections.full)

    def _accept(self, at_most: int = ACCEPTS) -> int:
        """Accept connections that wait, and return how many. Waitress would accept one in each iteration of the loop."""
        for number in range(at_most):
            try:
                accepted = self._server.accept() if self._connections.has_room() else None
                if accepted is None:
                    return number
                connection, address = accepted
                self._server.set_socket_options(connection)
            except OSError:  # the client is gone already, or no file is left
                return number
            self._server.channel_class(self._server, connection, address, self._server.adj, map=self._server._map)
        return at_most

    def _close_overdue_channels(self) -> None:
        """Close connections of clients that send or read too slowly (slowloris), and those that are idle for too long."""
        limits: dict[Stage, float] = {
            "reading": self._read_seconds,
            "writing": self._read_seconds,
            "serving": math.inf,
            "idle": self._keep_alive_seconds,
        }
        now, self._connections.full = time.monotonic(), False
        for channel in self._channels():
            stage, seconds = channel.stage_seconds(now)
            if seconds > limits[stage]:
                channel.close_now()

    def _channels(self) -> list[Channel]:
        return list(self._server.active_channels.values())

    def _drain(self) -> None:
        """Serve until no request is left, then close every connection and end the threads."""
        self._stop_listening()
        started = time.monotonic()
        while self._has_work(time.monotonic() - started):
            self._poll(_POLL_SECONDS)
        for channel in self._channels():
            channel.close_now()
        dispatchers = self._lanes.dispatchers
        for dispatcher in dispatchers:
            dispatcher.shutdown(timeout=1)
        # A thread that hangs may still write to the trigger: closed, its file descriptor might be another file's by then.
        if not any(dispatcher.threads for dispatcher in dispatchers):
            self._server.trigger.close()

    def _stop_listening(self) -> None:
        """Accept the connections that are in the backlog, then close the listening socket."""
        if not self._server.accepting:
            return
        for _ in range(BACKLOG):
            if not self._accept(1):
                break
        wasyncore.dispatcher.close(self._server)

    def _has_work(self, seconds: float) -> bool:
        """Whether a shutdown still waits for a request. seconds: since it began."""
        if seconds > DRAIN_SECONDS:
            return False
        if self._busy(seconds):
            return True
        self._poll(0)  # a pipelined request may have arrived behind the last one
        return self._busy(seconds)

    def _busy(self, seconds: float) -> bool:
        channels, now = self._channels(), time.monotonic()
        partial = seconds < PARTIAL_REQUEST_SECONDS and any(channel.request or channel.lingering for channel in channels)
        return partial or any(channel.requests or channel.total_outbufs_len or channel.is_new(now) for channel in channels)
