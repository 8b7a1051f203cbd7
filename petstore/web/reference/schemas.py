"""JSON Schemas as HTML: the members of an object with type, bounds and description; and a value that fits a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from petstore.web.pages import with_code
from petstore.web.reference import markup

Schema = Mapping[str, Any]
_DEEP = 4  # levels of members inside members that are shown; the longest body has 2
_FORMATS = {"date-time": "time (RFC 3339)", "date": "day (RFC 3339)"}
_LONGEST_PATTERN = 30  # characters; what a longer one means stands in the description


class Schemas:
    """The component schemas of an OpenAPI document."""

    def __init__(self, components: Mapping[str, Schema]) -> None:
        self._components = components

    def resolve(self, schema: Schema) -> Schema:
        """The schema itself, or the component that it refers to."""
        return self._components[_name(schema)] if "$ref" in schema else schema

    def members(self, schema: Schema, *, deep: bool = False) -> str:
        """A list of the members of an object, or of the objects in an array; empty if there are none.

        deep: with the members of members. Else these are links to the sections of their components.
        """
        return self._members(schema, _DEEP if deep else 1)

    def in_words(self, schema: Schema, *, linked: bool = True) -> str:
        """Type and bounds, such as "integer from 1 to 100". linked: components of objects are links to their sections."""
        if "$ref" in schema and not (linked and self._object(schema)):
            schema = self.resolve(schema)
        if "$ref" in schema:
            return link(_name(schema))
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return " or ".join(self.in_words(part, linked=linked) for part in schema[choice])
        if "const" in schema or "enum" in schema:
            values = schema.get("enum", [schema.get("const")])
            return ("one of " if len(values) > 1 else "") + ", ".join(
                f"<code>{with_code(_json(value))}</code>" for value in values
            )
        if schema.get("type") == "array":
            items = self.in_words(schema.get("items", {}), linked=linked)
            bounds = _range(schema.get("minItems"), schema.get("maxItems"), " items")
            return f"array of {'objects' if items == 'object' else items}{bounds}"
        return with_code(_type(schema)) + _bounds(schema)

    def _members(self, schema: Schema, levels: int) -> str:
        found = self._object(schema)
        if found is None or levels == 0:
            return ""
        required = found.get("required", ())
        rows = (self._member(name, part, name in required, levels) for name, part in found["properties"].items())
        return f'<ul class="members">{"".join(rows)}</ul>'

    def _member(self, name: str, schema: Schema, required: bool, levels: int) -> str:
        words = self.in_words(schema, linked=levels == 1)
        about = schema.get("description") or self.resolve(schema).get("description", "")
        return member(name, words, required, about, self._members(schema, levels - 1))

    def _object(self, schema: Schema) -> Schema | None:
        """The object with members that a schema means, by itself, by reference, or as the items of an array."""
        found = self.resolve(schema)
        if "items" in found:
            found = self.resolve(found["items"])
        return found if "properties" in found else None


def member(name: str, words: str, required: bool, about: str, inner: str = "") -> str:
    """A row about a member or a parameter. words, inner: HTML."""
    needed = ' <strong class="needed">required</strong>' if required else ""
    text = f"<p>{markup.inline(about)}</p>" if about else ""
    return f'<li><code>{with_code(name)}</code> <span class="type">{words}</span>{needed}{text}{inner}</li>'


def link(name: str) -> str:
    """A link to the section of a component."""
    return f'<a href="#schema-{name}">{markup.name(name)}</a>'


def names_in(schema: Schema) -> list[str]:
    """The components that a schema refers to at once: of a choice, all."""
    parts = [schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())]
    return [_name(part) for part in parts if "$ref" in part]


def fitting(name: str, schema: Schema) -> Any:
    """A value of a parameter: an example, or the least that fits."""
    if "examples" in schema or "enum" in schema:
        return schema.get("examples", schema.get("enum"))[0]
    if "anyOf" in schema or "oneOf" in schema:
        return "2026-01-31"  # a day or a time
    return max(schema.get("minimum", 1), 1) if schema.get("type") == "integer" else name


def _name(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _type(schema: Schema) -> str:
    kinds = schema.get("type", "any value")
    said = kinds if isinstance(kinds, str) else " or ".join(kinds)
    return said.replace("string", _FORMATS.get(schema.get("format", ""), "string"))


def _bounds(schema: Schema) -> str:
    numbers = _range(schema.get("minimum"), schema.get("maximum"), "")
    lengths = _range(schema.get("minLength"), schema.get("maxLength"), " characters") if "minimum" not in schema else ""
    pattern = schema.get("pattern", "")
    shown = f", <code>{with_code(pattern)}</code>" if pattern and len(pattern) <= _LONGEST_PATTERN else ""
    return numbers + lengths + shown


def _range(least: int | None, most: int | None, unit: str) -> str:
    first, last = _number(least), _number(most)
    if least is not None and most is not None:
        return f", {first} to {last}{unit}" if unit else f" from {first} to {last}"
    if most is not None:
        return f", at most {last}{unit}"
    return f", at least {first}{unit.rstrip('s') if least == 1 else unit}" if least is not None else ""


def _number(value: int | None) -> str:
    if value == 2**63 - 1:
        return "2<sup>63</sup> − 1"
    return f"{value:,}" if value is not None else ""


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
