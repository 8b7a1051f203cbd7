"""How a request is answered in waitress: by the application, or with the server's own errors in the form of all errors."""

from __future__ import annotations

import time
from typing import Any

from waitress.task import Task, WSGITask

from petstore import errors
from petstore.web.headers import SECURITY_HEADERS, cors_headers
from petstore.web.middleware import log_access, new_request_id
from petstore.web.plugin import LANES

_BY_STATUS = {
    problem.status: problem
    for problem in (
        errors.BadRequest,
        errors.TooLarge,
        errors.HeadersTooLarge,
        errors.InternalError,
        errors.NotImplementedHere,
        errors.Unavailable,
    )
}


class RequestTask(WSGITask):  # type: ignore[misc]
    """A request that goes to the application."""

    wrote_header: bool

    def get_environment(self) -> Any:
        environ = super().get_environment()
        environ["petstore.received_at"] = self.request.received_at
        environ[LANES] = True
        environ["PATH_INFO"] = self.request.path  # waitress merges slashes: //livez would be /livez
        if self.request.refused_at_head:
            environ["wsgi.input"] = _Unread()
            self.request.headers["CONNECTION"] = "close"
            self.channel.answered_early = True
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


class _Unread:
    """The body of a request that was refused at its head."""

    def read(self, size: int = -1) -> bytes:
        raise OSError("the body was not received")


class ErrorTask(Task):  # type: ignore[misc]
    """Answers a request that does not reach the application (bad framing, too large, no room), in the application's form."""

    complete = True

    def execute(self) -> None:
        request, error = self.request, self.request.error
        headers = self.channel.requests[0].headers  # after an exception, `request` is one that waitress made up
        request_id = new_request_id(headers.get("X_REQUEST_ID", ""))
        # waitress's text quotes the request after ` "`: that part is left out.
        detail = error.body.partition(' "')[0] + "." if error.code in (400, 503) else ""
        problem = _BY_STATUS.get(error.code, errors.InternalError)(detail)
        body = errors.render(problem, request_id)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", errors.PROBLEM_JSON), ("Cache-Control", "no-store")]
        self.response_headers += [("X-Request-ID", request_id), *problem.headers.items(), *SECURITY_HEADERS]
        self.response_headers += cors_headers({"HTTP_ORIGIN": headers.get("ORIGIN")}, self.channel.server.cors_origins)
        request.headers["CONNECTION"] = "close"
        self.channel.answered_early = True
        self.content_length = len(body)
        self.write(b"" if request.command == "HEAD" else body)
        log_access(request.command, request.path, str(error.code), time.time() - self.start_time, request_id)
