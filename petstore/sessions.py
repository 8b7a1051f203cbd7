"""Logins: begun with tokens, refreshed, ended; and whether the one that an access token names still lives."""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import replace
from functools import partial

from petstore import errors
from petstore.calls import Answer, Call, Services
from petstore.repository import audit, sessions
from petstore.tokens import User

logger = logging.getLogger(__name__)


def check(services: Services, token: str, deadline: float) -> User:
    """Whom an access token speaks for, with the role of this moment; Unauthorized when it or its login is no longer good."""
    said = services.tokens.verify(token)
    ask = partial(sessions.get_caller, user_id=said.id, session_id=said.session_id, token_version=said.token_version)
    role = services.db.read(ask, deadline)
    if role is None:
        raise errors.LoginEnded()
    return replace(said, role=role)


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
            logger.warning("a refresh token of user %d was used twice, its login has ended; request %s", user_id, call.request_id)
        raise errors.WrongRefreshToken()
    return _tokens(call, user, new)


def end(call: Call, token: str) -> None:
    """End the login that a refresh token belongs to, if there is one."""
    call.write(partial(sessions.end_session, token_hash=_hash(token)))


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
