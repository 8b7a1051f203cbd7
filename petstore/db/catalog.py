"""The catalog of a database: what its schema is made of, compared with what the migrations make (sql/catalog.csv)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

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


@dataclass(frozen=True)
class Difference:
    """Something of a database that is not as its schema version makes it.

    kind, name, fault: a sentence, such as `trigger` `products.products_update_record_stock` `is disabled`
    mend: the SQL that makes it right, for psql (a database is :"DBNAME"); ends with `;`
    harmful: the books or the service may become wrong or slow by it
    found: what it is instead of what it should be, as SQL; "" if there is nothing, or nothing else
    superuser: petstore_owner may not run the mend
    """

    kind: str
    name: str
    fault: str
    mend: str
    harmful: bool
    found: str = ""
    superuser: bool = False

    @property
    def sentence(self) -> str:
        """In one line: a name may have a line feed."""
        return " ".join(f"{self.kind} {self.name} {self.fault}".split())


@dataclass(frozen=True)
class _Row:
    since: int
    until: int | None
    fact: Fact


# What is part of something else, and goes and comes with it.
_PARTS = {
    "column", "not null", "default", "identity", "constraint state", "index state", "trigger state", "rule state", "owner",
    "persistence", "row security", "foreign key triggers", "inheritance", "table option", "grant",
}  # fmt: skip
# How to say that a state is there which is not the usual one.
_STATES = {
    "constraint state": ("constraint", "is not valid"),
    "index state": ("index", "is not valid"),
    "trigger state": ("trigger", "is disabled"),
    "rule state": ("rule", "is disabled"),
    "persistence": ("table", "is UNLOGGED"),
    "row security": ("table", "has row security"),
    "foreign key triggers": ("table", "does not enforce its foreign keys"),
    "owner": ("owner of", "is not petstore_owner"),
    "collation version": ("collation version", "is not that of the library"),
}
_FIRES = {" ENABLE REPLICA ": "fires on replicas only", " ENABLE ALWAYS ": "fires on replicas, too"}
_BETTER_WITHOUT = {"constraint state", "index state"}  # if a version leaves one, who has mended it did well
_HARMLESS = {"role", "membership", "role setting", "database setting", "owner", "collation version"}
_HARMFUL_EXTRA = {
    "trigger", "rule", "policy", "constraint", "column", "not null", "default", "identity", "inheritance", "constraint state",
    "index state", "trigger state", "rule state", "persistence", "row security", "foreign key triggers",
}  # fmt: skip
# Triggers and foreign keys do not fire, a COMMIT can be lost, nothing can be written, the audit log can be made to lie.
_HARMFUL_SETTINGS = ("session_replication_role", "synchronous_commit", "default_transaction_read_only", "petstore.")
_SUPERUSERS = {
    "role", "membership", "role setting", "database setting", "owner", "collation version", "extension", "foreign key triggers",
}  # fmt: skip


def describe(conn: Connection) -> list[Fact]:
    """The facts of a database, in an order in which their `makes` can be run."""
    return conn.run(load_tools()["tools/describe_schema"], {}, lambda _, values: Fact(*values))


def count(version: int) -> int:
    """How many facts a database of this schema version is compared in. LookupError: see `differences`."""
    return len(_wanted(version, 0))


def differences(conn: Connection, version: int, minor_digits: int) -> list[Difference]:
    """What is not as this schema version makes it, in an order in which the mends can be run; [] if nothing is.

    Harmful is whatever is missing or changed, except roles, memberships, settings, owners and versions of collations. Of what is
    there besides, harmful is whatever can refuse or change a write (triggers, rules, policies, constraints, unique indexes,
    columns, children of a table), what is disabled or not valid, and a setting by which writes are lost or bypass triggers. Not
    harmful are other indexes, tables, functions and rights too many.

    LookupError: the file does not know this version, because it is newer than this release or older than the first migration.
    """
    wanted = _wanted(version, minor_digits)
    found = {fact.key: fact for fact in describe(conn)}
    extra = [fact for key, fact in found.items() if key not in wanted and fact.drops]
    missing = [forms[0] for key, forms in wanted.items() if key not in found and key[0] not in _BETTER_WITHOUT]
    remove = [_extra(fact, extra) for fact in reversed(extra) if not any(_is_part(fact, whole) for whole in extra)]
    make = {fact.key: _missing(fact, wanted) for fact in missing if not _is_made(fact, missing)}
    changed = {
        key: _changed(found[key], forms[0], wanted)
        for key, forms in wanted.items()
        if key in found and all(found[key].makes != form.makes for form in forms)
    }
    return [*remove, *((make | changed)[key] for key in wanted if key in make or key in changed)]


def _wanted(version: int, minor_digits: int) -> Mapping[Key, Sequence[Fact]]:
    """The facts of a version. Two forms of one: PostgreSQL prints some expressions in another way after a dump and restore."""
    known = [int(row.fact.name) for row in _rows() if row.fact.kind == VERSION]
    if version not in known:
        raise LookupError(f"sql/catalog.csv describes schema version {min(known)} to {max(known)}, not {version}")
    wanted: dict[Key, list[Fact]] = {}
    for row in _rows():
        if row.since <= version and (row.until is None or version < row.until) and row.fact.kind != VERSION:
            fact = row.fact
            makes = fact.makes.replace(":minor_digits", str(minor_digits))
            wanted.setdefault(fact.key, []).append(Fact(fact.kind, fact.name, makes, fact.alters))
    return wanted


@cache
def _rows() -> Sequence[_Row]:
    with (sql_folder() / "catalog.csv").open(encoding="utf-8", newline="") as file:
        return [
            _Row(int(since), int(until) if until else None, Fact(kind, name, makes, alters or None))
            for since, until, kind, name, makes, alters in list(csv.reader(file))[1:]
        ]


def _is_part(part: Fact, whole: Fact) -> bool:
    """Whether a fact goes with another one: `not null` products.stock with its `column`, and that with `table` products."""
    if part.key == whole.key or whole.kind in _PARTS - {"column"}:
        return False
    if part.kind.endswith(" state"):
        return (part.kind, part.name) == (f"{whole.kind} state", whole.name)
    return part.name.startswith((f"{whole.name}.", f"{whole.name} ")) or (part.name == whole.name and part.kind in _PARTS)


def _extra(fact: Fact, extra: Iterable[Fact]) -> Difference:
    kind, fault = _STATES.get(fact.kind, (fact.kind, "is not Petstore's"))
    harmful = fact.kind in _HARMFUL_EXTRA or fact.makes.startswith("CREATE UNIQUE INDEX")
    if any(part.kind == "index state" and _is_part(part, fact) for part in extra):
        fault, harmful = f"{fault}, and not valid", True
    if fact.kind.endswith(" setting"):
        harmful = any(f" SET {setting}" in fact.makes for setting in _HARMFUL_SETTINGS)
    if fact.kind == "trigger state":
        fault = next((words for sign, words in _FIRES.items() if sign in fact.makes), fault)
    if fact.kind in ("table", "column", "sequence"):
        fault = f"{fault}; dropping it deletes what it holds"
    return _difference(fact, fault, [fact.drops or ""], kind=kind, harmful=harmful)


def _missing(fact: Fact, wanted: Mapping[Key, Sequence[Fact]]) -> Difference:
    lines = [fact.makes, *_parts(fact, wanted)]
    if fact.kind == "function" and ("grant", f"{fact.name} PUBLIC EXECUTE") not in wanted:
        lines.append(f"REVOKE EXECUTE ON FUNCTION m2_be_project.{fact.name} FROM PUBLIC")  # who makes a function gives it to all
    return _difference(fact, "is missing", lines, harmful=fact.kind not in _HARMLESS)


def _changed(found: Fact, fact: Fact, wanted: Mapping[Key, Sequence[Fact]]) -> Difference:
    # A right that is there, and can be handed on besides, takes nothing away.
    differs = partial(_difference, fact, "differs", harmful=fact.kind not in _HARMLESS | {"grant"}, found=found.makes)
    if fact.alters:
        return differs([fact.alters])
    if fact.makes.startswith("CREATE OR REPLACE ") or not found.drops:
        return differs([fact.makes])
    return differs([found.drops, fact.makes, *_parts(fact, wanted)])


def _parts(whole: Fact, wanted: Mapping[Key, Sequence[Fact]]) -> list[str]:
    """The lines that make the parts of a fact, as far as they can be made with it: not the constraints of a table."""
    parts = [forms[0] for forms in wanted.values() if _is_made(forms[0], [whole])]
    return [part.makes for part in parts if part.kind not in _BETTER_WITHOUT]


def _is_made(part: Fact, wholes: Iterable[Fact]) -> bool:
    """Whether a fact is made with one of these."""
    return part.kind in _PARTS and any(_is_part(part, whole) for whole in wholes)


def _difference(fact: Fact, fault: str, lines: Sequence[str], *, harmful: bool, kind: str = "", found: str = "") -> Difference:
    """lines: statements, without `;`. Several run in one transaction: nobody writes between a DROP and the CREATE after it."""
    if len(lines) > 1 and fact.kind != "index":  # CONCURRENTLY runs in none
        lines = ["BEGIN", *lines, "COMMIT"]
    superuser = fact.kind in _SUPERUSERS or (fact.kind == "grant" and fact.name.startswith(("database ", "schema public ")))
    mend = "".join(f"{line};\n" for line in lines).rstrip()
    return Difference(kind or fact.kind, fact.name, fault, mend, harmful, found, superuser)
