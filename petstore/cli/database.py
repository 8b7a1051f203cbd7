"""`petstore migrate` and `petstore seed`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from petstore import db
from petstore.cli import seeding
from petstore.cli.connect import check_shop, clear_cache, open_shop
from petstore.cli.output import CommandError, report
from petstore.db import schema
from petstore.db.migrations import newest_version
from petstore.repository import system
from petstore.settings import Settings


def migrate(settings: Settings, options: argparse.Namespace) -> None:
    """Migrate the schema to the newest version; in an empty database, make it. PETSTORE_OWNER_URL: database and owner."""
    url = settings.owner_url
    if not url:
        raise CommandError(
            "set PETSTORE_OWNER_URL to the database, as a superuser (or as petstore_owner after sql/roles.sql)."
            " An embedded database is migrated by `petstore serve --setup`"
        )
    if options.plan:
        with db.connect(url) as conn:
            _show_plan(conn, options.to)
        return
    if options.to is not None and not _has_schema(url):
        raise CommandError(f"--to is for a database that has a schema; an empty one gets version {newest_version()} at once")
    if schema.create_schema(url, currency=settings.currency, minor_digits=settings.minor_digits, report=report):
        done = "made"
    else:
        done = "reached" if schema.migrate(url, to=options.to, report=report) else "is there already"
    with db.connect(url) as conn:
        shop = check_shop(conn)
    report(f"schema version {shop.version} {done}, amounts in {shop.currency}")


def _has_schema(url: str) -> bool:
    with db.connect(url) as conn:
        return schema.schema_exists(conn)


def _show_plan(conn: db.Connection, to: int | None) -> None:
    """Print what `migrate` would run."""
    if not schema.schema_exists(conn):
        report(f"it would make schema version {newest_version()} from sql/roles.sql and sql/schema.sql")
        return
    wanted = schema.pending(conn, to=to)
    report(f"schema version {system.get_shop(conn).version}; {len(wanted)} migrations to run")
    for migration in wanted:
        how = "one transaction" if migration.one_transaction else "statement by statement"
        print(f"{migration.file}: {migration.sentence}")
        print(f"  Locks: {migration.locks}\n  Rewrites: {migration.rewrites}\n  Safe: {'yes' if migration.safe else 'no'}; {how}")


def seed(settings: Settings, options: argparse.Namespace) -> None:
    """Add the demo catalogue, or products, users and invoices for load tests; then clear the cache."""
    counts = {"products": options.products, "users": options.users, "invoices": options.invoices}
    if any(counts.values()) and settings.database_url and not settings.owner_url:
        raise CommandError("set PETSTORE_OWNER_URL: loading test data needs the rights of petstore_owner")
    with open_shop(settings) as (settings, _, shop), _as_owner(settings, shop) as conn:
        try:
            if any(counts.values()):
                seeding.load(conn, minor_digits=shop.minor_digits, **counts)
            else:
                added = seeding.seed_demo(conn, shop.minor_digits)
                report(f"{added} demo products added" if added else "all demo products are on sale already")
        except seeding.NothingToSell as error:
            raise CommandError(str(error)) from None
        finally:  # also when interrupted: something may have been added
            clear_cache(settings, shop.identity)


@contextmanager
def _as_owner(settings: Settings, shop: system.Shop) -> Iterator[db.Connection]:
    """A connection to the same database as PETSTORE_OWNER_URL says; where it is not set, as the service."""
    with db.connect(settings.owner_url or settings.database_url or "") as conn:
        if check_shop(conn).identity != shop.identity:
            raise CommandError("PETSTORE_OWNER_URL and PETSTORE_DATABASE_URL name two different databases")
        yield conn
