"""The audit log (sql/queries/audit). Triggers write it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from petstore.db import Connection, enqueue_identity, execute, many, stream


@dataclass(frozen=True)
class Entry:
    """Who changed what, and when. actor_id: None for a change made in psql; fields: the columns that an update changed."""

    id: int
    created_at: datetime
    actor_id: int | None
    action: str
    subject_id: int
    fields: list[str]


@dataclass(frozen=True)
class OwnEntry(Entry):
    """A change by one user, or of their account. address: where the user's request came from; it is erased after 90 days."""

    address: str | None


def begin_request(conn: Connection, *, actor_id: int | None, address: str | None) -> None:
    """Tell the audit log who makes the request, and from where. It is sent in one round trip with the next query.

    It also asks the database what it is: `conn.identity`.
    """
    enqueue_identity(conn, "audit/begin_request", actor_id=actor_id, address=address)


def list_entries(conn: Connection, *, since: datetime | None, until: datetime | None, before: int, limit: int) -> list[Entry]:
    """At most `limit` entries older than the one with the id `before` (0: the newest), newest first."""
    return many(conn, "audit/list_entries", Entry, since=since, until=until, before=before, limit=limit)


def list_entries_by_action(
    conn: Connection, *, action: str, since: datetime | None, until: datetime | None, before: int, limit: int
) -> list[Entry]:
    """As `list_entries`, for one action."""
    period = {"since": since, "until": until}
    return many(conn, "audit/list_entries_by_action", Entry, action=action, **period, before=before, limit=limit)


def list_entries_by_actor(
    conn: Connection,
    *,
    actor_id: int,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    before: int,
    limit: int,
) -> list[Entry]:
    """As `list_entries`, for changes by one user. action: None for any."""
    filters = {"actor_id": actor_id, "action": action, "since": since, "until": until}
    return many(conn, "audit/list_entries_by_actor", Entry, **filters, before=before, limit=limit)


def list_own_entries(conn: Connection, *, user_id: int) -> Iterator[OwnEntry]:
    """All changes by one user, and of their account, oldest first."""
    return stream(conn, "audit/list_own_entries", OwnEntry, user_id=user_id)


def erase_addresses(conn: Connection, *, actor_id: int) -> int:
    """Erase the addresses of a user's requests; how many."""
    return execute(conn, "audit/erase_addresses", actor_id=actor_id)


def purge_addresses(conn: Connection) -> int:
    """Erase at most 1,000 addresses older than 90 days; how many."""
    return execute(conn, "audit/purge_addresses")
