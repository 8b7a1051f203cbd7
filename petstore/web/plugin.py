"""The Bottle plugin around every handler: checks the request. petstore.web.responses makes the answer.

Checks come in the contract's order: body size, media type, token, role, query, JSON and its schema.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

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
from petstore.web.responses import Responses, kind_of, problem_response, request_id

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
        self._responses = Responses(services)

    def apply(self, handler: Handler, route: Route) -> Callable[..., HTTPResponse]:
        facts, name, kind = route.config, f"{route.method} {route.rule}", kind_of(route.method, route.config)
        reserved = RESERVED_SECONDS if facts.get("hashes") else 0
        conditional = [f"{one.method} {one.rule}" for one in route.app.routes if one.config.get("if_match")]
        check = partial(self._check, facts, parameters.schemas_of(facts.get("query", ())), conditional)
        for_people = facts.get("returns") == "text/html"

        def handle(**path: str) -> HTTPResponse:
            deadline = _received_at() + REQUEST_SECONDS  # includes the wait for a thread
            try:
                if time.monotonic() >= deadline - reserved:
                    raise errors.Unavailable("The service has more to do than it can; try again.")
                checked, values = check(deadline), parameters.parse_path(path)
                if reserved:
                    self._services.db.expect_writes()  # before a password is hashed in vain
                turn = self._take_turn(checked["caller"]) if facts.get("by_turns") else None
                gzip = compression.asks_for_gzip(bottle_request.environ)
                request = Request(self._services, request_id(), deadline, name, values, **checked, turn=turn, takes_gzip=gzip)
                response = self._responses.respond(request, handler(request), kind)
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
            value = {} if facts.get("body_optional") and not raw else validation.parse_json(raw, body)
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


def _received_at() -> float:
    """When the request arrived, in time.monotonic(). The wait for other accounts' exports does not count."""
    environ = bottle_request.environ
    return time.monotonic() if TURN in environ else float(environ["petstore.received_at"])


def end_turn(environ: Mapping[str, Any]) -> None:
    """End the turn of a request that was served, or whose client went away while it waited; not if its answer is being sent."""
    turn: Turn = environ[TURN]
    if not turn.sending:
        turn.end()


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
