"""Drift: what was changed in the database by hand, by which the books or the service may become wrong or slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from petstore.db import Connection
from petstore.db.differences import Difference, differences
from petstore.db.schema import is_migrating
from petstore.errors import Problem
from petstore.repository import system

_SECONDS = 10.0  # a look takes about 10 ms
_SHOWN = 20
# What a purchase and its payment read and write. Without a right on it the service would start and refuse its customers.
_NEEDED = {
    "schema m2_be_project", "shop", "schema_version", "users", "sessions", "products", "invoices", "invoice_details",
    "invoice_events", "invoice_transitions", "idempotency_keys", "stock_movements", "audit_log", "number_series",
    "begin_request(jsonb)", "stock_cause(text, bigint, bigint, text)", "next_number(text)",
}  # fmt: skip


def harmful_differences(conn: Connection) -> list[Difference] | None:
    """Those that harm. None if that is not known: of a schema version that is newer than this release, or during a migration.

    What a migration has made before it is recorded is no drift.
    """
    shop = system.get_shop(conn)
    with conn.transaction():
        conn.execute("SET LOCAL lock_timeout = '200ms'")  # what describes a table waits for an ALTER TABLE of it
        try:
            found = [one for one in differences(conn, shop.version, shop.minor_digits) if one.harmful]
        except LookupError:
            return None
    return None if found and is_migrated(conn, shop.version) else found


def is_migrated(conn: Connection, version: int) -> bool:
    """Whether the schema is being migrated, or is no longer of this version."""
    return is_migrating(conn) or system.get_shop(conn).version != version


def missing_rights(conn: Connection) -> list[Difference]:
    """The rights that every payment needs and petstore_app lacks, or petstore_owner, as whom the triggers write."""
    return [one for one in harmful_differences(conn) or () if one.kind == "grant" and _is_needed(one.name)]


def _is_needed(name: str) -> bool:
    """name: `invoices.status petstore_app UPDATE`."""
    granted, _, role = name.rpartition(" petstore_")
    return role.startswith(("app ", "owner ")) and not _NEEDED.isdisjoint((granted, granted.partition(".")[0]))


_Found = list[Difference] | None


class DriftWatch:
    """The sentences that say what drifted, looked for when they are asked for, at most every 10 s."""

    def __init__(self) -> None:
        self._look_at = 0.0  # time.monotonic()
        self._sentences: list[str] | None = None

    def sentences(self, read: Callable[[Callable[[Connection], _Found]], _Found]) -> list[str] | None:
        """At most 20 of them; None if nobody knows. read: runs a query. If the query fails, they are those of the last look."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _SECONDS
            with suppress(Problem):
                if (found := read(harmful_differences)) is not None:
                    self._sentences = [one.public_sentence for one in found[:_SHOWN]]
        return self._sentences
