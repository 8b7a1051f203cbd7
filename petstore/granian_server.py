"""granian in front, a server in Rust: the same application, limits and stop as behind petstore.server, and quicker cached reads.

granian's own command brings workers of its own, each with a socket of its own, and for WSGI reads a body in a thread that waits
for the client without end. So we take what it is made of: one worker in this very process, which calls us with what it has read.
That is no public interface: setup.cfg names the one release that this is written for.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import termios
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from granian._granian import CallbackScheduler, RSGIWorker, SocketHolder, WorkerSignal
from granian.http import HTTP1Settings

from petstore import errors
from petstore.addresses import client_address, household
from petstore.app import hashing_paths
from petstore.front import WSGI, Front
from petstore.granian_request import Request
from petstore.rates import Rates
from petstore.server import DRAIN_SECONDS, MAX_HEADERS, RETIRE_SECONDS, affordable, hashing_lane, listen
from petstore.settings import Settings

_BACKLOG = 1024
_POLL_SECONDS = 0.1
_BEGUN_SECONDS = 1  # that a stop waits for the rest of a request whose beginning is here
_SILENT_SECONDS = 0.5  # that a stop waits for connections on which nothing is under way

logger = logging.getLogger(__name__)


class Server:
    """As petstore.server.Server: the service on its socket, until `stop()` is called and it has drained."""

    def __init__(self, app: WSGI, settings: Settings, listener: socket.socket | None = None) -> None:
        self._app, self._settings = app, settings
        self._incomplete = Front(_refuse(errors.BadRequest, "The body ended too early, or took too long."), settings, Rates(0))
        self._coded = Front(_refuse(errors.NotImplementedHere), settings, Rates(0))
        self._failed = Front(_refuse(errors.InternalError), settings, Rates(0))
        self._listener = listener or listen(*settings.listen)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._connections = affordable(settings)
        self._requests: set[Request] = set()  # under way
        self._stopping = self._retiring = self._ended = False
        self._hashing_paths = hashing_paths()
        self._hashing = hashing_lane(self._client)

    def stop(self) -> None:
        """Finish what is running or queued, take nothing new. Safe in a signal handler."""
        self._stopping = True

    def retire(self) -> None:
        """Have each client's next answer be the last here, and end. As safe as stop()."""
        self._retiring = True

    def run(self) -> None:
        signal = self._start()
        while not self._stopping and not self._retiring:
            self._poll(self._settings.read_seconds)
        if self._retiring:
            self._accept_no_more()
        retired_at = time.monotonic() + RETIRE_SECONDS
        while not self._stopping and time.monotonic() < retired_at:
            self._poll(self._settings.read_seconds)
        self._stopping = True
        self._poll(self._settings.read_seconds)  # granian would hang up on whom it has accepted and not heard yet
        signal.set()  # no more connections; those that are idle are closed, each other one after its answer
        self._drain()

    def _start(self) -> Any:
        # What is set here holds for every connection: granian sets nothing (tcp(7)).
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._settings.read_seconds * 1000)  # to take it
        scheduler = CallbackScheduler(_Loop(), None, None, None, None)
        scheduler._schedule_fn = self._take
        signal = WorkerSignal()
        signal.add_cb(self._end)
        self._door = os.dup(self._listener.fileno())
        RSGIWorker(
            1,
            (None, SocketHolder(self._door, False, _BACKLOG)),  # a number of its own, which it closes
            None,
            py_threads=self._settings.worker_threads,
            backpressure=self._connections,
            http1_opts=HTTP1Settings(header_read_timeout=self._settings.read_seconds * 1000, max_buffer_size=MAX_HEADERS),
            websockets_enabled=False,
        ).serve_mtr(scheduler, _Loop(), signal)
        self._listener.close()
        return signal

    def _accept_no_more(self) -> None:
        """Have granian listen, under the number that it knows, on a socket of which nobody knows."""
        with listen("127.0.0.1", 0) as nobodys:
            nobodys.setblocking(False)
            os.dup2(nobodys.fileno(), self._door, inheritable=False)

    def _end(self) -> None:
        self._ended = True

    def _poll(self, patience: float) -> None:
        """A byte every two seconds must not hold a connection."""
        time.sleep(_POLL_SECONDS)
        now = time.monotonic()
        for request in list(self._requests):
            if now - request.since > patience:
                request.give_up()

    def _take(self, watcher: Any) -> None:
        """A request has come. Called in one of granian's threads, which knows no exceptions."""
        try:
            request = Request(watcher.scope, watcher.proto)
            self._requests.add(request)
            if request.wanted:
                request.read(self._enqueue)
            else:
                self._enqueue(request)
        except Exception:
            logger.exception("a request could not be taken")

    def _enqueue(self, request: Request) -> None:
        environ = request.environ
        environ["petstore.received_at"] = time.monotonic()
        if environ["PATH_INFO"] in self._hashing_paths and environ["REQUEST_METHOD"] == "POST":
            self._hashing.add_task(_Task(self._serve, request))
        else:
            self._serve(request)

    def _serve(self, request: Request) -> None:
        app = self._incomplete if request.broken else self._coded if request.coded else self._app
        try:
            request.answer(app, lambda: self._stopping or self._retiring)
        except Exception:
            logger.exception("a request failed")
            request.answer(self._failed, lambda: True)
        if request.unread and not request.broken:
            request.linger(self._forget)
        else:
            self._forget(request)

    def _forget(self, request: Request) -> None:
        self._requests.discard(request)
        request.close()

    def _client(self, task: _Task) -> str:
        return household(client_address(task.request.environ, self._settings.trusted_proxies))

    def _drain(self) -> None:
        started = busy_at = time.monotonic()
        while not self._ended and time.monotonic() < min(started + DRAIN_SECONDS, busy_at + _SILENT_SECONDS):
            begun = time.monotonic() < started + _BEGUN_SECONDS
            self._poll(self._settings.read_seconds if begun else _BEGUN_SECONDS)
            if self._requests or any(map(_unsent, self._connected())):
                busy_at = time.monotonic()
        for connection in self._connected():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        until = time.monotonic() + 1
        while not self._ended and time.monotonic() < until:
            time.sleep(0.02)
        self._hashing.shutdown(timeout=1)

    def _connected(self) -> Iterator[socket.socket]:
        """Our connections, each for one turn of a loop. granian tells of none, but they are files of this process."""
        for number in map(int, os.listdir("/dev/fd")):
            with suppress(OSError):  # something else, or closed meanwhile
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                with socket.socket(fileno=os.dup(number)) as one:
                    if one.family != socket.AF_UNIX and one.getsockname()[1] == self.address[1] and one.getpeername():
                        yield one


class _Task:
    """A request for the lane of those that hash."""

    def __init__(self, serve: Callable[[Request], None], request: Request) -> None:
        self.service, self.request = partial(serve, request), request

    def cancel(self) -> None:
        """Its client is hung up on with all others."""


class _Loop:
    """What granian takes for an event loop: its thread that brings something does what is to be done with it, at once."""

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: object = None) -> None:
        callback(*arguments)

    call_soon_threadsafe = call_soon


def _unsent(connection: socket.socket) -> bool:
    """Whether its client has not taken all of its answer yet (tcp(7), SIOCOUTQ)."""
    return any(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))


def _refuse(kind: type[errors.Problem], *detail: str) -> WSGI:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise kind(*detail)

    return app
