"""The reports of sql/reports, for admins: each file there is a route, without Python of its own, by what its header says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from petstore import errors
from petstore.cache.document import Document
from petstore.db.queries import Parameter, Query
from petstore.repository.reports import answer_report
from petstore.request import Request
from petstore.web.parameters import MAX_ID, PARAMETERS, Schema
from petstore.web.validation import SCHEMAS

_SPOKEN = {"since": "from", "until": "to"}  # as these times are called in a URL
_SCHEMAS: dict[str, Schema] = {
    "bigint": {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_ID},
    "integer": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "text": {"type": "string"},
    "timestamptz": {"anyOf": PARAMETERS["from"]["anyOf"]},
}
_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}


def handler(report: Query) -> Callable[[Request], Document]:
    """What answers a report."""
    name, schemas = report.path.stem, parameters(report)

    def run(request: Request) -> Document:
        spoken = {parameter: _SPOKEN.get(parameter, parameter) for parameter in report.parameters}
        values = {parameter: request.query.get(said, schemas[said].get("default")) for parameter, said in spoken.items()}
        limit = values.get("limit")
        asked = {**values, "limit": limit + 1} if limit else values  # one more tells whether there is more
        try:
            items = request.snapshot(lambda conn: answer_report(conn, name, **asked))
        except errors.Unavailable as error:
            detail = f"This takes longer than a request may, or the database is away: ask for less, or run {name} in psql."
            raise errors.Unavailable(detail) from error
        shown = items[:limit]
        whole = {"name": name, "description": report.sentence, "items": shown, "truncated": len(shown) < len(items)}
        return request.document(whole)

    run.__name__, run.__doc__ = f"report_{name}", report.sentence
    return run


def parameters(report: Query) -> Mapping[str, Schema]:
    """What a report takes in a URL. No dict: of those, Bottle makes facts of their own."""
    return MappingProxyType({_SPOKEN.get(name, name): _schema(parameter) for name, parameter in report.parameters.items()})


def example(report: Query) -> int | None:
    """Which example of petstore/schemas/report.json is of this report."""
    names = [example["name"] for example in SCHEMAS["report"]["examples"]]
    return names.index(report.path.stem) if report.path.stem in names else None


def required(report: Query) -> tuple[str, ...]:
    """What it cannot do without."""
    return tuple(name for name in report.parameters if name != "limit" and not report.parameters[name].nullable)


def _schema(parameter: Parameter) -> dict[str, Any]:
    # Of what is none of these types, the check of the database tells.
    schema = _LIMIT if parameter.name == "limit" else _SCHEMAS.get(parameter.type, _SCHEMAS["text"])
    return {"description": parameter.meaning.replace("NULL (empty in psql) for", "without it:"), **schema}
