"""The reports, as sql/reports: each file there is one, without any Python of its own. Its header says what it takes."""

from __future__ import annotations

from typing import Any

from petstore.db import Connection, rows
from petstore.db.describe import as_reporter
from petstore.db.queries import load_reports


def run_report(conn: Connection, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of sql/reports/<name>.sql, each by column."""
    return rows(conn, load_reports()[f"reports/{name}"], **parameters)


def answer_report(conn: Connection, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """As `run_report`, with no more rights than petstore_report has; those stay so until the transaction ends."""
    as_reporter(conn)
    return run_report(conn, name, **parameters)
