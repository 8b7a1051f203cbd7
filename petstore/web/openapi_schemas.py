"""The component schemas of the OpenAPI document: the JSON Schemas that validate, by title, with references between them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from petstore.errors import PROBLEMS
from petstore.web.parameters import PARAMETERS
from petstore.web.validation import SCHEMAS


def components(pages: set[str], problems: Mapping[str, Mapping[str, bool]]) -> dict[str, Any]:
    """Every schema that has a title, nested ones too: generated clients get a type of that name.

    pages: the schemas that come in lists. problems: the members of every kind of error, see `problem`.
    """
    whole = [schema["properties"] if name == "parameters" else schema for name, schema in SCHEMAS.items()]
    added = [*map(page, sorted(pages)), *(problem(slug, members) for slug, members in problems.items()), _any_problem()]
    named = {part["title"]: part for part in _parts([*whole, *added]) if _is_named(part)}
    return {title: _component(part) for title, part in sorted(named.items())}


def problem(slug: str, members: Mapping[str, bool]) -> dict[str, Any]:
    """The schema of one kind of error: its `type` is a constant, so that a client's compiler finds a misspelt one.

    members: those that it has beside the common ones, and whether they are always there.
    """
    whole = SCHEMAS["problem"]
    always = [*whole["required"], *(name for name, is_sure in members.items() if is_sure)]
    properties = {name: part for name, part in whole["properties"].items() if name in {*always, *members}}
    kind = {"description": whole["properties"]["type"]["description"], "type": "string", "const": f"/problems/{slug}"}
    return {
        "title": problem_title(slug),
        "description": f"{PROBLEMS[slug].title()}.",
        "type": "object",
        "required": always,
        "properties": {**properties, "type": kind},
    }


def problem_title(slug: str) -> str:
    """The name of the schema of one kind of error."""
    return f"{PROBLEMS[slug].__name__}Problem"


def _any_problem() -> dict[str, Any]:
    """An error of whichever kind, with the members of all."""
    whole = SCHEMAS["problem"]
    kinds = {key: value for key, value in whole["properties"]["type"].items() if key != "format"}
    kinds = {**kinds, "enum": [f"/problems/{slug}" for slug in PROBLEMS]}
    return {**whole, "properties": {**whole["properties"], "type": kinds}}


def page(name: str) -> dict[str, Any]:
    """The schema of a page of a list of `name`."""
    cursor = {"description": "for `after` of the next page; null on the last", "type": ["string", "null"]}
    items = {
        "description": "in the order of the list",
        "type": "array",
        "maxItems": PARAMETERS["limit"]["maximum"],
        "items": to_component(name),
    }
    return {
        "title": f"{SCHEMAS[name]['title']}Page",
        "description": f"A page of {plural(name)}.",
        "type": "object",
        "required": ["items", "next"],
        "additionalProperties": False,
        "properties": {"items": items, "next": cursor},
    }


def words(name: str) -> str:
    """What petstore/schemas/<name>.json describes, in words: "credit note" for CreditNote."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", SCHEMAS[name]["title"]).lower()


def plural(name: str) -> str:
    """The plural of `words`: "audit entries"."""
    return re.sub("y$", "ie", words(name)) + "s"


def to_component(name: str) -> dict[str, Any]:
    """A reference to the component that petstore/schemas/<name>.json becomes."""
    return {"$ref": f"#/components/schemas/{SCHEMAS[name]['title']}"}


def reference(schema: Any) -> Any:
    """A schema in which references to files, and every part that has a title, are references to components."""
    return json.loads(json.dumps(schema), object_hook=_to_reference)


def _to_reference(part: dict[str, Any]) -> dict[str, Any]:
    file = str(part.get("$ref")).removesuffix(".json")
    if file in SCHEMAS:
        return {**to_component(file), **({"description": part["description"]} if "description" in part else {})}
    if not _is_named(part):
        return part
    described = {"description": part["description"]} if "description" in part else {}
    return {"$ref": f"#/components/schemas/{part['title']}", **described}


def _component(schema: Mapping[str, Any]) -> dict[str, Any]:
    # The description of an enumeration is about the member that uses it, not about the type.
    left_out = {"$schema", "example_names", *(["description"] if "enum" in schema else [])}
    return {key: reference(value) for key, value in schema.items() if key not in left_out}


def _parts(value: Any) -> Iterator[Any]:
    yield value
    for child in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _parts(child)


def _is_named(part: Any) -> bool:
    """Whether it is a schema with a title. An object of members, one of which is called title, is not."""
    return isinstance(part, Mapping) and isinstance(part.get("title"), str) and bool({"type", "enum"} & part.keys())
