"""One HTTP connection in waitress: strict parsing against request smuggling, errors in the API's form, time-outs."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import Any, Literal, TypeAlias

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import Task, WSGITask

from petstore import errors
from petstore.cache.waiting import WouldWait
from petstore.server.limits import NEW_CONNECTION_SECONDS
from petstore.web.headers import SECURITY_HEADERS
from petstore.web.middleware import log_access, new_request_id

OUTPUT_HIGH_WATER = 65_536  # bytes of answers that a client has not read; its next pipelined request waits then (backpressure)
# What a connection waits for: its client to send the rest of a request ("reading") or to read answers ("writing"), an answer of
# the application ("serving"), or the next request ("idle").
Stage: TypeAlias = Literal["reading", "writing", "serving", "idle"]
_BY_STATUS = {
    problem.status: problem
    for problem in (errors.BadRequest, errors.TooLarge, errors.HeadersTooLarge, errors.InternalError, errors.NotImplementedHere)
}
_TRANSFER_ENCODING = re.compile(rb"\r\ntransfer-encoding:([^\r]*)", re.IGNORECASE)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Rejects ambiguous framing (request smuggling: RFC 9112, 6.3 and 11.2)."""

    command = path = "-"  # of a request that cannot be parsed, for the log
    received_at = 0.0  # time.monotonic() when its last byte arrived
    task: _Task | None = None

    def received(self, data: bytes) -> int:
        taken = int(super().received(data))
        if self.completed and not self.received_at:
            self.received_at = time.monotonic()
        return taken

    def parse_header(self, head: bytes) -> None:
        ends = head.count(b"\r\n")  # counting is much faster than a regular expression
        if not ends == head.count(b"\r") == head.count(b"\n") or b"\r\n " in head or b"\r\n\t" in head:
            raise ParsingError("There is a bare CR or LF, or a folded header line")
        try:
            super().parse_header(head)
        except ValueError as error:  # from urlsplit, or from int for thousands of digits
            raise ParsingError("The request target or Content-Length is invalid") from error
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("This server speaks HTTP/1.0 and HTTP/1.1")
        if re.search(rb"[^ -~]", self.first_line):
            raise ParsingError("The request line must be printable ASCII; percent-encode the rest")
        codings = [value.strip(b" \t").lower() for value in _TRANSFER_ENCODING.findall(head)]
        if codings and (codings != [b"chunked"] or self.version == "1.0" or "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Transfer-Encoding must be chunked, once, in HTTP/1.1, and without Content-Length")


class _Task(WSGITask):  # type: ignore[misc]
    """A request that goes to the application."""

    wrote_header: bool

    def get_environment(self) -> Any:
        environ = super().get_environment()
        environ["petstore.received_at"] = self.request.received_at
        environ["PATH_INFO"] = self.request.path  # waitress merges slashes: //livez would be /livez
        return environ

    def write(self, data: bytes) -> None:
        if self.wrote_header or not self.has_body or self.content_length != len(data):
            super().write(data)
            return
        self.channel.write_soon(self.build_response_header() + data)  # in one packet
        self.wrote_header, self.content_bytes_written = True, len(data)

    def set_close_on_finish(self) -> None:
        # waitress would close after every answer without Content-Length. A 204 or 304 has none, and keeps the connection alive.
        close_asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        if close_asked or self.has_body or self.version == "1.0":
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        if self.channel.server.closing and not self.channel.has_more_input():
            self.request.headers["CONNECTION"] = "close"  # graceful shutdown: this is the last answer
        return bytes(super().build_response_header())


class _ErrorTask(Task):  # type: ignore[misc]
    """Answers a request that does not reach the application (bad framing, too large), in the application's form."""

    complete = True

    def execute(self) -> None:
        request, error = self.request, self.request.error
        request_id = new_request_id(request.headers.get("X_REQUEST_ID", ""))
        # waitress's text quotes the request after ` "`: that part is left out.
        detail = error.body.partition(' "')[0] + "." if error.code == 400 else ""
        body = errors.render(_BY_STATUS.get(error.code, errors.InternalError)(detail), request_id)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", errors.PROBLEM_JSON), ("Cache-Control", "no-store")]
        self.response_headers += [("X-Request-ID", request_id), *SECURITY_HEADERS]
        request.headers["CONNECTION"] = "close"
        self.channel.answered_early = True
        self.content_length = len(body)
        self.write(b"" if request.command == "HEAD" else body)
        log_access(request.command, request.path, str(error.code), time.time() - self.start_time, request_id)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection, with the stage it is in, backpressure and lingering close."""

    parser_class, error_task_class = _Parser, _ErrorTask
    answered = 0  # requests
    answered_early = False  # a request was answered before its body was read
    lingering = False  # lingering close: the last answer is sent, further input is thrown away
    will_close = False
    paused = False  # backpressure: the next request waits until the client has read the answers before it
    _last_seen: tuple[Stage, int] = ("reading", 0)  # stage and `answered`

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._since = self.connected_at = time.monotonic()

    def task_class(self, _: HTTPChannel, request: _Parser) -> _Task:
        if request.task is None:
            request.task = _Task(self, request)
        return request.task

    def next_environ(self) -> dict[str, Any] | None:
        """The WSGI environ of the next request; None if the request could not be parsed."""
        request = self.requests[0]
        return None if request.error else self.task_class(self, request).get_environment()

    def is_new(self, now: float) -> bool:
        """Whether its first request may still be on its way. now: time.monotonic()."""
        return not self.answered and now < self.connected_at + NEW_CONNECTION_SECONDS

    def stage_seconds(self, now: float) -> tuple[Stage, float]:
        """The stage, and for how many seconds it has been in it, as seen by calls of this method."""
        seen = (self._stage(), self.answered)
        if seen != self._last_seen:
            self._last_seen, self._since = seen, now
        return seen[0], now - self._since

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
        if len(self.requests) > 1 or self.request is not None:
            return True
        try:
            return bool(self.socket and self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def received(self, data: bytes) -> bool:
        return not self.lingering and bool(super().received(data))

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
        request.task = None  # breaks a reference cycle, so that both are freed at once
        self.answered += 1

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

    def handle_write(self) -> None:
        super().handle_write()
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
        """Close without lingering. waitress's will_close would wait until the client reads, which it may never do."""
        self.answered_early = False
        self.handle_close()
