"""Run a query file by its name. The function says what comes back: `one` row, `many`, a `scalar`, nothing (`execute`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from petstore.db.connection import Connection
from petstore.db.queries import Query, load_queries

Row = TypeVar("Row")
_BATCH = 500  # rows


def one(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> Row:
    """The only row of a query, as a dataclass. LookupError if there is none."""
    found = one_or_none(conn, name, row, **parameters)
    if found is None:
        raise LookupError(f"{name} gave no row")
    return found


def one_or_none(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> Row | None:
    """The only row of a query, as a dataclass; None if there is none."""
    return next(iter(many(conn, name, row, **parameters)), None)


def many(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> list[Row]:
    """Every row of a query, as dataclasses."""
    return conn.run(load_queries()[name], parameters, lambda names, values: row(**dict(zip(names, values, strict=True))))


def stream(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> Iterator[Row]:
    """Every row of a query, as dataclasses, with no more than a batch of them in memory. Only inside a transaction.

    Each batch is a statement of its own, with a deadline of its own.
    """
    query, cursor, found = load_queries()[name], f'"{name}"', _BATCH
    conn.queue_command("SET LOCAL cursor_tuple_fraction = 1")  # plan for all rows: all will be fetched
    conn.queue_command(f"DECLARE {cursor} NO SCROLL CURSOR FOR {query.numbered()}", conn.dump(query, parameters))
    while found == _BATCH:
        conn.queue_command(f"FETCH {_BATCH} FROM {cursor}")
        batch = conn.load(lambda names, values: row(**dict(zip(names, values, strict=True))))
        found = len(batch)
        yield from batch
    conn.queue_command(f"CLOSE {cursor}")


def scalar(conn: Connection, name: str, /, **parameters: Any) -> Any:
    """The first column of a query's only row; None if there is no row."""
    return next(iter(conn.run(load_queries()[name], parameters, lambda _, values: values[0])), None)


def rows(conn: Connection, query: Query, /, **parameters: Any) -> list[dict[str, Any]]:
    """Every row of a Query (one that is not in sql/queries), as dicts by column."""
    return conn.run(query, parameters, lambda names, values: dict(zip(names, values, strict=True)))


def execute(conn: Connection, name: str, /, **parameters: Any) -> int:
    """Run a query that returns nothing; the number of rows it touched."""
    return conn.count(load_queries()[name], parameters)


def enqueue(conn: Connection, name: str, /, **parameters: Any) -> None:
    """Queue a query: it is sent in one round trip with the next one. Its error is raised then, its result is dropped."""
    conn.queue(load_queries()[name], parameters)


def enqueue_identity(conn: Connection, name: str, /, **parameters: Any) -> None:
    """As `enqueue`, for a query whose only value is the identity of the database: it becomes `conn.identity`."""
    conn.queue(load_queries()[name], parameters, conn.learn_identity)
