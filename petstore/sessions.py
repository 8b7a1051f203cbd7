"""Logins: begun with tokens, refreshed, ended; and whether the one that an access token names still lives."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from petstore import errors
from petstore.calls import Answer, Call, Services
from petstore.db import Connection
from petstore.documents import Fresh
from petstore.memory import Kept
from petstore.repository import audit, sessions
from petstore.tokens import User

LOGINS = "logins:{user_id}"  # prefix of what is remembered of an account's logins
REMEMBERED_SECONDS = 2  # the most that a change may take to count that was made past the service, in psql
_SIZE = 1000  # bytes that a remembered login takes, about

T = TypeVar("T")

logger = logging.getLogger(__name__)


def bearer(header: str) -> str | None:
    """The token of an Authorization header (RFC 6750, 2.1), None if it has none."""
    scheme, _, token = header.partition(" ")
    return token.lstrip(" ") or None if scheme.lower() == "bearer" else None


def check(services: Services, token: str, deadline: float, generations: Mapping[str, str | None]) -> User:
    """Whom an access token speaks for, with the role of this moment; Unauthorized when it or its login is no longer good.

    The role is remembered for a few seconds, while nothing that ends or changes logins has been done to the account.
    generations: those that are known already, asked for after the request had come.
    """
    said = services.tokens.verify(token)
    prefix = LOGINS.format(user_id=said.id)
    known = services.memory.get(said)
    generation = generations[prefix] if prefix in generations else services.cache.generations([prefix])[prefix]
    if known is not None and known.generation == generation:
        return replace(said, role=known.value)
    asked_at = time.monotonic()
    ask = partial(sessions.get_caller, user_id=said.id, session_id=said.session_id, token_version=said.token_version)
    role = services.db.read(ask, deadline)
    if role is None:
        raise errors.LoginEnded()
    if generation is not None:
        seconds = asked_at + REMEMBERED_SECONDS - time.monotonic()
        services.memory.keep(said, role, Fresh(prefix, generation, seconds), _SIZE)
    return replace(said, role=role)


def recall(services: Services, header: str | None) -> tuple[User, Kept] | tuple[None, None]:
    """Whom the token of an Authorization header speaks for, and their role, if both are remembered; see `check`."""
    token = bearer(header) if header else None
    said = services.tokens.recall(token) if token else None
    known = services.memory.get(said) if said else None
    return (replace(said, role=known.value), known) if said and known else (None, None)


def write(call: Call, user_id: int, work: Callable[[Connection], T]) -> T:
    """As Call.write, for what ends or changes logins of an account: every worker forgets them before the answer."""
    try:
        result = call.write(work)
    except errors.OutcomeUnknown:
        forget(call.services, user_id)
        raise
    forget(call.services, user_id)
    return result


def forget(services: Services, user_id: int) -> None:
    """After the commit: what is remembered of the account's logins is no longer used, on every worker."""
    if not services.cache.invalidate(LOGINS.format(user_id=user_id)):
        time.sleep(REMEMBERED_SECONDS)  # others may reach Redis, and not hear of it: what they remember has ended then


def begin(call: Call, user_id: int, password: str) -> Answer | None:
    """A new login of an account, whose hash `password` was checked; None when it is disabled, or the hash is another by now."""
    token = _new_token()
    seconds = call.services.settings.refresh_seconds
    create = partial(sessions.create_session, user_id=user_id, password=password, address=call.address)
    user = call.write(partial(create, token_hash=_hash(token), seconds=seconds))
    return _tokens(call, user, token) if user else None


def refresh(call: Call, token: str) -> Answer:
    """The next tokens of a login. A token that was used before is refused, and after 10 s its login ends."""
    new = _new_token()
    seconds = call.services.settings.refresh_seconds
    trade = partial(sessions.refresh_session, token_hash=_hash(token), new_hash=_hash(new), seconds=seconds)
    user = call.write(trade)
    if user is None:
        user_id = call.write(partial(sessions.end_reused_session, token_hash=_hash(token)))
        if user_id is not None:
            forget(call.services, user_id)
            logger.warning("a refresh token of user %d was used twice, its login has ended; request %s", user_id, call.request_id)
        raise errors.WrongRefreshToken()
    return _tokens(call, user, new)


def end(call: Call, token: str) -> None:
    """End the login that a refresh token belongs to, if there is one."""
    user_id = call.write(partial(sessions.end_session, token_hash=_hash(token)))
    if user_id is not None:
        forget(call.services, user_id)


def _tokens(call: Call, user: User, refresh_token: str) -> Answer:
    call.tidy(sessions.purge_sessions, sessions.purge_refresh_tokens, audit.purge_addresses)
    tokens = call.services.tokens
    access_token = tokens.issue(user)
    body = {"access_token": access_token, "token_type": "Bearer", "expires_in": tokens.seconds, "refresh_token": refresh_token}
    return Answer(200, body)


def _new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
