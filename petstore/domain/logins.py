"""Logins: begin, refresh and end one, and find the caller of an access token."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from petstore import errors
from petstore.auth.refresh_tokens import Login, hash_of
from petstore.auth.tokens import Caller
from petstore.cache.document import Validity
from petstore.cache.local import Entry
from petstore.cache.prefixes import LOGINS
from petstore.cache.waiting import resting
from petstore.db import Connection
from petstore.domain.transactions import transact
from petstore.limits.policies import used_up
from petstore.repository import sessions
from petstore.repository.sessions import Refreshed, RepeatedRefresh
from petstore.request import Request, Response
from petstore.services import Services

CACHED_SECONDS = 2  # the longest that a login is cached: a change made in psql takes effect within this time
# Refresh tokens that a login may get within the window: more than a client wants that refreshes at every page it loads.
REFRESHES, REFRESH_WINDOW_SECONDS = 100, 600
_ENTRY_BYTES = 1000  # about what a cached login takes
logger = logging.getLogger(__name__)


def bearer(header: str) -> str | None:
    """The token of an Authorization header (RFC 6750, 2.1), or None."""
    scheme, _, token = header.partition(" ")
    return token.lstrip(" ") or None if scheme.lower() == "bearer" else None


def authenticate(services: Services, token: str, deadline: float, generations: Mapping[str, str | None]) -> Caller:
    """The caller of an access token, with their present role. Unauthorized when the token or its login is no longer valid.

    The role is cached for CACHED_SECONDS, as long as the cache generation of the account's logins stays the same.
    generations: those that the server has read from the cache already, after the request arrived; others are read here.
    """
    claimed = services.tokens.verify(token)
    prefix = LOGINS.format(user_id=claimed.id)
    entry = services.local_cache.get(claimed)
    generation = generations[prefix] if prefix in generations else services.cache.generations([prefix])[prefix]
    if entry is not None and entry.generation == generation:
        return replace(claimed, role=entry.value)
    asked_at = time.monotonic()
    role = services.db.read(lambda conn: _present_role(conn, claimed), deadline)
    if role is None:
        raise errors.LoginEnded()
    if generation is not None:
        seconds = asked_at + CACHED_SECONDS - time.monotonic()
        services.local_cache.keep(claimed, role, Validity(prefix, generation, seconds), _ENTRY_BYTES)
    return replace(claimed, role=role)


def _present_role(conn: Connection, claimed: Caller) -> str | None:
    return sessions.get_caller(
        conn,
        user_id=claimed.id,
        session_id=claimed.session_id,
        token_version=claimed.token_version,
        session_uuid=claimed.session_uuid,
    )


def cached_caller(services: Services, header: str | None) -> tuple[Caller, Entry] | tuple[None, None]:
    """The caller of an Authorization header, if token and role are cached. The entry's generation is not checked here."""
    token = bearer(header) if header else None
    claimed = services.tokens.verified_before(token) if token else None
    entry = services.local_cache.get(claimed) if claimed else None
    return (replace(claimed, role=entry.value), entry) if claimed and entry else (None, None)


@contextmanager
def invalidating(request: Request, user_id: int) -> Iterator[None]:
    """Around a transaction that ends or changes logins of an account: afterwards no worker uses what it has cached of them."""
    try:
        yield
    except errors.OutcomeUnknown:
        invalidate(request.services, user_id)
        raise
    invalidate(request.services, user_id)


def invalidate(services: Services, user_id: int) -> None:
    """Make the cached logins of an account invalid in every worker. Call it after the commit."""
    if not services.cache.invalidate(LOGINS.format(user_id=user_id)):
        resting.sleep(CACHED_SECONDS)  # Redis is down, perhaps for this worker alone: by then all entries have expired


def begin(request: Request, user_id: int, password: str) -> Response | None:
    """Begin a login. password: the hash that was checked. None when the account is disabled, or has another password by now."""
    refresh_tokens, seconds = request.services.refresh_tokens, request.services.settings.refresh_seconds
    session: dict[str, Any] = {"password": password, "address": request.address, "seconds": seconds}

    def work(conn: Connection) -> Response | None:
        caller = sessions.create_session(conn, user_id=user_id, **session)
        if caller is None:
            return None
        token = refresh_tokens.first(Login(caller.session_id, caller.session_uuid))
        sessions.create_refresh_token(conn, token_hash=hash_of(token), session_id=caller.session_id)
        return _token_response(request, caller, token)

    return transact(request, work)


def refresh(request: Request, token: str) -> Response:
    """Exchange a refresh token for the next tokens of its login. Shown again within 10 s, it gives the same refresh token.

    RefreshTokenJustUsed when that one is used. After 10 s a used token ends its login (it may be stolen): WrongRefreshToken.
    TooManyRequests when the login got its REFRESHES; the token stays valid.
    """
    caller, new = transact(request, lambda conn: _exchange(request, conn, token))
    if caller is None:
        _end_reused(request, token)
        raise errors.WrongRefreshToken()
    if isinstance(caller, Refreshed) and caller.wait_seconds:
        raise _too_many_refreshes(caller.wait_seconds)
    if isinstance(caller, RepeatedRefresh) and not caller.next_unused:
        raise errors.RefreshTokenJustUsed()
    return _token_response(request, caller, new)


def _exchange(request: Request, conn: Connection, token: str) -> tuple[Caller | None, str]:
    """The caller and the next token: Refreshed, or RepeatedRefresh if the token was used within 10 s. None: it is not valid."""
    login = request.services.refresh_tokens.login_of(token) or sessions.get_login(conn, token_hash=hash_of(token))
    if login is None:
        return None, ""
    new = request.services.refresh_tokens.successor(token, login)
    token_hash, next_hash = hash_of(token), hash_of(new)
    given: dict[str, Any] = {"seconds": request.services.settings.refresh_seconds}
    limit: dict[str, Any] = {"most": REFRESHES, "window_seconds": REFRESH_WINDOW_SECONDS}
    refreshed = sessions.refresh_session(conn, token_hash=token_hash, new_hash=next_hash, **given, **limit)
    return refreshed or sessions.get_repeated_refresh(conn, token_hash=token_hash, next_hash=next_hash), new


def _end_reused(request: Request, token: str) -> None:
    """End the login of a token that was used more than 10 s ago."""
    user_id = transact(request, lambda conn: sessions.end_reused_session(conn, **_named(request, token)))
    if user_id is not None:
        invalidate(request.services, user_id)
        logger.warning("a refresh token of user %d was reused: login revoked; request %s", user_id, request.request_id)


def _named(request: Request, token: str) -> dict[str, Any]:
    """What a refresh token tells: parameters of the queries that find its login, also when it is no longer stored."""
    login = request.services.refresh_tokens.login_of(token)
    session_id, session_uuid = (login.session_id, login.session_uuid) if login else (None, None)
    return {"token_hash": hash_of(token), "session_id": session_id, "session_uuid": session_uuid}


def _too_many_refreshes(seconds: int) -> errors.TooManyRequests:
    fields = used_up("refresh", f"q={REFRESHES};w={REFRESH_WINDOW_SECONDS}", seconds)
    detail = f"A login gets at most {REFRESHES} refresh tokens in {REFRESH_WINDOW_SECONDS // 60} minutes; \
this one stays valid: try again in {seconds} s."
    return errors.TooManyRequests(detail, seconds, fields)


def end(request: Request, token: str) -> None:
    """End the login of a refresh token. An unknown token is no error."""
    user_id = transact(request, lambda conn: sessions.end_session(conn, **_named(request, token)))
    if user_id is not None:
        invalidate(request.services, user_id)


def _token_response(request: Request, caller: Caller, refresh_token: str) -> Response:
    tokens = request.services.tokens
    access_token = tokens.issue(caller)
    body = {"access_token": access_token, "token_type": "Bearer", "expires_in": tokens.seconds, "refresh_token": refresh_token}
    return Response(200, body)
