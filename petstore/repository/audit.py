"""The audit log, as sql/queries/audit. It is written by triggers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from petstore.db import Connection, execute, many, run_later


@dataclass(frozen=True)
class Entry:
    """Who changed what, and when. actor_id: None for a change made in SQL; fields: the columns that an update changed."""

    id: int
    created_at: datetime
    actor_id: int | None
    action: str
    subject_id: int
    fields: list[str]


@dataclass(frozen=True)
class OwnEntry(Entry):
    """What one user did, or what was done to the account. address: from where the user did it, as long as it is kept."""

    address: str | None


def begin_request(conn: Connection, *, actor_id: int | None, address: str | None) -> None:
    """Tell the log who asks, and from where, before the transaction's first query and in one round trip with it."""
    run_later(conn, "audit/begin_request", actor_id=actor_id, address=address)


def list_entries(conn: Connection, *, since: datetime | None, until: datetime | None, before: int, limit: int) -> list[Entry]:
    """At most `limit` entries made before the one with the id `before`, newest first; 0: the first page."""
    return many(conn, "audit/list_entries", Entry, since=since, until=until, before=before, limit=limit)


def list_entries_by_action(
    conn: Connection, *, action: str, since: datetime | None, until: datetime | None, before: int, limit: int
) -> list[Entry]:
    """As `list_entries`, of one action."""
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
    """As `list_entries`, of what one user did; action: None for any."""
    filters = {"actor_id": actor_id, "action": action, "since": since, "until": until}
    return many(conn, "audit/list_entries_by_actor", Entry, **filters, before=before, limit=limit)


def list_own_entries(conn: Connection, *, user_id: int) -> list[OwnEntry]:
    """All that one user did, and what was done to the account, oldest first."""
    return many(conn, "audit/list_own_entries", OwnEntry, user_id=user_id)


def erase_addresses(conn: Connection, *, actor_id: int) -> int:
    """Erase from where a user acted; how many addresses."""
    return execute(conn, "audit/erase_addresses", actor_id=actor_id)


def purge_addresses(conn: Connection) -> int:
    """Erase at most a thousand addresses older than 90 days; how many."""
    return execute(conn, "audit/purge_addresses")
