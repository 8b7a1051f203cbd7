"""What every request shares, opened as the settings say: pool, cache, key, and what counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import BoundedSemaphore

from petstore import db, keyring
from petstore.cache import Cache
from petstore.calls import Services
from petstore.console import Refused
from petstore.memory import Memory, SharedGenerations
from petstore.rates import Rates
from petstore.repository import verify_database
from petstore.settings import Settings
from petstore.throttle import Throttle
from petstore.tokens import Tokens


def open_cache(settings: Settings, namespace: Callable[[], str | None]) -> Cache:
    """The cache that the settings name; Refused when what the processes of this machine are to share cannot be used."""
    shared = None
    if settings.cache_scope == "machine":
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            shared = SharedGenerations(settings.home / "generations")
        except OSError as error:
            raise Refused(f"PETSTORE_CACHE_SCOPE=machine needs a file of this user's: {error}") from None
    return Cache(settings.redis_url, namespace, shared)


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    """What every request shares, for the block: pool, cache and key, as the settings say. KeyFault when the key is unfit."""
    ring = keyring.Keyring(settings.keys)
    verify = partial(verify_database, currency=settings.currency, minor_digits=settings.minor_digits)
    database = db.Database(settings.database_url or "", pool_size=settings.pool_size, verify=verify)
    cache = open_cache(settings, lambda: database.identity)
    issuer = Tokens(ring, issuer=settings.issuer, audience=settings.audience, seconds=settings.token_seconds)
    database.open()
    try:
        waiters = BoundedSemaphore(max(1, settings.threads // 4))
        yield Services(
            settings,
            database,
            cache,
            Memory(),
            issuer,
            Throttle(cache.reach),
            Rates(settings.rate_limit),
            waiters,
            BoundedSemaphore(1),
        )
    finally:
        cache.close()
        database.close()
