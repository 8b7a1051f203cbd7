"""The WSGI middleware around the route table: request id, rate limit, HTTP checks, response cache, headers, access log."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from petstore import errors
from petstore.cache.waiting import WouldWait
from petstore.limits.clients import client_address, client_networks, is_trusted_peer
from petstore.limits.request_rate import RequestRate
from petstore.settings import Settings
from petstore.web.headers import SECURITY_HEADERS, STRICT_TRANSPORT, cors_headers, with_added
from petstore.web.response_cache import ResponseCache

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
access = logging.getLogger("petstore.access")


class RequestMiddleware:
    """The WSGI application. It answers from the response cache if it can, else it calls `app`, the route table.

    on_still: the server calls it when requests wait too long for a thread; the database may be why.
    check_head: raises a Problem if a request is refused whatever its body is (petstore.web.plugin.check_head).
    """

    def __init__(
        self,
        app: WSGI,
        settings: Settings,
        request_rate: RequestRate,
        response_cache: ResponseCache | None = None,
        on_still: Callable[[], None] = lambda: None,
        check_head: Callable[[Mapping[str, Any]], None] = lambda environ: None,
    ) -> None:
        self._app, self._settings = app, settings
        self._request_rate, self.response_cache, self.on_still = request_rate, response_cache, on_still
        self._check_head = check_head

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        started = time.perf_counter()
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        first = "petstore.request_id" not in environ
        request_id = environ["petstore.request_id"] = new_request_id(environ.get("HTTP_X_REQUEST_ID", ""))
        environ.setdefault("petstore.received_at", time.monotonic())  # set by our own server; others do not tell
        address = environ["petstore.address"] = client_address(environ, self._settings.trusted_proxies)
        added = self._added_headers(environ)
        status = "-"

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, with_added(headers, added), exc_info)

        try:
            if first:
                self._request_rate.count(*client_networks(address))
            _check(environ)
            cached = self.response_cache.respond(environ, start) if self.response_cache else None
            return self._app(environ, start) if cached is None else cached
        except errors.Problem as problem:
            return _refuse(problem, method, request_id, start)
        except WouldWait:  # another thread serves it
            status = ""
            raise
        finally:
            if status:
                log_access(method, path, status, time.perf_counter() - started, request_id)

    def refuses_head(self, environ: Mapping[str, Any]) -> bool:
        """Whether a request is refused whatever its body is, so that a server need not read it. environ: without the body."""
        try:
            _check(environ)
            self._check_head(environ)
        except errors.Problem:
            return True
        return False

    def _added_headers(self, environ: dict[str, Any]) -> list[tuple[str, str]]:
        added = [("X-Request-ID", environ["petstore.request_id"]), *SECURITY_HEADERS]
        added += cors_headers(environ, self._settings.cors_origins)
        if environ.get("HTTP_X_FORWARDED_PROTO") == "https" and is_trusted_peer(environ, self._settings.trusted_proxies):
            added.append(STRICT_TRANSPORT)
        return added


def new_request_id(wanted: str = "") -> str:
    """The client's own id if it is safe to log, else a new one."""
    return wanted if wanted and _REQUEST_ID.fullmatch(wanted) else os.urandom(16).hex()


def log_access(method: str, path: str, status: str, seconds: float, request_id: str) -> None:
    """Log one request in one line, without query and headers: they may contain secrets."""
    # Escaped, so that no %0A or %1B in a path adds a line or controls a terminal.
    path = path[:200]
    if not (path.isascii() and path.isprintable()) or "\\" in path:
        path = path.encode("unicode_escape").decode()
    access.info("%s %s %s %.1fms %s", method, path, status, seconds * 1000, request_id)


def _check(environ: Mapping[str, Any]) -> None:
    """Refuse a request with an ambiguous method, host or path (RFC 9112, 3.2). The server checks the framing."""
    if not environ["REQUEST_METHOD"].isupper():  # Bottle would route "get" as GET
        raise errors.BadRequest("The method must be in capital letters.")
    host = environ.get("HTTP_HOST")
    if host is None and environ["SERVER_PROTOCOL"] != "HTTP/1.0":
        raise errors.BadRequest("HTTP/1.1 needs a Host header.")
    if host is not None and not HOST.fullmatch(host):
        raise errors.BadRequest("There must be one Host header: a name or address, and a port.")
    try:
        environ["PATH_INFO"].encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise errors.BadRequest("The path is not UTF-8.") from None


def _refuse(problem: errors.Problem, method: str, request_id: str, start: Callable[..., Any]) -> Iterable[bytes]:
    body = errors.render(problem, request_id)
    headers = [("Content-Type", errors.PROBLEM_JSON), ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
    start(f"{problem.status} {HTTPStatus(problem.status).phrase}", [*headers, *problem.headers.items()])
    return [] if method == "HEAD" else [body]
