"""Logins: begun with tokens, refreshed, ended; and whether the one that an access token names still lives."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from petstore import errors
from petstore.auth.tokens import Caller
from petstore.cache.document import Fresh
from petstore.cache.local import Entry
from petstore.cache.prefixes import LOGINS
from petstore.domain.transactions import transact
from petstore.repository import sessions
from petstore.request import Request, Response
from petstore.services import Services

REMEMBERED_SECONDS = 2  # the most that a change may take to count that was made past the service, in psql
_SIZE = 1000  # bytes that a remembered login takes, about
logger = logging.getLogger(__name__)


def bearer(header: str) -> str | None:
    """The token of an Authorization header (RFC 6750, 2.1), None if it has none."""
    scheme, _, token = header.partition(" ")
    return token.lstrip(" ") or None if scheme.lower() == "bearer" else None


def authenticate(services: Services, token: str, deadline: float, generations: Mapping[str, str | None]) -> Caller:
    """Whom an access token speaks for, with the role of this moment; Unauthorized when it or its login is no longer good.

    The role is remembered for a few seconds, while nothing that ends or changes logins has been done to the account.
    generations: those that are known already, asked for after the request had come.
    """
    said = services.tokens.verify(token)
    prefix = LOGINS.format(user_id=said.id)
    known = services.local_cache.get(said)
    generation = generations[prefix] if prefix in generations else services.cache.generations([prefix])[prefix]
    if known is not None and known.generation == generation:
        return replace(said, role=known.value)
    asked_at = time.monotonic()
    role = services.db.read(
        lambda conn: sessions.get_caller(conn, user_id=said.id, session_id=said.session_id, token_version=said.token_version),
        deadline,
    )
    if role is None:
        raise errors.LoginEnded()
    if generation is not None:
        seconds = asked_at + REMEMBERED_SECONDS - time.monotonic()
        services.local_cache.keep(said, role, Fresh(prefix, generation, seconds), _SIZE)
    return replace(said, role=role)


def recall(services: Services, header: str | None) -> tuple[Caller, Entry] | tuple[None, None]:
    """Whom the token of an Authorization header speaks for, and their role, if both are remembered; see `authenticate`."""
    token = bearer(header) if header else None
    said = services.tokens.recall(token) if token else None
    known = services.local_cache.get(said) if said else None
    return (replace(said, role=known.value), known) if said and known else (None, None)


@contextmanager
def forgotten(request: Request, user_id: int) -> Iterator[None]:
    """Around a transaction that ends or changes logins of an account: no worker remembers them when it is answered."""
    try:
        yield
    except errors.OutcomeUnknown:
        forget(request.services, user_id)
        raise
    forget(request.services, user_id)


def forget(services: Services, user_id: int) -> None:
    """After the commit: what is remembered of the account's logins is no longer used, on every worker."""
    if not services.cache.invalidate(LOGINS.format(user_id=user_id)):
        time.sleep(REMEMBERED_SECONDS)  # others may reach Redis, and not hear of it: what they remember has ended then


def begin(request: Request, user_id: int, password: str) -> Response | None:
    """A new login of an account, whose hash `password` was checked; None when it is disabled, or the hash is another by now."""
    token = _new_token()
    seconds = request.services.settings.refresh_seconds
    session: dict[str, Any] = {"password": password, "address": request.address, "token_hash": _hash(token), "seconds": seconds}
    user = transact(request, lambda conn: sessions.create_session(conn, user_id=user_id, **session))
    return _tokens(request, user, token) if user else None


def refresh(request: Request, token: str) -> Response:
    """The next tokens of a login. A token that was used before is refused, and after 10 s its login ends."""
    new = _new_token()
    seconds = request.services.settings.refresh_seconds
    hashes = {"token_hash": _hash(token), "new_hash": _hash(new)}
    user = transact(request, lambda conn: sessions.refresh_session(conn, **hashes, seconds=seconds))
    if user is None:
        user_id = transact(request, lambda conn: sessions.end_reused_session(conn, token_hash=_hash(token)))
        if user_id is not None:
            forget(request.services, user_id)
            logger.warning(
                "a refresh token of user %d was used twice, its login has ended; request %s", user_id, request.request_id
            )
        raise errors.WrongRefreshToken()
    return _tokens(request, user, new)


def end(request: Request, token: str) -> None:
    """End the login that a refresh token belongs to, if there is one."""
    user_id = transact(request, lambda conn: sessions.end_session(conn, token_hash=_hash(token)))
    if user_id is not None:
        forget(request.services, user_id)


def _tokens(request: Request, user: Caller, refresh_token: str) -> Response:
    tokens = request.services.tokens
    access_token = tokens.issue(user)
    body = {"access_token": access_token, "token_type": "Bearer", "expires_in": tokens.seconds, "refresh_token": refresh_token}
    return Response(200, body)


def _new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
