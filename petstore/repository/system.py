"""Facts about the database (sql/queries/system)."""

from __future__ import annotations

from dataclasses import dataclass

from petstore.db import Connection, one_or_none, scalar


@dataclass(frozen=True)
class Shop:
    """What is fixed when the schema is made. identity: unique for each database."""

    version: int
    currency: str
    minor_digits: int
    identity: str


def get_shop(conn: Connection) -> Shop | None:
    """The facts about this database."""
    return one_or_none(conn, "system/get_shop", Shop)


def lock_housekeeping(conn: Connection) -> bool:
    """Take the lock of housekeeping until the transaction ends; False when another process has it."""
    return bool(scalar(conn, "system/lock_housekeeping"))


def is_housekeeping_late(conn: Connection) -> bool:
    """Whether something is still there that should have been removed more than an hour ago."""
    return bool(scalar(conn, "system/is_housekeeping_late"))
