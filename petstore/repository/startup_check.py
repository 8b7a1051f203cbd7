"""The check at start: the database is the right one, and every query and report fits its Python code and the schema."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from types import ModuleType, UnionType
from typing import Any

from petstore.db import Connection
from petstore.db.describe import Description, check_rights, describe
from petstore.db.errors import WrongDatabase, WrongQuery, WrongVersion
from petstore.db.migrations import OLDEST_VERSION, newest_version
from petstore.db.queries import Query, load_queries, load_reports
from petstore.db.schema import schema_exists
from petstore.repository import audit, credit_notes, idempotency, invoices, products, purchases, sessions, system, users
from petstore.repository.drift import missing_rights

MODULES: tuple[ModuleType, ...] = (users, sessions, products, purchases, invoices, credit_notes, idempotency, audit, system)
# SQL type → annotation of a parameter or a dataclass field. A nullable parameter is text in SQL: see `compare`.
_PYTHON: Mapping[str, Any] = {
    "bigint": int,
    "integer": int,
    "text": str,
    "numeric": Decimal,
    "boolean": bool,
    "bytea": bytes,
    "timestamp with time zone": datetime,
    "bigint[]": list[int],
    "integer[]": list[int],
    "numeric[]": list[Decimal],
    "boolean[]": list[bool],
    "text[]": list[str],
}


_SHOWN = 3  # rights that are missing
NO_SCHEMA = "the database has no Petstore schema that its role may use: make it with `petstore migrate`"


def functions() -> dict[str, Callable[..., Any]]:
    """Every repository function, by the name of its query."""
    return {
        f"{module.__name__.rpartition('.')[2]}/{name}": function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    }


def verify_database(conn: Connection, whole: bool = True, *, currency: str, minor_digits: int) -> str:
    """The identity of the database. WrongDatabase when its schema or currency is not what this version and the settings need.

    whole: also check all queries and reports. They are prepared and described, but not run.
    """
    if not schema_exists(conn):
        raise WrongDatabase(NO_SCHEMA)
    shop = system.get_shop(conn)
    if fault := version_fault(shop):
        raise WrongVersion(fault, shop.version)
    if (shop.currency, shop.minor_digits) != (currency, minor_digits):
        there, here = f"{shop.currency} with {shop.minor_digits}", f"{currency} with {minor_digits}"
        raise WrongDatabase(f"the database is in {there} minor digits, PETSTORE_CURRENCY says {here}")
    if whole:
        if rights := missing_rights(conn):
            mends = " ".join(one.mend for one in rights[:_SHOWN])
            more = f" (and {len(rights) - _SHOWN} more: `petstore check`)" if len(rights) > _SHOWN else ""
            raise WrongDatabase(f"rights are missing that every payment needs; run as petstore_owner: {mends}{more}")
        _verify_queries(conn)
    return shop.identity


def version_fault(shop: system.Shop) -> str:
    """Why this release does not serve a database of this schema version, and what to do; "" if it does."""
    newest = newest_version()
    unsafe = min((version for version in shop.unsafe_versions if version > newest), default=None)
    has = f"the database has schema version {shop.version}, this release serves {OLDEST_VERSION} to {newest}"
    if shop.version < OLDEST_VERSION:
        return f"{has}: run `petstore migrate`"
    if unsafe:
        return f"{has}, and version {unsafe} is not safe for releases that do not know it: install a newer release"
    return ""


def _verify_queries(conn: Connection) -> None:
    for name, function in functions().items():
        faults = compare(function, describe(conn, load_queries()[name]))
        if faults:
            raise WrongQuery(f"sql/queries/{name}.sql does not fit its function: {'; '.join(faults)}")
    for name, report in load_reports().items():
        faults = check_report(report, describe(conn, report))
        if faults:
            raise WrongQuery(f"sql/{name}.sql cannot be answered: {'; '.join(faults)}")
        check_rights(conn, report)


def compare(function: Callable[..., Any], described: Description) -> list[str]:
    """How a repository function differs from its query, as PostgreSQL describes it: parameters, columns and their types.

    `**columns` of a function stands for the fields of its row.
    """
    hints = typing.get_type_hints(function)
    returned = _row_type(hints.pop("return"))
    hints.pop("conn")
    members = typing.get_type_hints(returned) if is_dataclass(returned) else {}
    if hints.pop("columns", None):  # any of the row's, each with its type or as text, for NULL
        hints |= {
            name: members[name] | None if kind == "text" else members[name]
            for name, kind in described.parameters.items()
            if name not in hints and name in members
        }
    faults = _differences("parameter", hints, described.parameters, nullable_as_text=True)
    if is_dataclass(returned):
        faults += _differences("column", {f.name: members[f.name] for f in fields(returned)}, described.columns)
    return faults


def _row_type(annotation: Any) -> Any:
    for inner in typing.get_args(annotation):
        if is_dataclass(inner):
            return inner
    return annotation


def _differences(kind: str, python: Mapping[str, Any], sql: Mapping[str, str], nullable_as_text: bool = False) -> list[str]:
    faults = [f"{kind} {name} is in the {'code' if name in python else 'file'} only" for name in python.keys() ^ sql.keys()]
    for name in python.keys() & sql.keys():
        annotation = python[name]
        nullable = isinstance(annotation, UnionType) and type(None) in annotation.__args__
        fits = sql[name] == "text" if nullable and nullable_as_text else _PYTHON.get(sql[name]) in _alternatives(annotation)
        if not fits:
            faults.append(f"{kind} {name} is {annotation} here and {sql[name]} in PostgreSQL")
    return sorted(faults)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, such as int of `int | None`. PostgreSQL does not tell which columns may be NULL."""
    return annotation.__args__ if isinstance(annotation, UnionType) else (annotation,)


# The types of a report's parameters (name in the header → PostgreSQL's name), and of its columns. numeric is always money.
_PARAMETERS = {"bigint": "bigint", "integer": "integer", "text": "text", "timestamptz": "timestamp with time zone"}
_COLUMNS = ("bigint", "integer", "text", "numeric", "boolean", "date", "timestamp with time zone", "bigint[]", "text[]")


def check_report(report: Query, described: Description) -> list[str]:
    """What is wrong with a report: its header and PostgreSQL disagree, or a type has no form in URL or JSON."""
    declared, used = report.parameters.keys(), described.parameters.keys()
    faults = [f"parameter {name} is in the {'header' if name in declared else 'statement'} only" for name in declared ^ used]
    for name in report.parameters.keys() & described.parameters.keys():
        parameter, found = report.parameters[name], described.parameters[name]
        if parameter.type not in _PARAMETERS or found != ("text" if parameter.nullable else _PARAMETERS[parameter.type]):
            faults.append(f"parameter {name} is {parameter.type} in the header and {found} in PostgreSQL")
    faults += [f"column {name} is {kind}" for name, kind in described.columns.items() if kind not in _COLUMNS]
    return sorted(faults)
