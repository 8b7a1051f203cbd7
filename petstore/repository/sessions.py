"""Logins (sessions) and their refresh tokens (sql/queries/sessions). Only the SHA-256 of a token is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from petstore.auth.refresh_tokens import Login
from petstore.auth.tokens import Caller
from petstore.db import Connection, execute, one_or_none, scalar, stream


@dataclass(frozen=True)
class Session:
    """A login as its user sees it. address: where it came from; live: whether its tokens are still valid."""

    id: int
    address: str | None
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    end_reason: str | None
    live: bool


@dataclass(frozen=True)
class Refreshed(Caller):
    """The caller of a refresh token. wait_seconds: 0 if it was replaced; else nothing was changed, and it has to wait so long."""

    wait_seconds: int = 0


@dataclass(frozen=True)
class RepeatedRefresh(Caller):
    """The caller of a refresh token that was used just now. next_unused: whether the token after it is unused."""

    next_unused: bool = False


def create_session(conn: Connection, *, user_id: int, password: str, address: str | None, seconds: int) -> Caller | None:
    """Begin a login; None when the account is not active or has another hash by now. seconds: life of the refresh token."""
    account = {"user_id": user_id, "password": password, "address": address}
    return one_or_none(conn, "sessions/create_session", Caller, **account, seconds=seconds)


def create_refresh_token(conn: Connection, *, token_hash: bytes, session_id: int) -> None:
    """Add the first refresh token of a login."""
    execute(conn, "sessions/create_refresh_token", token_hash=token_hash, session_id=session_id)


def get_caller(conn: Connection, *, user_id: int, session_id: int, token_version: int, session_uuid: str | None) -> str | None:
    """The present role of the user; None when the login has ended. session_uuid: None is not compared."""
    login = {"user_id": user_id, "session_id": session_id, "token_version": token_version, "session_uuid": session_uuid}
    found: str | None = scalar(conn, "sessions/get_caller", **login)
    return found


def refresh_session(
    conn: Connection, *, token_hash: bytes, new_hash: bytes, seconds: int, most: int, window_seconds: int
) -> Refreshed | None:
    """Replace a refresh token by the next one; None when it is unknown, used or expired.

    most: how many tokens a login may get within window_seconds.
    """
    return one_or_none(
        conn,
        "sessions/refresh_session",
        Refreshed,
        token_hash=token_hash,
        new_hash=new_hash,
        seconds=seconds,
        most=most,
        window_seconds=window_seconds,
    )


def get_login(conn: Connection, *, token_hash: bytes) -> Login | None:
    """The login of a refresh token, used or unused; None when the token is unknown."""
    return one_or_none(conn, "sessions/get_login", Login, token_hash=token_hash)


def get_repeated_refresh(conn: Connection, *, token_hash: bytes, next_hash: bytes) -> RepeatedRefresh | None:
    """The caller of a refresh token that was used at most 10 s ago; None when it was not, or its login has ended."""
    return one_or_none(conn, "sessions/get_repeated_refresh", RepeatedRefresh, token_hash=token_hash, next_hash=next_hash)


def end_reused_session(conn: Connection, *, token_hash: bytes, session_id: int | None, session_uuid: str | None) -> int | None:
    """End the login of a refresh token that was used more than 10 s ago; the user's id, or None.

    session_id, session_uuid: the login that the token names, None if it names none.
    """
    login = {"session_id": session_id, "session_uuid": session_uuid}
    found: int | None = scalar(conn, "sessions/end_reused_session", token_hash=token_hash, **login)
    return found


def end_session(conn: Connection, *, token_hash: bytes, session_id: int | None, session_uuid: str | None) -> int | None:
    """End the login of a refresh token; the user's id, or None when there is no such login.

    session_id, session_uuid: the login that the token names, None if it names none.
    """
    login = {"session_id": session_id, "session_uuid": session_uuid}
    found: int | None = scalar(conn, "sessions/end_session", token_hash=token_hash, **login)
    return found


def delete_sessions(conn: Connection, *, user_id: int) -> int:
    """Delete all logins of a user; how many."""
    return execute(conn, "sessions/delete_sessions", user_id=user_id)


def is_known_address(conn: Connection, *, email: str, address: str | None) -> bool:
    """Whether the user has logged in from this address before."""
    return bool(scalar(conn, "sessions/is_known_address", email=email, address=address))


def list_sessions(conn: Connection, *, user_id: int) -> Iterator[Session]:
    """The logins of a user that are still kept, oldest first."""
    return stream(conn, "sessions/list_sessions", Session, user_id=user_id)


def purge_sessions(conn: Connection) -> int:
    """Delete at most 1,000 logins that expired more than 30 days ago; how many."""
    return execute(conn, "sessions/purge_sessions")


def purge_refresh_tokens(conn: Connection) -> int:
    """Delete at most 1,000 refresh tokens that were used more than 30 days ago; how many."""
    return execute(conn, "sessions/purge_refresh_tokens")
