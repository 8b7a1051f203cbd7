"""The reports: each file of sql/reports is one. Its header names its parameters, so it has no function of its own."""

from __future__ import annotations

from typing import Any

from petstore.db import Connection, rows
from petstore.db.describe import as_reporter
from petstore.db.queries import load_reports


def run_report(conn: Connection, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """Run sql/reports/<name>.sql; its rows as dicts."""
    return rows(conn, load_reports()[f"reports/{name}"], **parameters)


def answer_report(conn: Connection, name: str, /, **parameters: Any) -> list[dict[str, Any]]:
    """As `run_report`, with the rights of petstore_report only, which hold until the transaction ends."""
    as_reporter(conn)
    return run_report(conn, name, **parameters)
