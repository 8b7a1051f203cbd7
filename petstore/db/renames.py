"""What only has another name in a database than its schema version gives it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace

from petstore.db.catalog import PARTS, Fact, Key, Wanted

_RENAMED = ("table", "column", "constraint", "index", "trigger")  # the names of the first occur in the definitions of the others


def take_back_names(found: Mapping[Key, Fact], wanted: Wanted) -> tuple[list[tuple[Fact, Fact]], Mapping[Key, Fact]]:
    """What only has another name, each with what it should be; and all facts with the right names."""
    renames = []
    for kind in _RENAMED:
        alike: dict[Hashable, tuple[list[Fact], list[Fact]]] = {}
        for key in {key for key in found.keys() ^ wanted.keys() if key[0] == kind}:
            facts = {key: forms[0] for key, forms in wanted.items()} if key in wanted else found
            alike.setdefault(_but_for_name(facts[key], facts.values()), ([], []))[key in wanted].append(facts[key])
        pairs = [(old[0], new[0]) for old, new in alike.values() if len(old) == len(new) == 1]
        for old, new in sorted(pairs, key=lambda pair: pair[1].name):
            renames.append((old, new))
            found = {fact.key: fact for fact in [_after_rename(fact, old, new, wanted) for fact in found.values()]}
    return renames, found


def _but_for_name(fact: Fact, facts: Iterable[Fact]) -> Hashable:
    """What two facts of a kind have in common if only their names differ: a table's columns, or table and definition."""
    table, _, name = fact.name.partition(".")
    if fact.kind != "table":
        return table, fact.makes.replace(f" {name} ", " ", 1)
    columns = [one for one in facts if one.kind == "column" and one.name.startswith(f"{fact.name}.")]
    return frozenset(one.makes.partition(" ADD COLUMN ")[2] for one in columns)


def _after_rename(fact: Fact, old: Fact, new: Fact, wanted: Wanted) -> Fact:
    """A fact as it is once `old` is renamed `new`. The body of a function stays."""
    if fact.key == old.key:
        return replace(new, drops=fact.drops)
    if fact.kind == "function":
        return fact
    was, name = (one.name if one.kind == "table" else one.name.partition(".")[2] for one in (old, new))
    # A name, not a type or a text; m2_be_project.name is a table or an index.
    before = r"(?<=m2_be_project\.)" if old.kind in ("table", "index") else r'(?<![\w"$\'])(?<!::)(?<!m2_be_project\.)'
    pattern = re.compile(rf'{before}{re.escape(was)}(?![\w"$\'])')
    kinds = {"column": PARTS, "table": {fact.kind}}.get(old.kind, {f"{old.kind} state"})
    own = fact.kind in kinds and (fact.name == old.name or fact.name.startswith((f"{old.name}.", f"{old.name} ")))
    label = new.name + fact.name.removeprefix(old.name) if own else fact.name
    makes, alters, drops = (text and pattern.sub(lambda _: name, text) for text in (fact.makes, fact.alters, fact.drops))
    if fact.kind in ("owner", "owner right"):
        drops = fact.drops  # run before the rename
    after = Fact(fact.kind, label, makes or "", alters, drops)
    return after if own or old.kind == "table" or any(makes == form.makes for form in wanted.get(after.key, ())) else fact


def rename_sequence(found: Fact, fact: Fact) -> list[str]:
    """The statement that gives the sequence of an identity its own name, if it has another one."""
    old, new = (re.search(r"SEQUENCE NAME (m2_be_project\.(.+)) INCREMENT BY ", one.makes) for one in (found, fact))
    return [f"ALTER SEQUENCE {old[1]} RENAME TO {new[2]}"] if old and new and old[1] != new[1] else []
