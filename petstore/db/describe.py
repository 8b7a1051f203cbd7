"""Ask PostgreSQL about a query without running it: its parameters and columns, and whether petstore_report may run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from petstore.db.connection import Connection
from petstore.db.errors import WrongQuery
from petstore.db.queries import Query


@dataclass(frozen=True)
class Description:
    """The SQL types of a query's parameters and columns, by name."""

    parameters: Mapping[str, str]
    columns: Mapping[str, str]


def describe(conn: Connection, query: Query) -> Description:
    """Let PostgreSQL prepare and describe a query. WrongQuery if it does not fit the schema."""
    try:
        described = conn.describe(query)
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith("42"):  # a lock, a time-out, a lost connection: not the query's fault
            raise
        raise WrongQuery(f"{query.name}.sql does not fit the database: {error.diag.message_primary}") from None
    return Description(
        parameters={name: _type(conn, described.param_type(i)) for i, name in enumerate(query.names)},
        columns={(described.fname(i) or b"").decode(): _type(conn, described.ftype(i)) for i in range(described.nfields)},
    )


def as_reporter(conn: Connection) -> None:
    """Drop all rights but those of petstore_report, until the transaction ends."""
    conn.execute("SET LOCAL ROLE petstore_report")


def check_rights(conn: Connection, report: Query) -> None:
    """Raise WrongQuery unless petstore_report may run this report. EXPLAIN checks rights, which preparing does not."""
    try:
        with conn.transaction(force_rollback=True):
            as_reporter(conn)
            conn.execute(b"EXPLAIN " + report.sql.encode(), dict.fromkeys(report.names))
    except psycopg.errors.InsufficientPrivilege as error:
        raise WrongQuery(f"sql/{report.name}.sql cannot be run as petstore_report: {error.diag.message_primary}") from None


def _type(conn: Connection, oid: int) -> str:
    info = conn.adapters.types.get(oid)
    if info is None:
        return f"oid {oid}"
    return info.regtype + ("[]" if oid == info.array_oid else "")
