"""`petstore check`: is the database as the schema and its migrations make it?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from petstore import db, embedded
from petstore.cli.output import CommandError, report
from petstore.db import catalog, schema
from petstore.db.differences import Difference, differences
from petstore.repository import system
from petstore.repository.drift import is_migrated
from petstore.repository.startup_check import NO_SCHEMA
from petstore.settings import Settings

_AS_OWNER = "SET ROLE petstore_owner;\n"
# How each section of the script begins and ends: what can be done at once, so that no write comes between a DROP and its CREATE,
# then what reads whole tables, and may wait. Before and after them, what only a superuser may.
_SECTIONS = (
    ("RESET ROLE;", ""),
    (f"{_AS_OWNER}BEGIN;", "COMMIT;"),
    (f"{_AS_OWNER}SET lock_timeout = 0;", ""),
    ("RESET ROLE;\nSET lock_timeout = '200ms';", ""),
    ("RESET ROLE;\nSET lock_timeout = 0;", ""),
)
_FIRST, _TRANSACTION, _ALONE, _LAST = range(4)  # and alone as a superuser


def check(settings: Settings, options: argparse.Namespace) -> None:
    """Compare the database with its schema version: prints the SQL that mends each difference. Exit status 1 if there is one."""
    with (
        embedded.attach(settings, report, start=False) as attached,
        db.connect(attached.database_url or "") as conn,
        conn.transaction(),
    ):
        # What the role has set may be one of the differences; and nobody waits for this.
        conn.execute("SET LOCAL search_path = m2_be_project; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        if not schema.schema_exists(conn):
            raise CommandError(NO_SCHEMA)
        shop = system.get_shop(conn)
        try:
            found = differences(conn, shop.version, shop.minor_digits)
            compared = catalog.count(shop.version)
        except LookupError as error:
            raise CommandError(str(error)) from None
        if found and is_migrated(conn, shop.version):
            raise CommandError("the schema is being migrated; run `petstore check` again when that is done")
    if not found:
        report(f"the database is as schema version {shop.version} makes it: {compared} facts compared")
        return
    print(_script(found))
    harmful = sum(one.harmful for one in found)
    number = f"{len(found)} difference{'s' if len(found) > 1 else ''}, {harmful} of them harmful"
    report(f"{number}; review the lines above, and run them in psql as petstore_owner, or as a superuser")
    raise SystemExit(1)


def _script(found: Sequence[Difference]) -> str:
    """A script for psql. What a superuser makes with it belongs to petstore_owner nevertheless."""
    script = ["\\set ON_ERROR_STOP on\nSET lock_timeout = '200ms';"]  # nobody waits for one that waits; run it again
    if any(one.kind == "function" for one in found):
        script[0] += "\nSET check_function_bodies = off;"  # its tables may be missing as well, or not on the search_path
    for section, (head, end) in enumerate(_SECTIONS):
        mends = [_mend(one) for one in found if _section(one) == section]
        if section == _ALONE:
            mends[:0] = [_held(one, one.afterwards) for one in found if one.afterwards]
        script += [head, *mends, end] if mends else []
    return "\n\n".join(filter(None, script))


def _section(one: Difference) -> int:
    if one.superuser:
        return _FIRST if one.kind in ("role", "extension", "owner of") else _LAST + one.alone
    return _ALONE if one.alone else _TRANSACTION


def _mend(one: Difference) -> str:
    superuser, harmful = " (a superuser has to mend it)" if one.superuser else "", " (harmful)" if one.harmful else ""
    lines = [f"-- {one.sentence}{superuser}{harmful}"]
    if one.found and "\n" not in one.found:
        lines.append(f"-- now: {one.found}")
    if one.held:
        lines.append(f"-- {one.held}")
    return "\n".join([*lines, _held(one, one.mend)])


def _held(one: Difference, sql: str) -> str:
    return "\n".join(f"-- {line}" for line in sql.split("\n")) if one.held else sql
