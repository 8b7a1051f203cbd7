"""`petstore check`: is the database as the schema and its migrations make it?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from petstore import db, embedded
from petstore.cli.output import CommandError, report
from petstore.db import catalog, schema
from petstore.db.catalog import Difference
from petstore.repository import system
from petstore.repository.drift import is_migrated
from petstore.repository.startup_check import NO_SCHEMA
from petstore.settings import Settings

_AS_OWNER = "SET ROLE petstore_owner;"


def check(settings: Settings, options: argparse.Namespace) -> None:
    """Compare the database with its schema version: prints the SQL that mends each difference. Exit status 1 if there is one."""
    with (
        embedded.attach(settings, report, start=False) as attached,
        db.connect(attached.database_url or "") as conn,
        conn.transaction(),
    ):
        conn.execute("SET LOCAL search_path = m2_be_project")  # the setting of the role may be one of the differences
        if not schema.schema_exists(conn):
            raise CommandError(NO_SCHEMA)
        shop = system.get_shop(conn)
        try:
            found = catalog.differences(conn, shop.version, shop.minor_digits)
            compared = catalog.count(shop.version)
        except LookupError as error:
            raise CommandError(str(error)) from None
        if found and is_migrated(conn, shop.version):
            raise CommandError("the schema is being migrated; run `petstore check` again when that is done")
    if not found:
        report(f"the database is as schema version {shop.version} makes it: {compared} facts compared")
        return
    print(_script(found))
    number = f"{len(found)} difference{'s' if len(found) > 1 else ''}"
    report(f"{number}; review the lines above, and run them in psql as petstore_owner, or as a superuser")
    raise SystemExit(1)


def _script(found: Sequence[Difference]) -> str:
    """A script for psql. What a superuser makes with it belongs to petstore_owner nevertheless."""
    head = [_AS_OWNER]
    if any(one.kind == "function" for one in found):
        head.append("SET check_function_bodies = off;")  # its tables may be missing as well, or not on the search_path
    return "\n\n".join(["\n".join(head), *map(_mend, found)])


def _mend(one: Difference) -> str:
    lines = [f"-- {one.sentence}{' (a superuser has to mend it)' if one.superuser else ''}"]
    if one.found and "\n" not in one.found:
        lines.append(f"-- now: {one.found}")
    return "\n".join([*lines, *(["RESET ROLE;", one.mend, _AS_OWNER] if one.superuser else [one.mend])])
