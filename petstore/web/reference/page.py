"""The page /docs, made of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from petstore.cache.document import Document
from petstore.web.pages import framed
from petstore.web.reference import markup
from petstore.web.reference.operation import Operation, body_field, slugs_of
from petstore.web.reference.samples import body_of
from petstore.web.reference.schemas import Schemas

_LAST = ("pages", "system")  # tags of what a client needs least


def reference_page(document: Mapping[str, Any], password_min: int) -> Document:
    """The page. password_min: characters that a new password has at least."""
    schemas = Schemas(document["components"]["schemas"])
    by_tag = _by_tag(document, schemas)
    about = {tag["name"]: tag["description"] for tag in document["tags"]}
    purchase = document["paths"]["/purchase_product"]["post"]
    return framed(
        "docs",
        "Petstore reference",
        password_min=str(password_min),
        about=markup.prose(document["info"]["description"]),
        contents="".join(_contents(tag, operations) for tag, operations in by_tag.items()),
        operations="\n".join(_group(tag, about[tag], operations) for tag, operations in by_tag.items()),
        schemas="\n".join(_schema(name, schemas) for name in document["components"]["schemas"]),
        purchase=body_field(next(iter(body_of(purchase).values()))),
        number=str(sum(map(len, by_tag.values()))),
    )


def _by_tag(document: Mapping[str, Any], schemas: Schemas) -> dict[str, list[Operation]]:
    """The operations by tag, in the order of the document; what is in _LAST at the end."""
    found = [
        (path, method, facts)
        for path, methods in document["paths"].items()
        for method, facts in methods.items()
        if isinstance(facts, Mapping) and "operationId" in facts
    ]
    usual = frozenset.intersection(*(frozenset(slugs_of(facts)) for _, _, facts in found))
    tags = sorted((tag["name"] for tag in document["tags"]), key=lambda name: name in _LAST)
    by_tag: dict[str, list[Operation]] = {name: [] for name in tags}
    for path, method, facts in found:
        operation = Operation(method, path, facts, schemas, usual)
        by_tag[operation.tag].append(operation)
    return by_tag


def _contents(tag: str, operations: Iterable[Operation]) -> str:
    lines = "".join(operation.in_contents() for operation in operations)
    return f'<li><a href="#{_anchor(tag)}">{tag.capitalize()}</a><ul>{lines}</ul></li>'


def _group(tag: str, about: str, operations: Iterable[Operation]) -> str:
    sections = "\n".join(operation.section() for operation in operations)
    return f'<h2 id="{_anchor(tag)}">{tag.capitalize()}</h2>\n<p>{markup.inline(about)}</p>\n{sections}'


def _schema(name: str, schemas: Schemas) -> str:
    schema = schemas.resolve({"$ref": name})
    about = markup.prose(schema.get("description", ""))
    inside = schemas.members(schema) or f"<p>{schemas.in_words(schema)}</p>"
    return f'<details class="schema" id="schema-{name}"><summary><h3>{markup.name(name)}</h3></summary>{about}{inside}</details>'


def _anchor(tag: str) -> str:
    return f"tag-{tag.replace(' ', '-')}"
