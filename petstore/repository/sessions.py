"""Logins and their refresh tokens, as sql/queries/sessions. Tokens are known by their SHA-256 only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from petstore.auth.tokens import Caller
from petstore.db import Connection, execute, many, one_or_none, scalar


@dataclass(frozen=True)
class Session:
    """A login as its owner may see it. address: where it came from; live: whether its tokens still count."""

    id: int
    address: str | None
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    end_reason: str | None
    live: bool


def create_session(
    conn: Connection, *, user_id: int, password: str, address: str | None, token_hash: bytes, seconds: int
) -> Caller | None:
    """Begin a login; None when the account is not active, or `password` is no longer its hash."""
    return one_or_none(
        conn,
        "sessions/create_session",
        Caller,
        user_id=user_id,
        password=password,
        address=address,
        token_hash=token_hash,
        seconds=seconds,
    )


def get_caller(conn: Connection, *, user_id: int, session_id: int, token_version: int) -> str | None:
    """The role that the user has now; None when the login is over."""
    ids = {"user_id": user_id, "session_id": session_id}
    found: str | None = scalar(conn, "sessions/get_caller", **ids, token_version=token_version)
    return found


def refresh_session(conn: Connection, *, token_hash: bytes, new_hash: bytes, seconds: int) -> Caller | None:
    """Trade a refresh token for the next one; None when it cannot be used, or not again."""
    return one_or_none(conn, "sessions/refresh_session", Caller, token_hash=token_hash, new_hash=new_hash, seconds=seconds)


def end_reused_session(conn: Connection, *, token_hash: bytes) -> int | None:
    """End the login of a token that was used more than 10 s ago; the account, or None."""
    found: int | None = scalar(conn, "sessions/end_reused_session", token_hash=token_hash)
    return found


def end_session(conn: Connection, *, token_hash: bytes) -> int | None:
    """End the login of a token, if it has not ended; the account, or None when there is none."""
    found: int | None = scalar(conn, "sessions/end_session", token_hash=token_hash)
    return found


def delete_sessions(conn: Connection, *, user_id: int) -> int:
    """Remove every login of an account; how many."""
    return execute(conn, "sessions/delete_sessions", user_id=user_id)


def is_known_address(conn: Connection, *, email: str, address: str | None) -> bool:
    """Whether this account was logged in to from this address before."""
    return bool(scalar(conn, "sessions/is_known_address", email=email, address=address))


def list_sessions(conn: Connection, *, user_id: int) -> list[Session]:
    """The logins of an account that are still kept, oldest first."""
    return many(conn, "sessions/list_sessions", Session, user_id=user_id)


def purge_sessions(conn: Connection) -> int:
    """Remove at most a thousand logins that expired more than 30 days ago; how many."""
    return execute(conn, "sessions/purge_sessions")


def purge_refresh_tokens(conn: Connection) -> int:
    """Remove at most a thousand refresh tokens that were used more than 30 days ago; how many."""
    return execute(conn, "sessions/purge_refresh_tokens")
