"""The read cache in Redis, and the protocol that keeps it true.

Each prefix has a generation: a random token in Redis, removed by every write. A reader notes the generation before it asks the
database and stores its answer under it. An answer is served only while its generation is the current one, so what a slow reader
stores after a write is never served. A lost generation is a miss.

A write marks its prefixes before BEGIN (`Cache.writing`). While a mark stands, reads go to the database. After COMMIT the writer
removes the generation and its mark. The mark of a writer that died stays until it is overdue; the reader who finds it then
removes the generation.

Every key carries the run_id of its Redis server: a server that was restarted with old data starts empty for us.

A hit may also be kept in this process's memory (Document.fresh, petstore.web.response_cache). Then only its generation is asked
for: `generations`. With SharedGenerations (PETSTORE_CACHE_SCOPE=machine) Redis is not asked at all: each prefix has a second
generation, in memory that the processes of one machine share. A write renews it before BEGIN, once its mark stands, and after
COMMIT.

While Redis is down or frozen, every read is answered from the database. The first call that notices waits at most 0.2 s, the next
ones do not ask. A thread probes Redis ten times a second, and does the missed invalidations before the cache is used again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from petstore.cache.document import Document, Fresh
from petstore.cache.redis_connection import FAULTS, CacheDown, Mark, NotConnected, RedisConnection, RedisPool
from petstore.cache.shared_generations import SharedGenerations
from petstore.cache.single_flight import SingleFlight
from petstore.cache.writing import Writing

PROBE_SECONDS = 0.1  # how often a Redis that is down is asked again
HIT, MISS, BYPASS = "HIT", "MISS", "BYPASS"
logger = logging.getLogger(__name__)


def by_prefix(prefixes: Collection[str], generations: Collection[bytes | None]) -> dict[str, str | None]:
    """What Redis says of some prefixes, as text."""
    texts = (None if generation is None else generation.decode() for generation in generations)
    return dict(zip(prefixes, texts, strict=True))


@dataclass(frozen=True)
class Found:
    """What a reader learns. generation: to store under; None: the cache is not to be used. marked: just now being written."""

    entry: Document | None = None
    generation: str | None = None
    marked: bool = False


class Cache:
    """Entries of one database in one Redis. `namespace` gives the database's identity, or None while it is not known.

    shared: the generations of this machine, if no other machine uses the database.
    """

    def __init__(self, url: str | None, namespace: Callable[[], str | None], shared: SharedGenerations | None = None) -> None:
        self.single_flight: SingleFlight[Document] = SingleFlight()
        self.shared = shared
        self._namespace = namespace
        self._missed: set[str] = set()  # prefixes whose invalidation did not reach Redis
        self._lost_marks: list[Mark] = []  # that it may have heard of, and of whose end it did not hear
        self._lock = threading.Lock()
        self.up = url is not None
        self._wake, self._closing = threading.Event(), threading.Event()
        self._links = self._probe_thread = None
        if url is not None:
            self._links = RedisPool(url)
            self._probe_thread = threading.Thread(target=self._probe, name="cache-probe", daemon=True)
            self._probe_thread.start()

    @property
    def state(self) -> str:
        """ok, down, or off (no PETSTORE_REDIS_URL)."""
        return "off" if self._links is None else "ok" if self.up else "down"

    def check(self) -> str:
        """Ask Redis whether it is there; the state."""
        with suppress(CacheDown), self.reach() as link:
            link.ping()
        return self.state

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        if self._links is not None and self._probe_thread is not None:
            self._probe_thread.join()
            if self._missed or self._lost_marks:
                self._try_again()  # the last chance for other processes to hear of our writes
            self._links.close()

    def read(self, prefix: str, key: str) -> Found:
        """What is stored, and the generation to store under after a miss."""
        # Before Redis is asked: it has changed by then, or the mark is seen there.
        here = self.shared and self.shared.now(self._name(prefix))
        try:
            with self.reach() as link:
                there, marks, entry, seconds = link.read(prefix, key)
        except CacheDown:
            return Found()
        generation = there.decode()
        if entry is None or not entry.startswith(there + b"\n"):
            return Found(None, generation, marks > 0)
        _, etag, body = entry.split(b"\n", 2)
        return Found(Document(body, etag.decode(), HIT, fresh=Fresh(prefix, here or generation, seconds)), generation)

    def generations(self, prefixes: Collection[str]) -> Mapping[str, str | None]:
        """The present generation of each prefix, for what is kept in this process; None while it is not to be used."""
        if self.shared:
            return {prefix: self.shared.now(self._name(prefix)) for prefix in prefixes}
        try:
            with self.reach() as link:
                return by_prefix(prefixes, link.generations(prefixes))
        except CacheDown:
            return dict.fromkeys(prefixes)

    def store(self, prefix: str, key: str, generation: str, found: Document, ttl: int) -> None:
        """Keep an answer for `ttl` seconds, good while `generation` is the current one."""
        with suppress(CacheDown), self.reach() as link:
            link.store(prefix, key, b"\n".join((generation.encode(), found.etag.encode(), found.body)), ttl)

    def writing(self, *prefixes: str) -> Writing:
        """Around a transaction that may change what these prefixes show."""
        return Writing(self, prefixes)

    def invalidate(self, *prefixes: str, mark: Mark | None = None) -> bool:
        """Make every entry under these prefixes unusable, on every worker, and take the mark away; whether all can know of it."""
        reached = True
        try:  # one that failed at the mark is tried once more: it may be full or slow, and serve old entries to others
            with self.reach(although_down=mark is not None and mark.sent) as link:
                link.forget(prefixes, mark)
        except CacheDown:
            reached = self.state == "off" or self.shared is not None
            self.catch_up_on(prefixes, mark)
        self.renew(prefixes)
        return reached

    def renew(self, prefixes: Collection[str]) -> None:
        if self.shared:
            self.shared.renew(map(self._name, prefixes))

    def _name(self, prefix: str) -> str:
        """Of a prefix among those of all databases of the machine."""
        return f"{self._namespace()}:{prefix}"

    def catch_up_on(self, prefixes: tuple[str, ...], mark: Mark | None) -> None:
        """Do it when Redis is there again, before it is used."""
        if self._links is None:
            return
        with self._lock:
            self._missed.update(prefixes)
            if mark is not None and mark.sent:
                self._lost_marks.append(mark)
            self.up = False  # also when Redis came back just now
        self._wake.set()

    def clear(self) -> int:
        """Remove everything of this database; the number of keys. For tools: it walks over all keys of the Redis."""
        try:
            with self.reach() as link:
                return link.clear()
        finally:
            if self.shared:
                self.shared.renew_all()

    @contextmanager
    def reach(self, although_down: bool = False, connect: bool = True) -> Iterator[RedisConnection]:
        """A connection to Redis for the block; raise CacheDown at once when it is known to be down.

        connect: make one if there is none; else raise CacheDown, which says nothing of Redis then.
        """
        namespace = self._namespace()
        if self._links is None or namespace is None or not (self.up or although_down):
            raise CacheDown
        try:
            with self._links.link(namespace, connect) as link:
                yield link
        except NotConnected:
            raise CacheDown from None
        except FAULTS as error:
            if self.up:
                logger.warning("cache down, answering from the database: %s", error)
            self.up = False
            self._wake.set()
            raise CacheDown from error

    def _probe(self) -> None:
        """While Redis is down: ask again and again, then catch up on what was missed."""
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            while not self.up and not self._closing.wait(PROBE_SECONDS):
                self._try_again()

    def _try_again(self) -> None:
        namespace = self._namespace()
        if self._links is None or namespace is None:
            return
        with suppress(*FAULTS), self._links.link(namespace) as link:
            link.ping()
            with self._lock:
                missed = tuple(self._missed)
                if missed:
                    link.forget(missed)
                    self.renew(missed)
                for mark in self._lost_marks:
                    link.unmark(mark)
                self._missed.clear()
                self._lost_marks.clear()
                self.up = True
            logger.warning("cache up again, %d missed invalidations done", len(missed))
