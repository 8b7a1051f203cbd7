"""waitress's connections, made strict: one reading of every framing, an end to every wait, errors in the API's form."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import Task, WSGITask

from petstore import errors
from petstore.web.headers import SECURITY_HEADERS
from petstore.web.middleware import log_access, new_request_id

AHEAD = 65_536  # bytes of answers not yet taken, above which a client's next pipelined request waits
_BY_STATUS = {
    problem.status: problem
    for problem in (errors.BadRequest, errors.TooLarge, errors.HeadersTooLarge, errors.InternalError, errors.NotImplementedHere)
}
_TRANSFER_ENCODING = re.compile(rb"\r\ntransfer-encoding:([^\r]*)", re.IGNORECASE)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses every request whose end two readers could see at two places (RFC 9112, 6.3 and 11.2)."""

    command = path = "-"  # of what could not be read; waitress's own log line asks for the path
    received_at = 0.0  # time.monotonic() when it was here to its end
    task: _Task | None = None  # once it has one

    def received(self, data: bytes) -> int:
        taken = int(super().received(data))
        if self.completed and not self.received_at:
            self.received_at = time.monotonic()
        return taken

    def parse_header(self, head: bytes) -> None:
        ends = head.count(b"\r\n")  # and not by a regular expression, which takes as long as all the rest
        if not ends == head.count(b"\r") == head.count(b"\n") or b"\r\n " in head or b"\r\n\t" in head:
            raise ParsingError("There is a bare CR or LF, or a folded header line")
        try:
            super().parse_header(head)
        except ValueError as error:  # urlsplit's, or a number of thousands of digits
            raise ParsingError("The request target or Content-Length is invalid") from error
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("This server speaks HTTP/1.0 and HTTP/1.1")
        if re.search(rb"[^ -~]", self.first_line):
            raise ParsingError("The request line must be printable ASCII; percent-encode the rest")
        codings = [value.strip(b" \t").lower() for value in _TRANSFER_ENCODING.findall(head)]
        if codings and (codings != [b"chunked"] or self.version == "1.0" or "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Transfer-Encoding must be chunked, once, in HTTP/1.1, and without Content-Length")


class _Task(WSGITask):  # type: ignore[misc]
    """A request for the application."""

    wrote_header: bool

    def get_environment(self) -> Any:
        environ = super().get_environment()
        environ["petstore.received_at"] = self.request.received_at
        environ["PATH_INFO"] = self.request.path  # waitress makes one slash of several: //livez would be /livez
        return environ

    def write(self, data: bytes) -> None:
        if self.wrote_header or not self.has_body or self.content_length != len(data):
            super().write(data)
            return
        self.channel.write_soon(self.build_response_header() + data)  # sent as one
        self.wrote_header, self.content_bytes_written = True, len(data)

    def set_close_on_finish(self) -> None:
        # waitress closes after every answer without Content-Length, also after a 204 or 304, which has no content to measure.
        asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        if asked or self.has_body or self.version == "1.0":
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        if not self.channel.server.accepting and not self.channel.more_sent():
            self.request.headers["CONNECTION"] = "close"  # the service is stopping
        return bytes(super().build_response_header())


class _ErrorTask(Task):  # type: ignore[misc]
    """Answers what never reaches the application (bad framing, too large) as the application would."""

    complete = True

    def execute(self) -> None:
        request, error = self.request, self.request.error
        request_id = new_request_id(request.headers.get("X_REQUEST_ID", ""))
        # Without what waitress quotes of the request.
        detail = error.body.partition(' "')[0] + "." if error.code == 400 else ""
        body = errors.render(_BY_STATUS.get(error.code, errors.InternalError)(detail), request_id)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", errors.PROBLEM_JSON), ("Cache-Control", "no-store")]
        self.response_headers += [("X-Request-ID", request_id), *SECURITY_HEADERS]
        request.headers["CONNECTION"] = "close"
        self.channel.refused = True
        self.content_length = len(body)
        self.write(b"" if request.command == "HEAD" else body)
        log_access(request.command, request.path, str(error.code), time.time() - self.start_time, request_id)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that knows what it waits for, and for how long."""

    parser_class, error_task_class = _Parser, _ErrorTask
    answered = 0
    refused = False  # a request was answered before it was read to its end
    lingering = False  # the last answer is out; what still comes is thrown away
    will_close = False
    held = False  # a pipelined request waits until its client has taken the answers before it
    _seen = ("send", 0)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._since = time.monotonic()

    def task_class(self, _: HTTPChannel, request: _Parser) -> _Task:
        if request.task is None:
            request.task = _Task(self, request)
        return request.task

    def next_environ(self) -> dict[str, Any] | None:
        """The WSGI environment of the request that is to be served next; None if it could not be read."""
        request = self.requests[0]
        return None if request.error else self.task_class(self, request).get_environment()

    def waited(self, now: float) -> tuple[str, float]:
        """What it waits for, and how many seconds nothing has come of that."""
        seen = (self._stage(), self.answered)
        if seen != self._seen:
            self._seen, self._since = seen, now
        return seen[0], now - self._since

    def _stage(self) -> str:
        """Its client to "take" answers or "send" the rest of a request, us to "serve" it, or nothing: "idle"."""
        if self.total_outbufs_len:
            return "take"
        if self.requests:
            return "serve"
        # Who began to send has to end: blank lines before a request would make it look idle again.
        begun = self.request is not None or self.lingering or self._seen == ("send", self.answered)
        return "send" if begun else "idle"

    def more_sent(self) -> bool:
        """Whether its client has sent anything after the request that is being answered."""
        if len(self.requests) > 1 or self.request is not None:
            return True
        try:
            return bool(self.socket and self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def received(self, data: bytes) -> bool:
        return not self.lingering and bool(super().received(data))

    def send_continue(self) -> None:
        # waitress would wait for the body of a request that has none, or that it has refused.
        if not self.request.completed:
            super().send_continue()

    def service(self) -> None:
        request = self.requests[0]
        super().service()
        request.task = None  # it knows the request: neither would be freed soon
        self.answered += 1

    def writable(self) -> bool:
        if self.total_outbufs_len and self._is_being_sent():
            return False
        return bool(self.held or super().writable())

    def _is_being_sent(self) -> bool:
        """Whether a thread is just sending. It says so if something is left; to poll meanwhile would take the core from it."""
        if not self.outbuf_lock.acquire(blocking=False):
            return True
        self.outbuf_lock.release()
        return False

    def handle_write(self) -> None:
        super().handle_write()
        if self.held and self.total_outbufs_len < AHEAD:
            self.held = False
            self.server.add_task(self)

    def handle_close(self) -> None:
        """Closing on input that nobody has read resets the connection, and the client loses the answer (RFC 9112, 9.6)."""
        if self.refused and self.will_close and not self.lingering and self.socket:
            self.lingering, self.will_close = True, False
            with contextlib.suppress(OSError):  # it has gone: the next read tells
                self.socket.shutdown(socket.SHUT_WR)
        else:
            super().handle_close()

    def hang_up(self) -> None:
        """Close now. waitress's own flag waits until the client takes something, which it may never do."""
        self.refused = False
        self.handle_close()
