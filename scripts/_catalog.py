"""Writes sql/catalog.csv: what each schema version is made of, and since when."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from petstore import db
from petstore.db import catalog, schema
from petstore.db.migrations import Migration, load_migrations
from petstore.db.queries import sql_folder

CATALOG = sql_folder() / "catalog.csv"
BASELINE = sql_folder().parent / "tests" / "db" / "baseline.sql"  # the schema of the first release
MINOR_DIGITS = 2  # of the US dollar


@dataclass(eq=False)
class _Row:
    """A fact, and the versions that have it. One that goes and comes again has several."""

    since: int
    fact: catalog.Fact
    until: int | None = None


def catalog_text(url: str, trial: Mapping[int, Migration] | None = None) -> str:
    """The file. url: of an empty database, as a superuser; it has the newest schema afterwards.

    trial: migrations after the newest one.
    """
    rows: list[_Row] = []
    for version in _versions(url, {**load_migrations(), **(trial or {})}):
        with db.connect(url) as conn:
            facts = _forms(conn, version)
        present = {row.fact: row for row in rows if row.until is None}
        for fact in present.keys() - set(facts):
            present[fact].until = version
        place = 0
        for fact in facts:  # a new one comes behind the one before it
            if fact not in present:
                present[fact] = _Row(version, fact)
                rows.insert(place, present[fact])
            place = rows.index(present[fact]) + 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("since", "until", "kind", "name", "makes", "alters"))
    writer.writerows((row.since, row.until, row.fact.kind, row.fact.name, row.fact.makes, row.fact.alters) for row in rows)
    return text.getvalue()


def _versions(url: str, migrations: Mapping[int, Migration]) -> Iterator[int]:
    """Bring the database to each schema version, one after the other."""
    with db.connect(url) as conn:
        conn.execute((sql_folder() / "roles.sql").read_bytes())
        conn.execute(BASELINE.read_bytes())
    yield min(migrations) - 1
    for version in migrations:
        schema.migrate(url, to=version, migrations=migrations)
        yield version


def _forms(conn: Any, version: int) -> list[catalog.Fact]:
    """The facts of the database, in every form that PostgreSQL prints them in.

    It prints some expressions otherwise when they were made from what it has printed, as after a dump and restore. So the schema
    is made anew from its own facts, and described again.
    """
    made = catalog.describe(conn)
    if unknown := [f"{fact.kind} {fact.name}" for fact in made if fact.makes.startswith("--")]:
        raise SystemExit(
            f"sql/tools/describe_schema.sql has no definition of {', '.join(unknown)}, so no drift of it would be found"
        )
    with conn.transaction(force_rollback=True):
        conn.execute("DROP SCHEMA m2_be_project CASCADE; CREATE SCHEMA m2_be_project AUTHORIZATION petstore_owner")
        conn.execute("SET LOCAL ROLE petstore_owner; SET LOCAL search_path = m2_be_project")
        for fact in made:
            if "m2_be_project." in fact.makes or " SCHEMA m2_be_project " in fact.makes:
                conn.execute(fact.makes.replace(" CONCURRENTLY ", " "))
        again = {fact.key: fact for fact in catalog.describe(conn)}
    facts = [
        catalog.Fact(catalog.VERSION, str(version), f"INSERT INTO m2_be_project.schema_version (version) VALUES ({version})")
    ]
    for fact in made:
        facts += dict.fromkeys(map(_general, (fact, again[fact.key])))
    return facts


def _general(fact: catalog.Fact) -> catalog.Fact:
    """A fact as it is in a shop of any currency, without what removes it."""
    makes = fact.makes
    if fact.name == "amount.amount_minor_digits":
        makes = makes.replace(f", {MINOR_DIGITS})", ", :minor_digits)")
        assert ":minor_digits" in makes
    return catalog.Fact(fact.kind, fact.name, makes, fact.alters)
