"""How a command gets at the database and the cache of the service."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager

from petstore import db, embedded
from petstore.cache.prefixes import LOGINS
from petstore.cache.redis_connection import CacheDown
from petstore.cli.first_start import make_schema
from petstore.cli.output import CommandError, report
from petstore.db.schema import schema_exists
from petstore.repository import system
from petstore.repository.startup_check import NO_SCHEMA, version_fault
from petstore.services import open_cache
from petstore.settings import Settings


@contextmanager
def open_shop(settings: Settings) -> Iterator[tuple[Settings, db.Connection, system.Shop]]:
    """A connection to the service's database: the settings with all URLs filled in, the connection, and what the database is.

    An embedded database that does not exist yet is made first. CommandError when this release does not serve its schema version.
    """
    with embedded.attach(settings, report) as attached:
        open_cache(attached, lambda: None).close()  # fail early: after the work it would be too late to tell the service
        if settings.database_url is None:
            make_schema(attached)
        with db.connect(attached.database_url or "") as conn:
            yield attached, conn, check_shop(conn)


def check_shop(conn: db.Connection) -> system.Shop:
    """What the database is; CommandError when this release does not serve its schema version, or it has no Petstore schema."""
    if not schema_exists(conn):
        raise CommandError(NO_SCHEMA)
    shop = system.get_shop(conn)
    if fault := version_fault(shop):
        raise CommandError(fault)
    return shop


def clear_cache(settings: Settings, identity: str) -> None:
    """Clear the cache of the database with this identity, and report it."""
    if settings.redis_url is None:
        return
    with closing(open_cache(settings, lambda: identity)) as cache:
        try:
            report(f"cache cleared, {cache.clear()} keys")
        except CacheDown:
            report("the cache could not be reached: cached answers may be up to 10 minutes old", logging.WARNING)


def forget_logins(settings: Settings, identity: str, user_id: int) -> None:
    """Make what workers have cached of an account's logins invalid."""
    with closing(open_cache(settings, lambda: identity)) as cache:
        cache.invalidate(LOGINS.format(user_id=user_id))
