"""waitress in front: bounded connections, headers, bodies and waiting; errors in the API's form; a stop that drains."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from functools import partial

from waitress import wasyncore
from waitress.server import BaseWSGIServer, create_server

from petstore.app import hashing_paths
from petstore.server.hashing_lane import client_of, hashing_lane
from petstore.server.limits import BEGUN_SECONDS, DRAIN_SECONDS, MAX_HEADERS, RETIRE_SECONDS, affordable, listen
from petstore.server.waitress_channel import AHEAD, Channel
from petstore.server.waitress_fast_path import FastPath
from petstore.settings import Settings
from petstore.web.middleware import WSGI, RequestMiddleware
from petstore.web.plugin import MAX_BODY

_IDLE_SECONDS = 60  # that a connection may stay open with nothing asked after an answer
_SWEEP_SECONDS = 0.5
_POLL_SECONDS = 0.2
logger = logging.getLogger(__name__)


class Server:
    """The service on its socket. `run()` serves until `stop()` is called (from a signal handler, say) and has drained.

    listener: a socket that listens already, which other processes may have, too; by default one of its own.
    """

    def __init__(self, app: WSGI, settings: Settings, listener: socket.socket | None = None) -> None:
        self._read_seconds = settings.read_seconds
        self._stopping = self._retiring = False
        self._server: BaseWSGIServer = create_server(
            app,
            sockets=[listener or listen(*settings.listen)],
            threads=settings.threads,
            connection_limit=affordable(settings) + 2,  # it counts the listening socket and its own pipe
            # The application answers 413 itself, in the order that the contract gives; this is for what is far beyond.
            max_request_body_size=2 * MAX_BODY,
            inbuf_overflow=4 * MAX_BODY,  # never reached: temporary files would be open files beyond the limit
            max_request_header_size=MAX_HEADERS,
            asyncore_use_poll=True,  # select() ends at file number 1,024
            ident=None,
            expose_tracebacks=False,
            clear_untrusted_proxy_headers=False,  # petstore.limits.clients decides whom to believe
        )
        self._sweep_at = 0.0
        self._server.channel_class = Channel
        self._server.add_task = self._add_task
        self._server.pull_trigger = self._wake
        self._io_thread = 0
        hits = app.hits if isinstance(app, RequestMiddleware) else None
        self._at_once = FastPath(hits, self._server._map, self._server.task_dispatcher.add_task)
        self._hashing_paths = hashing_paths()
        self._hashing = hashing_lane(partial(client_of, settings.trusted_proxies))

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: the port is a real one also when 0 was asked for."""
        return str(self._server.effective_host), int(self._server.effective_port)

    def stop(self) -> None:
        """Finish what is running or queued, take nothing new. Safe in a signal handler."""
        self._stopping = True

    def retire(self) -> None:
        """Leave what is new to the other processes on the socket, and end without cutting off any client. As safe as stop()."""
        self._retiring = True

    def run(self) -> None:
        self._io_thread = threading.get_ident()
        while not self._stopping and not self._retiring:
            self._turn()
        if self._retiring:
            self._see_off()
        self._drain()

    def _turn(self) -> None:
        self._poll(_POLL_SECONDS)
        if time.monotonic() >= self._sweep_at:
            self._close_overdue()
            self._sweep_at = time.monotonic() + _SWEEP_SECONDS

    def _see_off(self) -> None:
        """Accept no more; each client's next answer says that it is the last here. Who asks nothing is not waited for long."""
        wasyncore.dispatcher.close(self._server)
        until = time.monotonic() + RETIRE_SECONDS
        while self._channels() and not self._stopping and time.monotonic() < until:
            self._turn()

    def _poll(self, seconds: float) -> None:
        wasyncore.loop(timeout=min(seconds, self._at_once.patience), use_poll=True, map=self._server._map, count=1)
        self._at_once.turn()

    def _wake(self) -> None:
        """Have the I/O thread look again; it needs no telling what it has done itself."""
        if threading.get_ident() != self._io_thread:
            self._server.trigger.pull_trigger()

    def _add_task(self, channel: Channel) -> None:
        # waitress would let a thread wait for a client that asks and asks and never reads.
        if channel.total_outbufs_len >= AHEAD:
            channel.held = True
        elif channel.requests[0].path in self._hashing_paths and channel.requests[0].command == "POST":
            self._hashing.add_task(channel)
        elif threading.get_ident() != self._io_thread or not self._at_once.take(channel):
            self._server.task_dispatcher.add_task(channel)

    def _close_overdue(self) -> None:
        """A byte every two seconds must not hold a connection, nor answers that nobody takes."""
        idle = 0 if self._server.in_connection_overflow else _IDLE_SECONDS  # others wait to get in
        limits = {"send": self._read_seconds, "take": self._read_seconds, "serve": math.inf, "idle": idle}
        now = time.monotonic()
        for channel in self._channels():
            stage, seconds = channel.waited(now)
            if seconds > limits[stage]:
                channel.hang_up()

    def _channels(self) -> list[Channel]:
        return list(self._server.active_channels.values())

    def _drain(self) -> None:
        self._close_door()
        started = time.monotonic()
        while self._under_way(time.monotonic() - started):
            self._poll(_POLL_SECONDS)  # a thread that has answered wakes it
        for channel in self._channels():
            channel.hang_up()
        dispatchers = self._server.task_dispatcher, self._hashing
        for dispatcher in dispatchers:
            dispatcher.shutdown(timeout=1)
        hanging = any(dispatcher.threads for dispatcher in dispatchers)
        if not hanging:  # a thread that hangs would write to whatever file gets the number next
            self._server.trigger.close()

    def _close_door(self) -> None:
        """Take in who has connected already, then listen no more."""
        if not self._server.accepting:
            return
        connected = -1
        while connected < len(self._server._map) < self._server.adj.connection_limit:
            connected = len(self._server._map)
            self._server.handle_accept()
        wasyncore.dispatcher.close(self._server)

    def _under_way(self, seconds: float) -> bool:
        """Whether there is anything that a stop, begun so long ago, still waits for."""
        if seconds > DRAIN_SECONDS:
            return False
        if self._busy(seconds):
            return True
        self._poll(0)  # takes what has arrived, now that no answer stands before it
        return self._busy(seconds)

    def _busy(self, seconds: float) -> bool:
        channels = self._channels()
        begun = seconds < BEGUN_SECONDS and any(channel.request or channel.lingering for channel in channels)
        return begun or any(channel.requests or channel.total_outbufs_len for channel in channels)
