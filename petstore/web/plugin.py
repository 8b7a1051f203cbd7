"""The Bottle plugin around every handler: checks the request, makes an HTTP response of what the handler returns or raises.

Checks come in the contract's order: body size, media type, token, role, query, JSON and its schema.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bottle import Bottle, HTTPError, HTTPResponse, Route
from bottle import request as bottle_request

from petstore import errors
from petstore.auth.tokens import Caller, Tokens
from petstore.cache.document import Document
from petstore.cache.waiting import WouldWait
from petstore.db.pool import REQUEST_SECONDS
from petstore.domain import logins
from petstore.domain.credentials import RESERVED_SECONDS
from petstore.limits.clients import client_networks, subscriber
from petstore.limits.exports import Turn
from petstore.request import FileDocument, Request, Response
from petstore.services import Services
from petstore.web import compression, parameters, response_cache, validation
from petstore.web.body import check_length_and_type, read_body
from petstore.web.headers import HTML, PAGE_POLICY, etag_matches, gzip_tag, prefers_html
from petstore.web.pages import problem_page

_COUNTED = "petstore.user_counted"
LANES, TURN = "petstore.lanes", "petstore.turn"  # keys of the environ: it is our own server; the Turn that the request has
_BEARER = "log in, and send the header Authorization: Bearer <access_token>"
ROLES = {"anyone": (), "user": ("user", "admin"), "admin": ("admin",)}  # a route's `auth`: the roles it lets in
logger = logging.getLogger(__name__)
Handler = Callable[[Request], "Document | FileDocument | Response"]


class RequestPlugin:
    """Gives a handler a checked Request. Reads the facts of its route, which petstore.app explains."""

    name, api = "request", 2

    def __init__(self, services: Services) -> None:
        self._services = services
        self._compressed_once = compression.CompressedOnce()

    def apply(self, handler: Handler, route: Route) -> Callable[..., HTTPResponse]:
        facts, name = route.config, f"{route.method} {route.rule}"
        kind = _kind(route.method, facts)
        reserved = RESERVED_SECONDS if facts.get("hashes") else 0
        schemas = parameters.schemas_of(facts.get("query", ()))
        conditional = [f"{one.method} {one.rule}" for one in route.app.routes if one.config.get("if_match")]
        for_people = facts.get("returns") == "text/html"

        def handle(**path: str) -> HTTPResponse:
            deadline = _received_at() + REQUEST_SECONDS  # includes the wait for a thread
            try:
                if time.monotonic() >= deadline - reserved:
                    raise errors.Unavailable("The service has more to do than it can; try again.")
                checked = self._check(facts, schemas, conditional, deadline)
                values = parameters.parse_path(path)
                if reserved:
                    self._services.db.expect_writes()  # before a password is hashed in vain
                turn = self._take_turn(checked["caller"]) if facts.get("by_turns") else None
                gzip = compression.asks_for_gzip(bottle_request.environ)
                request = Request(self._services, request_id(), deadline, name, values, **checked, turn=turn, takes_gzip=gzip)
                response = self._respond(request, handler(request), kind)
            except errors.Problem as problem:
                if problem.status == 500:
                    logger.exception("request %s failed", request_id())
                response = problem_response(problem, for_people)
            except Exception:
                logger.exception("request %s failed", request_id())
                response = problem_response(errors.InternalError(), for_people)
            return response

        return handle

    def _check(
        self, facts: Mapping[str, Any], schemas: Mapping[str, parameters.Schema], conditional: Sequence[str], deadline: float
    ) -> dict[str, Any]:
        """The members of the Request that the client sent, checked by the facts of the route.

        conditional: the routes that take an If-Match.
        """
        auth, body = facts["auth"], facts.get("body")
        length = check_length_and_type(bottle_request.environ)
        caller = self._authenticate(deadline) if auth != "anyone" else None
        if caller and caller.role not in ROLES[auth]:
            raise errors.Forbidden(f"Your role is {caller.role}; this takes the role {auth}.")
        raw = read_body(bottle_request.environ, length)
        if "HTTP_IF_MATCH" in bottle_request.environ and not facts.get("if_match"):
            raise parameters.fault("If-Match", f"is for {' and '.join(conditional)} only", kind="Header")
        if_match = parameters.if_match(bottle_request.environ.get("HTTP_IF_MATCH"))
        query_string = bottle_request.environ.get("QUERY_STRING", "")
        query = parameters.parse_query(query_string, schemas, facts.get("required", ()))
        take_key = parameters.idempotency_key if facts.get("idempotent") else parameters.no_idempotency_key
        key = take_key(bottle_request.environ.get("HTTP_IDEMPOTENCY_KEY"))
        value = None
        if body is not None:
            value = {} if facts.get("body_optional") and not raw else validation.parse_json(raw)
            validation.validate(body, value)
        address = bottle_request.environ["petstore.address"] or None
        return {"query": query, "body": value, "caller": caller, "address": address, "key": key, "if_match": if_match}

    def _take_turn(self, caller: Caller) -> Turn:
        """The caller's turn. Once it has one, our own server has a thread of another lane serve the request, with the turn."""
        environ = bottle_request.environ
        turn: Turn | None = environ.get(TURN)
        if turn is None:
            client = subscriber(client_networks(environ["petstore.address"]))
            turn = environ[TURN] = self._services.exports.take(caller.id, client)
            if LANES in environ:
                raise WouldWait
        return turn

    def _authenticate(self, deadline: float) -> Caller:
        token, generations = _token(bottle_request.environ), response_cache.known_generations(bottle_request.environ)
        caller = logins.authenticate(self._services, token, deadline, generations)
        if not bottle_request.environ.get(_COUNTED):  # it may have been handed on by a thread that may not wait
            bottle_request.environ[_COUNTED] = True
            self._services.request_rate.count(f"user {caller.id}")
        return caller

    def _respond(self, request: Request, result: Document | FileDocument | Response, kind: _Kind) -> HTTPResponse:
        if isinstance(result, Document):
            return self._respond_with_document(request, result, kind)
        if isinstance(result, FileDocument):
            return _respond_with_file(result, kind.cache_control)
        headers = {**result.headers, "Cache-Control": kind.cache_control}
        response = HTTPResponse(request.encode(result.value), result.status, headers)
        response.content_type = "application/json" if result.status < 400 else errors.PROBLEM_JSON
        return compression.negotiated(response, bottle_request.environ) if kind.may_be_compressed else response

    def _respond_with_document(self, request: Request, document: Document, kind: _Kind) -> HTTPResponse:
        environ = bottle_request.environ
        headers = {"ETag": document.etag, "Cache-Control": kind.cache_control, "Content-Length": str(len(document.body))}
        response = HTTPResponse(document.body, 200, headers)
        if document.cache is not None:
            response.set_header("X-Cache", document.cache)
        if document.content_type == HTML:
            response.set_header(*PAGE_POLICY)
        response.content_type = document.content_type
        in_gzip = kind.may_be_compressed and compression.negotiate(response, environ)
        kept = response_cache.CachedResponse(response.headerlist, document.body, document.etag)
        if etag_matches(environ.get("HTTP_IF_NONE_MATCH"), document.etag):
            response.status, response.body = 304, b""
            del response["Content-Length"]
            response.set_header("ETag", gzip_tag(document.etag) if in_gzip else document.etag)
        elif in_gzip:
            once = self._compressed_once.body(document.etag, document.body) if kind.is_static else kept.in_gzip()[1]
            compression.put_gzip(response, once)
        response_cache.store(self._services, environ, request.caller, kept, document.validity)
        return response


class _Kind(NamedTuple):
    """The answers of a route. is_static: they are pages and their files, of which there are only so many."""

    cache_control: str
    may_be_compressed: bool
    is_static: bool


def _kind(method: str, facts: Mapping[str, Any]) -> _Kind:
    cache_control = facts.get("cache_control") or _cache_control(method, facts["auth"])
    return _Kind(cache_control, not compression.holds_secret(facts), not facts.get("database", True))


def _respond_with_file(document: FileDocument, cache_control: str) -> HTTPResponse:
    etag = gzip_tag(document.etag) if document.in_gzip else document.etag
    headers = {"ETag": etag, "Cache-Control": cache_control, "Vary": "Accept-Encoding"}
    if etag_matches(bottle_request.environ.get("HTTP_IF_NONE_MATCH"), document.etag):
        document.file.close()
        return HTTPResponse(b"", 304, headers)
    response = HTTPResponse(document.file, 200, {**headers, "Content-Length": str(document.size)})
    response.content_type = Document.content_type
    if document.in_gzip:
        response.set_header("Content-Encoding", "gzip")
    return response


def problem_response(problem: errors.Problem, for_people: bool = False) -> HTTPResponse:
    """The HTTP response for an error. for_people: where a page could be, so that a browser gets one that explains the error."""
    response = HTTPResponse(errors.render(problem, request_id()), problem.status, problem.headers)
    response.content_type = errors.PROBLEM_JSON
    response.set_header("Cache-Control", "no-store")
    if for_people:
        response.set_header("Vary", "Accept")
        if prefers_html(bottle_request.environ.get("HTTP_ACCEPT", "")):
            response.body, response.content_type = problem_page(problem, request_id()), HTML
            response.set_header(*PAGE_POLICY)
    return compression.negotiated(response, bottle_request.environ)


def request_id() -> str:
    """The id of the current request, set by petstore.web.middleware."""
    return str(bottle_request.environ["petstore.request_id"])


def _received_at() -> float:
    """When the request arrived, in time.monotonic(). The wait for other accounts' exports does not count."""
    environ = bottle_request.environ
    return time.monotonic() if TURN in environ else float(environ["petstore.received_at"])


def end_turn(environ: Mapping[str, Any]) -> None:
    """End the turn of a request that was served, or whose client went away while it waited; not if its answer is being sent."""
    turn: Turn = environ[TURN]
    if not turn.sending:
        turn.end()


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
    check_length_and_type(environ)
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
