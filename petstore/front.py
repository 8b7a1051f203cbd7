"""What happens to every request before the route table, and to every answer: its id, its form as HTTP, its line in the log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from petstore import errors

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

access = logging.getLogger("petstore.access")


def front(app: WSGI) -> WSGI:
    """Wrap the application."""

    def handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        started = time.perf_counter()
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        request_id = environ["petstore.request_id"] = new_request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        environ.setdefault("petstore.received_at", time.monotonic())  # of a server that does not tell
        status = "-"

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, [*headers, ("X-Request-ID", request_id)], exc_info)

        try:
            fault = _fault(environ)
            return _refuse(fault, method, request_id, start) if fault else app(environ, start)
        finally:
            log_access(method, path, status, time.perf_counter() - started, request_id)

    return handle


def new_request_id(wanted: str = "") -> str:
    """The client's own id where it is fit for a log, else a new one."""
    return wanted if _REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex


def log_access(method: str, path: str, status: str, seconds: float, request_id: str) -> None:
    """One line for one request. Neither query nor headers: they may hold what does not belong in a log."""
    # Escaped, so that no %0A or %1B of a path makes a line of its own or speaks to a terminal.
    printable = path[:200].encode("unicode_escape").decode()
    access.info("%s %s %s %.1fms %s", method, printable, status, seconds * 1000, request_id)


def _fault(environ: dict[str, Any]) -> str | None:
    """What makes it unclear to whom the request is, or what it asks for (RFC 9112, 3.2). Framing is the server's business."""
    host = environ.get("HTTP_HOST")
    if host is None and environ["SERVER_PROTOCOL"] != "HTTP/1.0":
        return "HTTP/1.1 needs a Host header."
    if host is not None and not _HOST.fullmatch(host):
        return "There must be one Host header: a name or address, and a port."
    try:
        environ["PATH_INFO"].encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return "The path is not UTF-8."
    return None


def _refuse(fault: str, method: str, request_id: str, start: Callable[..., Any]) -> Iterable[bytes]:
    body = errors.render(errors.BadRequest(fault), request_id)
    headers = [("Content-Type", errors.PROBLEM_JSON), ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
    start("400 Bad Request", headers)
    return [] if method == "HEAD" else [body]
