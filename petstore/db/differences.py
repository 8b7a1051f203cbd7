"""Drift: what is not in a database as its schema version makes it, and the SQL that mends it without deleting data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from petstore.db import catalog
from petstore.db.catalog import PARTS, Fact, Key, Wanted
from petstore.db.connection import Connection
from petstore.db.renames import rename_sequence, take_back_names


@dataclass(frozen=True)
class Difference:
    """Something of a database that is not as its schema version makes it.

    kind, name, fault: a sentence, such as `trigger` `products.products_update_record_stock` `is disabled`
    mend: the SQL that makes it right, for psql (a database is :"DBNAME"); ends with `;`
    harmful: the books or the service may become wrong or slow by it
    found: what it is instead of what it should be, as SQL; "" if there is nothing, or nothing else
    superuser: petstore_owner may not run the mend
    alone: the mend cannot run in a transaction, or should not
    afterwards: SQL that completes the mend in a transaction of its own; "" if nothing does
    held: why the mend may not be run unread; "" if it may
    public: the sentence without the names that somebody else has given; "" if it has none
    """

    kind: str
    name: str
    fault: str
    mend: str
    harmful: bool
    found: str = ""
    superuser: bool = False
    alone: bool = False
    afterwards: str = ""
    held: str = ""
    public: str = ""

    @property
    def sentence(self) -> str:
        """In one line: a name may have a line feed."""
        return " ".join(f"{self.kind} {self.name} {self.fault}".split())

    @property
    def public_sentence(self) -> str:
        return self.public or self.sentence


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
    "owner right": ("grant", "is missing"),
    "collation version": ("collation version", "is not that of the library"),
}
_FIRES = {" ENABLE REPLICA ": "fires on replicas only", " ENABLE ALWAYS ": "fires on replicas, too"}
_BETTER_WITHOUT = {"constraint state", "index state"}  # if a version leaves one, who has mended it did well
_HARMLESS = {"role", "membership", "role setting", "database setting", "collation version"}
_HARMFUL_EXTRA = {
    "trigger", "rule", "policy", "constraint", "column", "not null", "default", "identity", "inheritance", "constraint state",
    "index state", "trigger state", "rule state", "persistence", "row security", "foreign key triggers", "owner", "owner right",
}  # fmt: skip
# Triggers and foreign keys do not fire, a COMMIT can be lost, nothing can be written, the audit log can be made to lie, a
# statement or its result means something else.
_HARMFUL_SETTINGS = (
    "session_replication_role", "synchronous_commit", "default_transaction_read_only", "petstore.", "datestyle", "intervalstyle",
    "transform_null_equals", "array_nulls", "bytea_output", "standard_conforming_strings", "local_preload_libraries",
)  # fmt: skip
_SUPERUSERS = {
    "role", "membership", "role setting", "database setting", "owner", "collation version", "extension", "foreign key triggers",
}  # fmt: skip
_ALONE = {"index", "index state", "constraint state", "collation version"}
_HOLD_DATA = {"table", "column", "materialized view", "foreign table", "sequence"}
_MAY_BE_NEEDED = {"view", "function", "routine", "type", "domain"}  # by what holds data
_ORDER = {"owner right": 0, "view": 1, "index": 5}  # renames are 2, other removals 3, what is made 4, what is held 5


def differences(conn: Connection, version: int, minor_digits: int) -> list[Difference]:
    """What is not as this schema version makes it, in an order in which the mends can be run; [] if nothing is.

    Harmful is whatever is missing or changed, except roles, memberships, settings and versions of collations. Of what is there
    besides, harmful is whatever can refuse or change a write (triggers, rules, policies, constraints, unique indexes, columns,
    children of a table), what is disabled or not valid, and a setting by which writes are lost, bypass triggers or mean something
    else. Not harmful are other indexes, tables, functions and rights too many.

    LookupError: see `catalog.wanted`.
    """
    wanted = catalog.wanted(version, minor_digits)
    renames, found = take_back_names({fact.key: fact for fact in catalog.describe(conn)}, wanted)
    # Options that Petstore does not set are the DBA's.
    extra = [fact for key, fact in found.items() if key not in wanted and fact.drops and fact.kind != "table option"]
    missing = [forms[0] for key, forms in wanted.items() if key not in found and key[0] not in _BETTER_WITHOUT]
    remove = [
        (5 if (one := _extra(fact, extra, wanted)).held else _ORDER.get(fact.kind, 3), one)
        for fact in reversed(extra)
        if not any(_is_part(fact, whole) for whole in extra)
    ]
    held = _held(missing, extra)
    make = {fact.key: _missing(fact, wanted) for fact in missing if not _is_made(fact, missing)}
    changed = {
        key: _changed(found[key], forms[0], wanted)
        for key, forms in wanted.items()
        if key in found and all(found[key].makes != form.makes for form in forms)
    }
    made = [(4, _hold((make | changed)[key], held)) for key in wanted if key in make or key in changed]
    ranked = [*remove, *((2, _rename(old, new)) for old, new in renames), *made]
    return [one for _, one in sorted(ranked, key=lambda pair: pair[0])]


def _rename(old: Fact, new: Fact) -> Difference:
    kind, (table, _, name) = new.kind.upper(), new.name.partition(".")
    was = old.name if old.kind == "table" else old.name.partition(".")[2]
    if old.kind == "trigger":
        mend = f"ALTER TRIGGER {was} ON m2_be_project.{table} RENAME TO {name}"
    elif old.kind in ("table", "index"):
        mend = f"ALTER {kind} m2_be_project.{was} RENAME TO {name or table}"
    else:
        mend = f"{new.makes.partition('ADD ')[0]}RENAME {kind} {was} TO {name}"
    harmful = not old.makes.startswith("CREATE INDEX")
    sentence = f"{old.kind} {new.name} has another name"
    return Difference(old.kind, new.name, f"is named {was}", f"{mend};", harmful, public=sentence)


def _held(missing: Sequence[Fact], extra: Sequence[Fact]) -> Mapping[Key, str]:
    """Missing tables and columns that are not made unread, and why."""
    other = {fact.name.partition(".")[0] for fact in extra if fact.kind == "column"}
    why = {"table": "its rows are gone or elsewhere: restore it from a backup"}
    why["column"] = "another column of its table may hold its values: decide yourself"
    return {
        f.key: why[f.kind] for f in missing if f.kind == "table" or (f.kind == "column" and f.name.partition(".")[0] in other)
    }


def _hold(one: Difference, held: Mapping[Key, str]) -> Difference:
    """Also what needs a table or column that is held."""
    reason = held.get((one.kind, one.name), one.held)
    for kind, name in () if one.kind == "function" else held:
        table, _, column = name.partition(".")
        needs = re.search(rf"\bm2_be_project\.{table}\b", one.mend) and re.search(rf"\b{column}\b", one.mend)
        reason = reason or (f"it needs the {kind} {name}" if needs else "")
    return replace(one, held=reason)


def _is_part(part: Fact, whole: Fact) -> bool:
    """Whether a fact goes with another one: `not null` products.stock with its `column`, and that with `table` products."""
    if part.key == whole.key or whole.kind in PARTS - {"column"}:
        return False
    if part.kind.endswith(" state") or whole.kind in ("constraint", "index", "trigger", "rule", "policy"):
        return (part.kind, part.name) == (f"{whole.kind} state", whole.name)
    return part.name.startswith((f"{whole.name}.", f"{whole.name} ")) or (part.name == whole.name and part.kind in PARTS)


def _extra(fact: Fact, extra: Iterable[Fact], wanted: Wanted) -> Difference:
    kind, fault = _STATES.get(fact.kind, (fact.kind, "is not Petstore's"))
    public = "" if fact.kind in _STATES else _public(fact, wanted)
    harmful = fact.kind in _HARMFUL_EXTRA or fact.makes.startswith("CREATE UNIQUE INDEX")
    if any(part.kind == "index state" and _is_part(part, fact) for part in extra):
        fault, harmful = f"{fault}, and not valid", True
    if fact.kind.endswith(" setting"):
        harmful = any(f" SET {setting}" in fact.makes for setting in _HARMFUL_SETTINGS)
    if fact.kind == "trigger state":
        fault = next((words for sign, words in _FIRES.items() if sign in fact.makes), fault)
    held = "it deletes what it holds: decide yourself" if fact.kind in _HOLD_DATA else ""
    holds = {"materialized view"} if fact.kind == "view" else _HOLD_DATA
    if fact.kind in _MAY_BE_NEEDED and any(one.kind in holds for one in extra):
        held = "what holds data may need it: decide yourself"
    return replace(_difference(fact, fault, [fact.drops or ""], harmful=harmful), kind=kind, held=held, public=public)


def _public(fact: Fact, wanted: Wanted) -> str:
    tables = (name for kind, name in wanted if kind in ("table", "domain") and fact.name.startswith((f"{name}.", f"{name} ")))
    return f"{'an' if fact.kind[0] in 'aeiou' else 'a'} {fact.kind} that is not Petstore's{''.join(f', in {t}' for t in tables)}"


def _missing(fact: Fact, wanted: Wanted) -> Difference:
    return _difference(fact, "is missing", _made(fact, wanted), harmful=fact.kind not in _HARMLESS)


def _changed(found: Fact, fact: Fact, wanted: Wanted) -> Difference:
    # A right that is there, and can be handed on besides, takes nothing away.
    harmful = fact.kind not in _HARMLESS | {"grant"}
    differs = partial(_difference, fact, "differs", harmful=harmful, found=found.makes)
    if fact.alters:
        return differs([*rename_sequence(found, fact), fact.alters])
    fixed = "".join(found.makes.partition("\n LANGUAGE ")[:2])  # a function's parameters and what it returns cannot be replaced
    replaces = fact.makes.startswith(fixed if fact.kind == "function" else "CREATE OR REPLACE ")
    if replaces or not found.drops:
        return differs([fact.makes])
    if fact.kind == "index":  # there is one at any time
        name = fact.name.partition(".")[2]
        makes = fact.makes.replace(f" {name} ", f" {name}_new ", 1)
        drop = f"DROP INDEX CONCURRENTLY IF EXISTS m2_be_project.{name}"
        return differs([f"{drop}_new", makes, drop, f"ALTER INDEX m2_be_project.{name}_new RENAME TO {name}"])
    one = differs([found.drops, *_made(fact, wanted)])
    return replace(one, held="it deletes what it holds: decide yourself") if fact.kind in _HOLD_DATA else one


def _made(whole: Fact, wanted: Wanted) -> list[str]:
    """The lines that make a fact and its parts, as far as they can be made with it: not the constraints of a table."""
    parts = [forms[0] for forms in wanted.values() if _is_made(forms[0], [whole])]
    lines = [whole.makes, *(part.makes for part in parts if part.kind not in _BETTER_WITHOUT)]
    if whole.kind == "function" and ("grant", f"{whole.name} PUBLIC EXECUTE") not in wanted:
        lines.append(f"REVOKE EXECUTE ON FUNCTION m2_be_project.{whole.name} FROM PUBLIC")  # who makes a function gives it to all
    return lines


def _is_made(part: Fact, wholes: Iterable[Fact]) -> bool:
    """Whether a fact is made with one of these."""
    return part.kind in PARTS and any(_is_part(part, whole) for whole in wholes)


def _difference(fact: Fact, fault: str, lines: Sequence[str], *, harmful: bool, found: str = "") -> Difference:
    """lines: statements, without `;`. A check and a foreign key read all rows only when nobody has to wait for it."""
    superuser = fact.kind in _SUPERUSERS or (fact.kind == "grant" and fact.name.startswith(("database ", "schema public ")))
    afterwards, last = "", lines[-1]
    if added := re.search(r"^(.*)ADD (CONSTRAINT \S+) (?:CHECK|FOREIGN KEY) ", last):
        lines, afterwards = [*lines[:-1], f"{last} NOT VALID"], f"{added[1]}VALIDATE {added[2]};"
    mend = "".join(f"{line};\n" for line in lines).rstrip()
    return Difference(fact.kind, fact.name, fault, mend, harmful, found, superuser, fact.kind in _ALONE, afterwards)
