"""Reports, for admins. Each is a file of sql/reports, whose header tells its parameters and its text."""

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

_QUERY_NAMES = {
    "since": "from",
    "until": "to",
}  # SQL parameter → query parameter, where they differ (FROM and TO are SQL keywords)
_SCHEMAS: dict[str, Schema] = {
    "bigint": {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_ID},
    "integer": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "text": {"type": "string"},
    "timestamptz": {"anyOf": PARAMETERS["from"]["anyOf"]},
}
_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}


def handler(report: Query) -> Callable[[Request], Document]:
    """The handler of a report."""
    report_name, schemas = report.path.stem, parameters(report)

    def run(request: Request) -> Document:
        names = {parameter: _QUERY_NAMES.get(parameter, parameter) for parameter in report.parameters}
        values = {parameter: request.query.get(name, schemas[name].get("default")) for parameter, name in names.items()}
        limit = values.get("limit")
        asked = {**values, "limit": limit + 1} if limit else values  # one row more tells whether the report is truncated
        try:
            items = request.snapshot(lambda conn: answer_report(conn, report_name, **asked))
        except errors.Unavailable as error:
            detail = f"This takes longer than a request may, or the database is away: ask for less, or run {report_name} in psql."
            raise errors.Unavailable(detail) from error
        shown = items[:limit]
        answer = {"name": report_name, "description": report.sentence, "items": shown, "truncated": len(shown) < len(items)}
        return request.document(answer)

    about = "It is the file of this name in sql/reports, which runs in psql, too. An item is a row, its members are the columns."
    run.__name__ = f"report_{report_name}"
    run.__doc__ = f"{report.sentence}\n\n{about}"
    return run


def parameters(report: Query) -> Mapping[str, Schema]:
    """The query parameters of a report, with their schemas. Not a dict: Bottle would flatten it into facts of the route."""
    return MappingProxyType({_QUERY_NAMES.get(name, name): _schema(parameter) for name, parameter in report.parameters.items()})


def example(report: Query) -> int | None:
    """The number of this report's example in petstore/schemas/report.json; None if it has none."""
    names = [example["name"] for example in SCHEMAS["report"]["examples"]]
    return names.index(report.path.stem) if report.path.stem in names else None


def required(report: Query) -> tuple[str, ...]:
    """The names of the parameters that a report cannot do without."""
    return tuple(name for name in report.parameters if name != "limit" and not report.parameters[name].nullable)


def _schema(parameter: Parameter) -> dict[str, Any]:
    # Another type is refused by the check of the database at start (repository.startup_check).
    schema = _LIMIT if parameter.name == "limit" else _SCHEMAS.get(parameter.type, _SCHEMAS["text"])
    return {"description": parameter.meaning.replace("NULL (empty in psql) for", "without it:"), **schema}
