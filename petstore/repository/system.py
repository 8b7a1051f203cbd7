"""Facts about the database (sql/queries/system)."""

from __future__ import annotations

from dataclasses import dataclass

from petstore.db import Connection, execute, one, scalar


@dataclass(frozen=True)
class Shop:
    """The schema version, and what is fixed when the schema is made.

    unsafe_versions: those that a release must know to serve. identity: what the database is, see get_identity.
    """

    version: int
    unsafe_versions: list[int]
    currency: str
    minor_digits: int
    identity: str


def get_shop(conn: Connection) -> Shop:
    """The facts about this database."""
    return one(conn, "system/get_shop", Shop)


def get_write_fault(conn: Connection) -> str | None:
    """Why writes cannot be done now: `read-only`, `commits-wait`; None if they can."""
    found: str | None = scalar(conn, "system/get_write_fault")
    return found


def get_identity(conn: Connection) -> str:
    """What this database is: `<instance_id>/<oid>@<file>/<timeline>/<start of the server>`. See sql/queries/system/_identity.sql.

    The part before the @ stays the same when the history changes: after a fail-over, a promotion, a recovery.
    """
    return str(scalar(conn, "system/get_identity"))


def lock_housekeeping(conn: Connection) -> bool:
    """Take the lock of housekeeping until the transaction ends; False when another process has it."""
    return bool(scalar(conn, "system/lock_housekeeping"))


def share_housekeeping(conn: Connection) -> None:
    """Wait for the end of a batch of housekeeping, and keep the next one out until the transaction ends."""
    execute(conn, "system/share_housekeeping")


def is_housekeeping_late(conn: Connection) -> bool:
    """Whether something is still there that should have been removed more than an hour ago."""
    return bool(scalar(conn, "system/is_housekeeping_late"))
