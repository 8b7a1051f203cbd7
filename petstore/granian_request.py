"""One request as granian has it (RSGI's scope and protocol), and as a WSGI application is given it and answers it."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from petstore.front import WSGI
from petstore.plugins import MAX_BODY

_MOST = 2 * MAX_BODY  # bytes of a body that are read; the application takes half of that, and refuses the rest in its order
_LINGER = 64 * MAX_BODY  # bytes that a client may go on sending after it was refused
_CLOSE = ("Connection", "close")
# granian names itself where an answer does not name its server: an empty name is the least that can be had.
_NO_BANNER = ("Server", "")
_ALWAYS = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}


class Request:
    """A request whose head is here. Its body comes piece by piece; no thread waits for it."""

    broken = False  # its body ended too early, or took too long

    def __init__(self, scope: Any, proto: Any) -> None:
        self.environ = _environ(scope)
        self.since = time.monotonic()  # when it began to wait for its client
        self._proto = proto
        coding = self.environ.get("HTTP_TRANSFER_ENCODING", "")
        self._chunked, self.coded = bool(coding), coding.lower() not in ("", "chunked")
        self._length = int(self.environ.get("CONTENT_LENGTH") or 0)
        self.unread = self._chunked or self._length > 0  # its client may still be sending it
        self._size = 0
        self._pieces: list[bytes] | None = []
        self._at_most = _MOST
        self._future: Any = None

    @property
    def wanted(self) -> bool:
        """Whether what is unread is to be read: a body that is far too large is refused by what its client says of it."""
        return self.unread and self._length < _MOST and not self.coded

    def read(self, then: Callable[[Request], object]) -> None:
        """Read the body; then(self) is called in one of granian's threads when all of it is here, too much, or none will come."""
        self._then = then
        if self._size == 0:
            self._proto.__aiter__()
        self._go_on()

    def linger(self, then: Callable[[Request], object]) -> None:
        """Throw away what its client still sends: hung up on, it would lose the answer (RFC 9112, 9.6)."""
        self.since, self._pieces, self._at_most = time.monotonic(), None, _LINGER
        self.read(then)

    def give_up(self) -> None:
        """Wait for its client no longer."""
        if future := self._future:
            future.cancel()

    def close(self) -> None:
        """Let go of its connection, which closes where not all has been read. Whoever still knows us must not keep it open."""
        self._proto = None

    def answer(self, app: WSGI, is_last: Callable[[], bool]) -> None:
        """Send what the application answers. is_last: whether it is the last of its connection, asked when it is there."""
        self.environ["wsgi.input"] = io.BytesIO(b"".join(self._pieces or ()))
        started: list[Any] = []
        body = app(self.environ, lambda *arguments: started.append(arguments))
        try:
            content = b"".join(body)
        finally:
            getattr(body, "close", bool)()
        status, headers = started[-1][:2]
        added = (_NO_BANNER, _CLOSE) if is_last() or self.unread else (_NO_BANNER,)
        self._proto.response_bytes(int(status[:3]), [*headers, *added], content)

    def _go_on(self, future: Any = None) -> None:
        # A loop for the pieces that are here already: a callback for each would be a callback within a callback.
        while future is None or not self._take(future):
            future = self._future = self._proto.__anext__()
            if not future.done():
                future.add_done_callback(self._go_on)
                return
        self._future = None  # it knows us: neither would ever be freed
        self._then(self)

    def _take(self, future: Any) -> bool:
        """Take a piece of the body; whether it was the last, or is enough."""
        piece = b"" if future.cancelled() else future.result()
        self._size += len(piece)
        if self._pieces is not None:
            self._pieces.append(piece)
        if not piece:
            self.unread = self.broken = future.cancelled() or not self._ended()
        elif self._size == self._length:
            self.unread = False
        return not piece or not self.unread or self._size >= self._at_most

    def _ended(self) -> bool:
        """Whether nothing has come because that was all: granian makes nothing of what cannot be read, too, but goes on then."""
        try:
            self._proto.__anext__()
        except StopAsyncIteration:
            return True
        return False


def _environ(scope: Any) -> dict[str, Any]:
    """PEP 3333's, without wsgi.input."""
    environ: dict[str, Any] = {
        **_ALWAYS,
        "REQUEST_METHOD": scope.method,
        "PATH_INFO": _path(scope.path),
        "QUERY_STRING": scope.query_string.encode().decode("latin-1"),
        "SERVER_PROTOCOL": "HTTP/1.0" if scope.http_version == "1" else "HTTP/1.1",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
    }
    environ["SERVER_NAME"], _, environ["SERVER_PORT"] = scope.server.rpartition(":")
    headers = scope.headers
    for name in headers.keys():  # noqa: SIM118 its items leave out values that are not ASCII
        if "_" not in name:  # which would stand for the same name with a hyphen
            environ[_variable(name)] = ", ".join(headers.get_all(name))
    return environ


def _path(path: str) -> str:
    """Bytes, as PEP 3333 has them. No path at all is none that we know, and what was not UTF-8 is not to pass for it."""
    return path.encode().decode("latin-1").replace("\xef\xbf\xbd", "\xff") or "*"


@lru_cache(1000)
def _variable(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
