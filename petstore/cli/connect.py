"""The shop that a command works on: the database and the cache that the service has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from petstore import db, embedded
from petstore.cache.prefixes import LOGINS
from petstore.cache.redis_connection import CacheDown
from petstore.cli.first_start import make_schema
from petstore.cli.output import CommandError, report
from petstore.db import schema
from petstore.repository import system
from petstore.services import open_cache
from petstore.settings import Settings


@contextmanager
def open_shop(settings: Settings) -> Iterator[tuple[Settings, db.Connection, system.Shop]]:
    """A connection to the shop that the service has, and what it is. Only a database of our own is made on the way."""
    with embedded.attached(settings, report) as found:
        open_cache(found, lambda: None).close()  # Refused before anything is done of which the service could not hear
        if settings.database_url is None:
            make_schema(found)
        with db.connect(found.database_url or "") as conn:
            yield found, conn, check_shop(conn)


def check_shop(conn: db.Connection) -> system.Shop:
    """What the shop of a connection is; Refused when it is none of this version."""
    shop = system.get_shop(conn) if schema.schema_exists(conn) else None
    if shop is None:
        raise CommandError("the database has no Petstore schema: run `petstore migrate`")
    if shop.version != schema.SCHEMA_VERSION:
        raise CommandError(f"the database has schema version {shop.version}, this petstore needs {schema.SCHEMA_VERSION}")
    return shop


def clear_cache(settings: Settings, identity: str) -> None:
    """Clear the cache of the shop with this identity, and say so."""
    if settings.redis_url is None:
        return
    with closing(open_cache(settings, lambda: identity)) as cache:
        try:
            report(f"cache cleared, {cache.clear()} keys")
        except CacheDown:
            report("the cache could not be reached: lists may be up to 10 minutes old")


def forget_logins(settings: Settings, identity: str, user_id: int) -> None:
    """Have every worker forget what it remembers of an account's logins."""
    with closing(open_cache(settings, lambda: identity)) as cache:
        cache.invalidate(LOGINS.format(user_id=user_id))
