"""The reports, as sql/reports: each file there is one, without any Python of its own. Its header says what it takes."""

from __future__ import annotations

from typing import Any

from petstore.db import Connection, rows
from petstore.db_schema import Description, as_reporter
from petstore.queries import REPORTS, Query

# What a URL can give, by its name in the header, and what JSON can show, where every numeric is an amount of money.
_PARAMETERS = {"bigint": "bigint", "integer": "integer", "text": "text", "timestamptz": "timestamp with time zone"}
_COLUMNS = ("bigint", "integer", "text", "numeric", "boolean", "date", "timestamp with time zone", "bigint[]", "text[]")


def run_report(conn: Connection, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of sql/reports/<name>.sql, each by column."""
    return rows(conn, REPORTS[f"reports/{name}"], **parameters)


def answer_report(conn: Connection, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """As `run_report`, with no more rights than petstore_report has; those stay so until the transaction ends."""
    as_reporter(conn)
    return run_report(conn, name, **parameters)


def check_report(report: Query, described: Description) -> list[str]:
    """What keeps a report from being answered: what its header and PostgreSQL do not agree on, or HTTP has no form for."""
    told, used = report.parameters.keys(), described.parameters.keys()
    faults = [f"parameter {name} is in the {'header' if name in told else 'statement'} only" for name in told ^ used]
    for name in report.parameters.keys() & described.parameters.keys():
        parameter, found = report.parameters[name], described.parameters[name]
        if parameter.type not in _PARAMETERS or found != ("text" if parameter.nullable else _PARAMETERS[parameter.type]):
            faults.append(f"parameter {name} is {parameter.type} in the header and {found} in PostgreSQL")
    faults += [f"column {name} is {kind}" for name, kind in described.columns.items() if kind not in _COLUMNS]
    return sorted(faults)
