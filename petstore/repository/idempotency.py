"""Idempotency keys and their saved answers (sql/queries/idempotency)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from petstore.db import Connection, execute, one_or_none, scalar, stream


@dataclass(frozen=True)
class SavedAnswer:
    """The answer to the first request with a key. status: None while that request still runs."""

    fingerprint: bytes
    status: int | None
    location: str | None
    body: bytes | None


@dataclass(frozen=True)
class Key:
    """A key as its user sees it. status, location: of the saved answer."""

    route: str
    key: str
    status: int | None
    location: str | None
    created_at: datetime


def claim_key(conn: Connection, *, user_id: int, route: str, key: str, fingerprint: bytes) -> int | None:
    """Claim a key for this transaction; None when another transaction has it, or has committed with it."""
    found: int | None = scalar(conn, "idempotency/claim_key", user_id=user_id, route=route, key=key, fingerprint=fingerprint)
    return found


def get_answer(conn: Connection, *, user_id: int, route: str, key: str) -> SavedAnswer | None:
    """The answer to the first request with a key; None when there is none that is committed."""
    return one_or_none(conn, "idempotency/get_answer", SavedAnswer, user_id=user_id, route=route, key=key)


def save_answer(conn: Connection, *, user_id: int, route: str, key: str, status: int, location: str | None, body: bytes) -> int:
    """Save the answer to a key that this transaction has claimed."""
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


def save_refusal(conn: Connection, *, user_id: int, route: str, key: str, status: int, short: bytes, body: bytes) -> int:
    """Save a refusal to a key that this transaction has claimed.

    short: its form of schema version 13 (petstore.domain.refusals); body: what is saved on an older one.
    """
    return execute(
        conn,
        "idempotency/save_refusal",
        user_id=user_id,
        route=route,
        key=key,
        status=status,
        short=short,
        body=body,
    )


def get_wait(conn: Connection, *, user_id: int, most: int) -> int | None:
    """Seconds until a user has fewer than `most` keys beside the newest one; None if it has not more than `most`."""
    found: int | None = scalar(conn, "idempotency/get_wait", user_id=user_id, most=most)
    return found


def list_keys(conn: Connection, *, user_id: int) -> Iterator[Key]:
    """The keys of a user that are still kept, oldest first."""
    return stream(conn, "idempotency/list_keys", Key, user_id=user_id)


def delete_keys(conn: Connection, *, user_id: int) -> int:
    """Delete all keys of a user; how many."""
    return execute(conn, "idempotency/delete_keys", user_id=user_id)


def purge_keys(conn: Connection) -> int:
    """Delete at most 1,000 keys older than 24 hours; how many."""
    return execute(conn, "idempotency/purge_keys")
