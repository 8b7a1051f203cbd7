"""What the database is, as sql/queries/system."""

from __future__ import annotations

from dataclasses import dataclass

from petstore.db import Connection, one_or_none


@dataclass(frozen=True)
class Shop:
    """The facts that are fixed when the schema is made. identity: no other database has it."""

    version: int
    currency: str
    minor_digits: int
    identity: str


def get_shop(conn: Connection) -> Shop | None:
    """What this database is."""
    return one_or_none(conn, "system/get_shop", Shop)
