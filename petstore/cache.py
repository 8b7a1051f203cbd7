"""The read cache in Redis: `@cached(prefix, ttl)` and `invalidate(prefix)`. The only module that imports redis.

Every prefix has a generation: a random token in Redis, replaced by each invalidation. A reader notes the generation before it
asks the database and stores its answer under it; an answer is good only while its generation is the current one. So what a slow
reader stores after a write is never served, whatever the order of events, and a lost generation makes a miss, not a lie. A Redis
that comes back with an old snapshot brings old generations and entries back together: give the cache one that keeps nothing.

With Redis down or frozen, every read is answered from the database: the first call to notice waits 0.2 s at most, the rest do not
ask. A thread asks ten times a second and, before the cache is used again, does the invalidations that were missed.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

SECONDS = 0.2  # the most that one call to Redis may take
PROBE_SECONDS = 0.1  # how often a Redis that is down is asked again
GENERATION_SECONDS = 86_400  # that a generation is kept without a write: then its entries, of minutes, are long gone

HIT, MISS, BYPASS = "HIT", "MISS", "BYPASS"

# What redis-py raises: its own errors, and others' for a host name or an answer that makes no sense to it.
_FAULTS = (redis.RedisError, OSError, ValueError, TypeError)

logger = logging.getLogger(__name__)


class CacheDown(Exception):
    """Redis cannot be used right now."""


@dataclass(frozen=True)
class Document:
    """The bytes of an answer, their strong ETag (RFC 9110, 8.8.3), and where they came from: HIT, MISS, BYPASS or None."""

    body: bytes
    etag: str
    cache: str | None = None


def document(body: bytes, cache: str | None = None) -> Document:
    """Bytes with their ETag, a hash of just them."""
    return Document(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"', cache)


class Cache:
    """Entries of one database in one Redis. `namespace` gives the database's identity, or None while it is not known."""

    def __init__(self, url: str | None, namespace: Callable[[], str | None]) -> None:
        self._namespace = namespace
        self._missed: set[str] = set()  # prefixes whose invalidation did not reach Redis
        self._lock = threading.Lock()
        self._up = url is not None
        self._wake, self._closing = threading.Event(), threading.Event()
        self._redis = self._probe_thread = None
        if url is not None:
            self._redis = redis.Redis.from_url(
                url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=Retry(NoBackoff(), 0)
            )
            self._probe_thread = threading.Thread(target=self._probe, name="cache-probe", daemon=True)
            self._probe_thread.start()

    @property
    def state(self) -> str:
        """ok, down, or off (no PETSTORE_REDIS_URL)."""
        return "off" if self._redis is None else "ok" if self._up else "down"

    def check(self) -> str:
        """Ask Redis whether it is there; the state."""
        with suppress(CacheDown), self._reaching() as (client, _):
            client.ping()
        return self.state

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        if self._redis is not None and self._probe_thread is not None:
            self._probe_thread.join()
            if self._missed:
                self._try_again()  # the last chance for other processes to hear of our writes
            self._redis.close()

    def read(self, prefix: str, key: str) -> tuple[Document | None, str | None]:
        """What is stored, and the generation to store under after a miss. None, None: do not use the cache."""
        try:
            with self._reaching() as (client, space):
                generation, entry = _mget(client, f"{space}generation:{prefix}", f"{space}entry:{prefix}:{key}")
                if generation is None:
                    client.set(f"{space}generation:{prefix}", _new_generation(), nx=True, ex=GENERATION_SECONDS)
                    (generation,) = _mget(client, f"{space}generation:{prefix}")
        except CacheDown:
            return None, None
        if generation is None:  # lost again within a millisecond: a Redis that thrashes is no cache
            return None, None
        if entry is not None and entry.startswith(generation + b"\n"):
            _, etag, body = entry.split(b"\n", 2)
            return Document(body, etag.decode(), HIT), None
        return None, generation.decode()

    def store(self, prefix: str, key: str, generation: str, found: Document, ttl: int) -> None:
        """Keep an answer for `ttl` seconds, good while `generation` is the current one."""
        entry = b"\n".join((generation.encode(), found.etag.encode(), found.body))
        with suppress(CacheDown), self._reaching() as (client, space):
            client.set(f"{space}entry:{prefix}:{key}", entry, ex=ttl)

    def invalidate(self, *prefixes: str) -> None:
        """Make every entry under these prefixes unusable, on every worker. Call it after the commit, before the answer."""
        try:
            with self._reaching() as (client, space):
                self._renew(client, space, prefixes)
        except CacheDown:
            if self._redis is not None:
                with self._lock:
                    self._missed.update(prefixes)
                    self._up = False  # also when Redis came back just now: this has to be caught up with first
                self._wake.set()

    def clear(self) -> int:
        """Remove everything of this database; the number of keys. For tools: it walks over all keys of the Redis."""
        with self._reaching() as (client, space):
            count = 0
            for key in client.scan_iter(match=f"{space}*", count=1000):
                count += int(client.unlink(key))
            return count

    @staticmethod
    def _renew(client: redis.Redis, space: str, prefixes: tuple[str, ...]) -> None:
        with client.pipeline(transaction=False) as pipeline:
            for prefix in prefixes:
                pipeline.set(f"{space}generation:{prefix}", _new_generation(), ex=GENERATION_SECONDS)
            pipeline.execute()

    @contextmanager
    def _reaching(self) -> Iterator[tuple[redis.Redis, str]]:
        """Redis and the key prefix of this database; raise CacheDown at once when it is known to be down."""
        namespace = self._namespace()
        if self._redis is None or namespace is None or not self._up:
            raise CacheDown
        try:
            yield self._redis, f"petstore:{namespace}:"
        except _FAULTS as error:
            if self._up:
                logger.warning("cache down, answering from the database: %s", error)
            self._up = False
            self._wake.set()
            raise CacheDown from error

    def _probe(self) -> None:
        """While Redis is down: ask again and again, then catch up on what was missed."""
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            while not self._up and not self._closing.wait(PROBE_SECONDS):
                self._try_again()

    def _try_again(self) -> None:
        namespace = self._namespace()
        if self._redis is None or namespace is None:
            return
        try:
            self._redis.ping()
            with self._lock:
                missed = tuple(self._missed)
                if missed:
                    self._renew(self._redis, f"petstore:{namespace}:", missed)
                self._missed.clear()
                self._up = True
            logger.warning("cache up again, %d missed invalidations done", len(missed))
        except _FAULTS:
            pass


def _mget(client: redis.Redis, *keys: str) -> list[bytes | None]:
    return cast("list[bytes | None]", client.mget(*keys))


def _new_generation() -> str:
    """Random, so that no generation ever comes back: not after an eviction, nor with the clock of another machine."""
    return secrets.token_hex(8)


class HasCache(Protocol):
    """What a cached function needs of its first argument."""

    @property
    def cache(self) -> Cache: ...

    def encode(self, value: Any) -> bytes: ...


P = ParamSpec("P")
C = TypeVar("C", bound=HasCache)


def cached(prefix: str, ttl: int) -> Callable[[Callable[Concatenate[C, P], Any]], Callable[Concatenate[C, P], Document]]:
    """Cache what a function of (call, **key) returns, as JSON bytes, for `ttl` seconds.

    `prefix` may name members of the key: `"invoices:{user_id}"`. What raises is not cached.
    """

    def decorate(function: Callable[Concatenate[C, P], Any]) -> Callable[Concatenate[C, P], Document]:
        @functools.wraps(function)
        def wrapper(call: C, *args: P.args, **key: P.kwargs) -> Document:
            full_prefix = prefix.format_map(key)
            name = function.__name__ + "".join(f":{value}" for value in key.values())
            found, generation = call.cache.read(full_prefix, name)
            if found is not None:
                return found
            made = document(call.encode(function(call, *args, **key)), MISS if generation else BYPASS)
            if generation:
                call.cache.store(full_prefix, name, generation, made, ttl)
            return made

        return wrapper  # type: ignore[return-value]  # mypy gives wraps() a call that takes `call` by name

    return decorate
