"""The catalog of a database: what its schema is made of, and what the migrations make (sql/catalog.csv)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from petstore.db.connection import Connection
from petstore.db.queries import load_tools, sql_folder

VERSION = "schema version"  # the kind of those rows of the file that say which versions it knows
Key = tuple[str, str]  # kind and name


@dataclass(frozen=True)
class Fact:
    """A row of sql/tools/describe_schema.sql, whose header says what its columns are."""

    kind: str
    name: str
    makes: str
    alters: str | None = None
    drops: str | None = None

    @property
    def key(self) -> Key:
        """What there is one of in a database."""
        return self.kind, self.name


Wanted = Mapping[Key, Sequence[Fact]]
# What is part of something else, and goes and comes with it.
PARTS = {
    "column", "not null", "default", "identity", "constraint state", "index state", "trigger state", "rule state", "owner",
    "owner right", "persistence", "row security", "foreign key triggers", "inheritance", "table option", "grant",
}  # fmt: skip


@dataclass(frozen=True)
class _Row:
    since: int
    until: int | None
    fact: Fact


def describe(conn: Connection) -> list[Fact]:
    """The facts of a database, in an order in which their `makes` can be run."""
    return conn.run(load_tools()["tools/describe_schema"], {}, lambda _, values: Fact(*values))


def count(version: int) -> int:
    """How many facts a database of this schema version is compared in. LookupError: see `wanted`."""
    return len(wanted(version, 0))


def wanted(version: int, minor_digits: int) -> Wanted:
    """The facts of a version. Two forms of one: PostgreSQL prints some expressions in another way after a dump and restore.

    LookupError: the file does not know this version, because it is newer than this release or older than the first migration.
    """
    known = [int(row.fact.name) for row in _rows() if row.fact.kind == VERSION]
    if version not in known:
        raise LookupError(f"sql/catalog.csv describes schema version {min(known)} to {max(known)}, not {version}")
    facts: dict[Key, list[Fact]] = {}
    for row in _rows():
        if row.since <= version and (row.until is None or version < row.until) and row.fact.kind != VERSION:
            fact = row.fact
            makes = fact.makes.replace(":minor_digits", str(minor_digits))
            facts.setdefault(fact.key, []).append(Fact(fact.kind, fact.name, makes, fact.alters))
    return facts


@cache
def _rows() -> Sequence[_Row]:
    with (sql_folder() / "catalog.csv").open(encoding="utf-8", newline="") as file:
        return [
            _Row(int(since), int(until) if until else None, Fact(kind, name, makes, alters or None))
            for since, until, kind, name, makes, alters in list(csv.reader(file))[1:]
        ]
