"""The services that all requests share, opened as the settings say: connection pool, cache, signing keys, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import BoundedSemaphore

from petstore import db
from petstore.auth import signing_keys
from petstore.auth.key_agreement import KeyAgreement
from petstore.auth.refresh_tokens import RefreshTokens
from petstore.auth.tokens import Tokens
from petstore.cache.local import LocalCache
from petstore.cache.redis_cache import Cache
from petstore.cache.shared_generations import SharedGenerations
from petstore.db import Database
from petstore.db.identity import IdentityWatch
from petstore.errors import Problem
from petstore.limits.exports import ExportTurns
from petstore.limits.failed_attempts import FailedAttempts
from petstore.limits.live_keys import LiveKeys
from petstore.limits.lock_waits import LockWaits
from petstore.limits.request_rate import RequestRate
from petstore.repository import system
from petstore.repository.drift import DriftWatch
from petstore.repository.startup_check import verify_database
from petstore.settings import Settings, SettingsError


@dataclass
class Process:
    """The process itself. stopping: it is about to stop; a plain value, as signal handlers set it."""

    stopping: bool = False


@dataclass(frozen=True)
class Services:
    """The services of one process.

    local_cache: the cache in this process's memory. key_waiters: bounds how many requests wait at the same time for the first one
    with their Idempotency-Key. exports: whose export is made or sent. watch: asks what the database is while no request does.
    """

    settings: Settings
    db: Database
    cache: Cache
    local_cache: LocalCache
    tokens: Tokens
    refresh_tokens: RefreshTokens
    failed_attempts: FailedAttempts
    request_rate: RequestRate
    lock_waits: LockWaits
    live_keys: LiveKeys
    key_waiters: BoundedSemaphore
    exports: ExportTurns
    drift: DriftWatch
    watch: IdentityWatch
    key_agreement: KeyAgreement
    process: Process = field(default_factory=Process)

    def close(self) -> None:
        """End the connections to Redis and PostgreSQL."""
        self.watch.stop()
        self.cache.close()
        self.db.close()


def open_cache(settings: Settings, identity: Callable[[], str | None]) -> Cache:
    """The cache that the settings name. SettingsError when the file of SharedGenerations cannot be used.

    identity: gives that of the database (system.get_identity), None while it is not known.
    """
    shared = None
    if settings.cache_scope == "machine":
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            shared = SharedGenerations(settings.home / "generations")
        except OSError as error:
            raise SettingsError(f"PETSTORE_CACHE_SCOPE=machine needs a file of this user's: {error}") from None
    return Cache(settings.redis_url, identity, shared)


def start_services(settings: Settings) -> Services:
    """Open the services, until `close()`. KeyFault when the signing key cannot be used."""
    keyring = signing_keys.Keyring(settings.keys)
    verify = partial(verify_database, currency=settings.currency, minor_digits=settings.minor_digits)
    database = db.Database(
        settings.database_url or "",
        pool_size=settings.pool_size,
        verify=verify,
        find_write_fault=system.get_write_fault,
        leave=lambda identity: cache.leave(identity),
    )
    cache = open_cache(settings, lambda: database.known.text)
    database.open()
    return Services(
        settings=settings,
        db=database,
        cache=cache,
        local_cache=LocalCache(),
        tokens=Tokens(keyring, issuer=settings.issuer, audience=settings.audience, seconds=settings.token_seconds),
        refresh_tokens=RefreshTokens(lambda: keyring.now().refresh),
        failed_attempts=FailedAttempts(cache.connection),
        request_rate=RequestRate(settings.rate_limit),
        lock_waits=LockWaits(max(1, settings.threads - 1)),
        live_keys=LiveKeys(settings.idempotency_keys),
        key_waiters=BoundedSemaphore(max(1, settings.threads // 4)),
        exports=ExportTurns(),
        drift=DriftWatch(),
        key_agreement=KeyAgreement(keyring, settings.keys, cache.connection),
        watch=_watch_identity(database, settings),
    )


def _watch_identity(database: Database, settings: Settings) -> IdentityWatch:
    def ask() -> None:
        with suppress(Problem):  # it is down, which requests find themselves
            database.read(system.get_identity)

    watch = IdentityWatch(database.known, ask)
    if settings.redis_url:
        watch.start()
    return watch


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    """The services, open for the block."""
    services = start_services(settings)
    try:
        yield services
    finally:
        services.close()
