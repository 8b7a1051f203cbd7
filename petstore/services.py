"""What every request shares, opened as the settings say: pool, cache, key, and what counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import BoundedSemaphore

from petstore import db
from petstore.auth import signing_keys
from petstore.auth.tokens import Tokens
from petstore.cache.local import LocalCache
from petstore.cache.redis_cache import Cache
from petstore.cache.shared_generations import SharedGenerations
from petstore.db import Database
from petstore.limits.failed_attempts import FailedAttempts
from petstore.limits.request_rate import RequestRate
from petstore.repository.startup_check import verify_database
from petstore.settings import Settings, SettingsError


@dataclass(frozen=True)
class Services:
    """What every request shares.

    memory: what this process keeps; throttle: counts failed attempts; rates: all requests; waiters: how many may wait for another
    request's Idempotency-Key at the same time; exports: how many may be made at the same time.
    """

    settings: Settings
    db: Database
    cache: Cache
    local_cache: LocalCache
    tokens: Tokens
    failed_attempts: FailedAttempts
    request_rate: RequestRate
    key_waiters: BoundedSemaphore
    exports: BoundedSemaphore


pass


def open_cache(settings: Settings, namespace: Callable[[], str | None]) -> Cache:
    """The cache that the settings name; Refused when what the processes of this machine are to share cannot be used."""
    shared = None
    if settings.cache_scope == "machine":
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            shared = SharedGenerations(settings.home / "generations")
        except OSError as error:
            raise SettingsError(f"PETSTORE_CACHE_SCOPE=machine needs a file of this user's: {error}") from None
    return Cache(settings.redis_url, namespace, shared)


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    """What every request shares, for the block: pool, cache and key, as the settings say. KeyFault when the key is unfit."""
    ring = signing_keys.Keyring(settings.keys)
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
            LocalCache(),
            issuer,
            FailedAttempts(cache.reach),
            RequestRate(settings.rate_limit),
            waiters,
            BoundedSemaphore(1),
        )
    finally:
        cache.close()
        database.close()
