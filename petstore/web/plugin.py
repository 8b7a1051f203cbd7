"""The Bottle plugin around every handler: checks the request, makes an HTTP response of what the handler returns or raises.

Checks come in the contract's order: body size, media type, token, role, query, JSON and its schema.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from bottle import Bottle, HTTPError, HTTPResponse, Route
from bottle import request as bottle_request

from petstore import errors
from petstore.auth.tokens import Caller, Tokens
from petstore.cache.document import Document
from petstore.db.pool import REQUEST_SECONDS
from petstore.domain import logins
from petstore.domain.credentials import RESERVED_SECONDS
from petstore.request import Request, Response
from petstore.services import Services
from petstore.web import parameters, response_cache, validation
from petstore.web.headers import HTML, PAGE_POLICY, etag_matches

_LENGTH = re.compile("[0-9]{1,4000}")  # int() takes no more than 4,300 digits
_COUNTED = "petstore.user_counted"
_BEARER = "log in, and send the header Authorization: Bearer <access_token>"
ROLES = {"anyone": (), "user": ("user", "admin"), "admin": ("admin",)}  # a route's `auth`: the roles it lets in
logger = logging.getLogger(__name__)
Handler = Callable[[Request], "Document | Response"]


class RequestPlugin:
    """Gives a handler a checked Request. Reads the facts of its route, which petstore.app explains."""

    name, api = "request", 2

    def __init__(self, services: Services) -> None:
        self._services = services

    def apply(self, handler: Handler, route: Route) -> Callable[..., HTTPResponse]:
        facts, name = route.config, f"{route.method} {route.rule}"
        cache_control = facts.get("cache_control") or _cache_control(route.method, facts["auth"])
        reserved = RESERVED_SECONDS if facts.get("hashes") else 0
        schemas = parameters.schemas_of(facts.get("query", ()))

        def handle(**path: str) -> HTTPResponse:
            deadline = bottle_request.environ["petstore.received_at"] + REQUEST_SECONDS  # includes the wait for a thread
            try:
                if time.monotonic() >= deadline - reserved:
                    raise errors.Unavailable("The service has more to do than it can; try again.")
                checked = self._check(facts, schemas, deadline)
                values = parameters.parse_path(path)
                if reserved:
                    self._services.db.expect_writes()  # before a password is hashed in vain
                request = Request(self._services, request_id(), deadline, name, values, **checked)
                response = self._respond(request, handler(request), cache_control)
            except errors.Problem as problem:
                if problem.status == 500:
                    logger.exception("request %s failed", request_id())
                response = problem_response(problem)
            except Exception:
                logger.exception("request %s failed", request_id())
                response = problem_response(errors.InternalError())
            return response

        return handle

    def _check(self, facts: Mapping[str, Any], schemas: Mapping[str, parameters.Schema], deadline: float) -> dict[str, Any]:
        """The members of the Request that the client sent, checked by the facts of the route."""
        auth, body = facts["auth"], facts.get("body")
        length = _check_length_and_type(bottle_request.environ)
        caller = self._authenticate(deadline) if auth != "anyone" else None
        if caller and caller.role not in ROLES[auth]:
            raise errors.Forbidden(f"Your role is {caller.role}; this takes the role {auth}.")
        raw = _read_body(bottle_request.environ, length)
        query_string = bottle_request.environ.get("QUERY_STRING", "")
        query = parameters.parse_query(query_string, schemas, facts.get("required", ()))
        key = parameters.idempotency_key(bottle_request.environ.get("HTTP_IDEMPOTENCY_KEY")) if facts.get("idempotent") else None
        value = None
        if body is not None:
            value = {} if facts.get("body_optional") and not raw else validation.parse_json(raw)
            validation.validate(body, value)
        address = bottle_request.environ["petstore.address"] or None
        return {"query": query, "body": value, "caller": caller, "address": address, "key": key}

    def _authenticate(self, deadline: float) -> Caller:
        token, generations = _token(bottle_request.environ), response_cache.known_generations(bottle_request.environ)
        caller = logins.authenticate(self._services, token, deadline, generations)
        if not bottle_request.environ.get(_COUNTED):  # it may have been handed on by a thread that may not wait
            bottle_request.environ[_COUNTED] = True
            self._services.request_rate.count(f"user {caller.id}")
        return caller

    def _respond(self, request: Request, result: Document | Response, cache_control: str) -> HTTPResponse:
        if isinstance(result, Document):
            return self._respond_with_document(request, result, cache_control)
        response = HTTPResponse(request.encode(result.value), result.status, {**result.headers, "Cache-Control": cache_control})
        response.content_type = "application/json" if result.status < 400 else errors.PROBLEM_JSON
        return response

    def _respond_with_document(self, request: Request, document: Document, cache_control: str) -> HTTPResponse:
        headers = {"ETag": document.etag, "Cache-Control": cache_control, "Content-Length": str(len(document.body))}
        response = HTTPResponse(document.body, 200, headers)
        if document.cache is not None:
            response.set_header("X-Cache", document.cache)
        if document.content_type == HTML:
            response.set_header(*PAGE_POLICY)
        response.content_type = document.content_type
        response_cache.store(self._services, bottle_request.environ, request.caller, document, response.headerlist)
        if etag_matches(bottle_request.environ.get("HTTP_IF_NONE_MATCH"), document.etag):
            response.status, response.body = 304, b""
            del response["Content-Length"]
        return response


def problem_response(problem: errors.Problem) -> HTTPResponse:
    """The HTTP response for an error."""
    response = HTTPResponse(errors.render(problem, request_id()), problem.status, problem.headers)
    response.content_type = errors.PROBLEM_JSON
    response.set_header("Cache-Control", "no-store")
    return response


def request_id() -> str:
    """The id of the current request, set by petstore.web.middleware."""
    return str(bottle_request.environ["petstore.request_id"])


def _cache_control(method: str, auth: str) -> str:
    if method != "GET":
        return "no-store"
    return "no-cache" if auth == "anyone" else "private, no-cache"


def check_head(router: Bottle, tokens: Tokens, environ: Mapping[str, Any]) -> None:
    """Raise a Problem if a request is refused whatever its body is: no such route, too large, another media type, no good token.

    It looks neither into the database nor into the cache. environ: that of the request, without a body.
    """
    path = environ["PATH_INFO"].encode("latin-1").decode()
    try:
        route, _ = router.router.match({**environ, "PATH_INFO": path})
    except HTTPError as error:
        raise errors.NotFound() from error  # or 405
    _check_length_and_type(environ)
    if route.config["auth"] != "anyone":
        tokens.verify(_token(environ))


def _token(environ: Mapping[str, Any]) -> str:
    header = environ.get("HTTP_AUTHORIZATION")
    if header is None:
        raise errors.Unauthorized(f"This needs an access token: {_BEARER}.")
    token = logins.bearer(header)
    if token is None:
        raise errors.Unauthorized(f"The Authorization header has no Bearer token: {_BEARER}.")
    return token


def _check_length_and_type(environ: Mapping[str, Any]) -> int:
    """The Content-Length, 0 without one. Neither the length nor the media type needs the body."""
    length = _content_length(environ)
    if length > validation.MAX_BODY:
        raise _too_large()
    if length and not _is_json(environ):
        raise errors.UnsupportedMediaType()
    return length


def _read_body(environ: Mapping[str, Any], length: int) -> bytes:
    raw = _read_input(environ, length)
    if len(raw) > validation.MAX_BODY:
        raise _too_large()
    if len(raw) < length:
        raise errors.BadRequest("The body ends before its Content-Length.")
    if raw and not _is_json(environ):  # a chunked body may be empty, so its media type is looked at here
        raise errors.UnsupportedMediaType()
    return raw


def _too_large() -> errors.TooLarge:
    return errors.TooLarge(f"The body is larger than {validation.MAX_BODY} bytes.")


def _content_length(environ: Mapping[str, Any]) -> int:
    text = environ.get("CONTENT_LENGTH") or "0"
    if not _LENGTH.fullmatch(text):
        raise errors.BadRequest("Content-Length must be a number.")
    return int(text)


def _read_input(environ: Mapping[str, Any], length: int) -> bytes:
    """At most MAX_BODY + 1 bytes. A server that does not mark the end of a body may block in a read past it (PEP 3333)."""
    marked = environ.get("wsgi.input_terminated")
    if not marked and "HTTP_TRANSFER_ENCODING" in environ:
        raise errors.NotImplementedHere("This server takes a body with a Content-Length only.")
    try:
        raw: bytes = environ["wsgi.input"].read(validation.MAX_BODY + 1 if marked else length)
    except Exception as error:  # each server has its own, for a bad chunk or a client that went away
        raise errors.BadRequest("The body cannot be read.") from error
    return raw


def _is_json(environ: Mapping[str, Any]) -> bool:
    kind, _, parameters = environ.get("CONTENT_TYPE", "").partition(";")
    charset = parameters.strip("; \t").lower().replace('"', "")
    return (
        kind.strip().lower() == "application/json"
        and charset in ("", "charset=utf-8", "charset=utf8")
        and environ.get("HTTP_CONTENT_ENCODING", "identity").lower() == "identity"
    )
