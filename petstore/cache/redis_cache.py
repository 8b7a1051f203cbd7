"""The read cache in Redis, and the protocol that keeps it true.

Entries are cached answers. Each belongs to a prefix, such as "products" or "product:4": a write invalidates whole prefixes.
Each prefix has a generation, a random token in Redis, and marks, one for each write in progress.

A read asks for generation, marks and entry in one step. An entry that was stored under the current generation is a HIT. If there
is none, the database is asked, and the answer is stored under the generation that was read before: a MISS. If a write comes in
between, the generation is gone, and what the slow reader stores under it is never served. While there is a mark, nothing is
served or stored: a BYPASS. A generation that Redis lost is a MISS, too.

A write (`Cache.writing`) sets its mark before BEGIN. After COMMIT it removes the generation and its mark. If the writer dies, its
mark expires: the reader that finds it expired removes the generation.

A hit may be kept in this process's memory as well (Document.validity, petstore.web.response_cache). Then only its generation is
asked for (`generations`). With PETSTORE_CACHE_SCOPE=machine Redis is not asked at all: each prefix has a second generation in
memory that all processes of the machine share. A write renews it twice: before BEGIN, once its mark is set, and after COMMIT.

When the database has another history (a fail-over that lost rows, a restored dump; petstore.cache.namespace), nothing that was
cached under the one before is served: a generation names its history. Whoever learns it first tells the others (`leave`).

While Redis is down, a circuit breaker sends every read to the database. The first call that notices waits 0.2 s at most, the next
ones do not ask Redis. Before the breaker closes, the invalidations that Redis missed are done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from petstore.cache.circuit_breaker import CircuitBreaker
from petstore.cache.document import Document, Validity
from petstore.cache.namespace import Namespace, namespace_of
from petstore.cache.redis_connection import FAULTS, CacheDown, Mark, NotConnected, RedisConnection, RedisPool
from petstore.cache.shared_generations import SharedGenerations
from petstore.cache.single_flight import SingleFlight
from petstore.cache.writing import Writing

HIT, MISS, BYPASS = "HIT", "MISS", "BYPASS"
logger = logging.getLogger(__name__)


def decode_generations(prefixes: Collection[str], generations: Collection[bytes | None]) -> dict[str, str | None]:
    """What RedisConnection.generations gave for these prefixes, by prefix."""
    texts = (None if generation is None else generation.decode() for generation in generations)
    return dict(zip(prefixes, texts, strict=True))


@dataclass(frozen=True)
class ReadResult:
    """What the cache says to a reader.

    generation: to store the answer under, None if the cache cannot be used; marked: a write is in progress, so store nothing.
    """

    entry: Document | None = None
    generation: str | None = None
    marked: bool = False


class Cache:
    """The entries of one database in one Redis.

    url: None for no cache. identity: gives that of the database, or None while it is not known; the cache is unused then.
    shared: the generations of this machine, if no other machine uses the database.
    """

    def __init__(self, url: str | None, identity: Callable[[], str | None], shared: SharedGenerations | None = None) -> None:
        self.single_flight: SingleFlight[Document] = SingleFlight()
        self.shared = shared
        self._identity = identity
        self._lock = threading.Lock()
        self._missed: set[str] = set()  # prefixes whose invalidation did not reach Redis
        self._lost_marks: list[Mark] = []  # marks that Redis may still hold
        self._left: set[Namespace] = set()  # those that Redis does not know were left
        self._pool = RedisPool(url) if url is not None else None
        self._breaker = CircuitBreaker("cache", self._catch_up, (*FAULTS, CacheDown)) if url is not None else None

    @property
    def up(self) -> bool:
        """Whether Redis is used. False after a call to it failed, until a probe succeeds."""
        return self._breaker is not None and self._breaker.closed

    @property
    def state(self) -> str:
        """ok, down, or off (no PETSTORE_REDIS_URL)."""
        return "off" if self._breaker is None else "ok" if self.up else "down"

    def check(self) -> str:
        """Ask Redis whether it is there; the state."""
        with suppress(CacheDown), self.connection() as connection:
            connection.ping()
        return self.state

    def close(self) -> None:
        if self._breaker is not None and self._pool is not None:
            self._breaker.stop()
            if self._missed or self._lost_marks or self._left:
                self._breaker.probe()  # the last chance to tell Redis, and so the other processes, of our writes
            self._pool.close()

    def read(self, prefix: str, key: str) -> ReadResult:
        """The entry, if it may be served, and the generation to store under if not."""
        # Before Redis is asked: a write that starts in between renews this one, or its mark is seen in Redis.
        shared_generation = self._shared_generation(prefix) if self.shared else None
        try:
            with self.connection() as connection:
                redis_generation, marks, entry, seconds = connection.read(prefix, key)
        except CacheDown:
            return ReadResult()
        generation = redis_generation.decode()
        if entry is None or not entry.startswith(redis_generation + b"\n"):
            return ReadResult(None, generation, marks > 0)
        _, etag, body = entry.split(b"\n", 2)
        validity = Validity(prefix, shared_generation or generation, seconds)
        return ReadResult(Document(body, etag.decode(), HIT, validity=validity), generation)

    def generations(self, prefixes: Collection[str]) -> Mapping[str, str | None]:
        """The current generation of each prefix, to compare with that of an entry in memory; None: do not use the entry."""
        if self.shared:
            return {prefix: self._shared_generation(prefix) for prefix in prefixes}
        try:
            with self.connection() as connection:
                return decode_generations(prefixes, connection.generations(prefixes))
        except CacheDown:
            return dict.fromkeys(prefixes)

    def store(self, prefix: str, key: str, generation: str, document: Document, ttl: int) -> None:
        """Keep an answer for `ttl` seconds. It is served only while `generation` is the current one."""
        with suppress(CacheDown), self.connection() as connection:
            connection.store(prefix, key, b"\n".join((generation.encode(), document.etag.encode(), document.body)), ttl)

    def writing(self, *prefixes: str) -> Writing:
        """A context manager for a transaction that may change what these prefixes show."""
        return Writing(self, prefixes)

    def invalidate(self, *prefixes: str, mark: Mark | None = None) -> bool:
        """Make every entry under these prefixes unusable and remove the mark. False if other workers may not know of it yet."""
        reached = True
        try:
            # Redis may have been full or slow for a moment when the mark was sent, and serve old entries to others: try again.
            with self.connection(ignore_breaker=mark is not None and mark.sent) as connection:
                connection.invalidate(prefixes, mark)
        except CacheDown:
            reached = self.state == "off" or self.shared is not None
            self.invalidate_later(prefixes, mark)
        self.renew_shared(prefixes)
        return reached

    def invalidate_later(self, prefixes: tuple[str, ...], mark: Mark | None) -> None:
        """Invalidate and remove the mark when Redis is up again, before it is used."""
        if self._breaker is None:
            return
        with self._lock:
            self._missed.update(prefixes)
            if mark is not None and mark.sent:
                self._lost_marks.append(mark)
        self._breaker.trip()  # also if Redis came back just now: this is done before anything is read from it

    def renew_shared(self, prefixes: Collection[str]) -> None:
        """Give these prefixes new generations in the machine's shared memory, if there is one."""
        if self.shared and (namespace := self._namespace()):
            self.shared.renew(f"{namespace.database}:{prefix}" for prefix in prefixes)

    def leave(self, identity: str) -> None:
        """The database is no longer what it said: no process serves anything from then, once it has asked Redis or shared memory.

        If Redis is down, this process tells it before it uses it again.
        """
        left = namespace_of(identity)
        try:
            with self.connection(namespace=left) as connection:
                connection.leave(left.history)
        except CacheDown:
            if self._breaker is not None:
                with self._lock:
                    self._left.add(left)
                self._breaker.trip()
        if self.shared:  # after Redis was told: who sees the new generation asks Redis
            self.shared.renew_all()

    def clear(self) -> int:
        """Remove everything of this database; the number of keys. For tools: it walks over all keys of the Redis."""
        try:
            with self.connection() as connection:
                return connection.clear()
        finally:
            if self.shared:
                self.shared.renew_all()

    @contextmanager
    def connection(
        self, ignore_breaker: bool = False, only_open: bool = False, namespace: Namespace | None = None
    ) -> Iterator[RedisConnection]:
        """A connection to Redis for the block. CacheDown if a call fails, or at once while Redis is known to be down.

        only_open: CacheDown instead of connecting, which may take long; it says nothing about Redis then. namespace: by default
        that of the database.
        """
        namespace = namespace or self._namespace()
        if self._pool is None or self._breaker is None or namespace is None or not (self.up or ignore_breaker):
            raise CacheDown
        try:
            with self._pool.connection(namespace, only_open) as connection:
                yield connection
        except NotConnected:
            raise CacheDown from None
        except FAULTS as error:
            if self._breaker.trip():
                logger.warning("Redis is down, reads go to the database: %s", error)
            raise CacheDown from error

    def _catch_up(self) -> None:
        """The probe of the breaker: ask Redis, then do the invalidations that it missed."""
        namespace = self._namespace()
        if self._pool is None or namespace is None:
            raise CacheDown
        with self._pool.connection(namespace) as connection:
            connection.ping()
            with self._lock:  # taken out, so that what is noted from now on is not lost
                missed, self._missed = self._missed, set()
                marks, self._lost_marks = self._lost_marks, []
                left, self._left = self._left, set()
            try:
                for one in left:
                    with self._pool.connection(one) as connection_of_left:
                        connection_of_left.leave(one.history)
                if missed:
                    connection.invalidate(tuple(missed))
                    self.renew_shared(missed)
                for mark in marks:
                    connection.unmark(mark)
            except BaseException:
                with self._lock:
                    self._missed |= missed
                    self._lost_marks += marks
                    self._left |= left
                raise
        logger.warning("Redis is up again, %d missed invalidations are done", len(missed))

    def _namespace(self) -> Namespace | None:
        return None if (identity := self._identity()) is None else namespace_of(identity)

    def _shared_generation(self, prefix: str) -> str | None:
        """The machine's generation of a prefix, under the present history; None while the database is not known."""
        if self.shared is None or (namespace := self._namespace()) is None:
            return None
        return f"{self.shared.current(f'{namespace.database}:{prefix}')}/{namespace.history}"
