"""Answers kept for retries, as sql/queries/idempotency."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from petstore.db import Connection, execute, many, one_or_none, scalar


@dataclass(frozen=True)
class SavedAnswer:
    """The answer that the first request with a key was given. status: None only while that one runs."""

    fingerprint: bytes
    status: int | None
    location: str | None
    body: bytes | None


@dataclass(frozen=True)
class Key:
    """A key as its owner may see it. status, location: of the answer that was given."""

    route: str
    key: str
    status: int | None
    location: str | None
    created_at: datetime


def claim_key(conn: Connection, *, user_id: int, route: str, key: str, fingerprint: bytes) -> int | None:
    """Take a key for this transaction; None when it is taken, by one that is committed or that is running."""
    found: int | None = scalar(conn, "idempotency/claim_key", user_id=user_id, route=route, key=key, fingerprint=fingerprint)
    return found


def get_answer(conn: Connection, *, user_id: int, route: str, key: str) -> SavedAnswer | None:
    """The answer that was given to the first request with a key."""
    return one_or_none(conn, "idempotency/get_answer", SavedAnswer, user_id=user_id, route=route, key=key)


def save_answer(conn: Connection, *, user_id: int, route: str, key: str, status: int, location: str | None, body: bytes) -> int:
    """Keep an answer beside its key."""
    return execute(
        conn,
        "idempotency/save_answer",
        user_id=user_id,
        route=route,
        key=key,
        status=status,
        location=location,
        body=body,
    )


def list_keys(conn: Connection, *, user_id: int) -> list[Key]:
    """The keys of an account that are still kept, oldest first."""
    return many(conn, "idempotency/list_keys", Key, user_id=user_id)


def delete_keys(conn: Connection, *, user_id: int) -> int:
    """Remove every key of an account; how many."""
    return execute(conn, "idempotency/delete_keys", user_id=user_id)


def purge_keys(conn: Connection) -> int:
    """Remove at most a thousand keys older than 24 hours; how many."""
    return execute(conn, "idempotency/purge_keys")
