"""The connections of one process to the database: a pool, and a circuit breaker for the time in which none can be made."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from petstore.cache.circuit_breaker import CircuitBreaker
from petstore.db.connect_faults import ConnectFault, connect_fault
from petstore.db.connection import CONNECT_OPTIONS, REPLY_SECONDS, Connection, NoReply, is_connected, is_open
from petstore.db.errors import DatabaseDown
from petstore.db.identity import KnownIdentity
from petstore.db.migrations import OLDEST_VERSION, newest_version
from petstore.db.session_settings import configure_session, wanted_settings

POOL_SECONDS = 1.0  # that a request waits for a free connection
_LIFETIME_SECONDS = 600  # of a connection: after a switchover behind one name or address, none stays on the old server for longer
_TURN_SECONDS = 0.1  # between two looks at the breaker while a request waits for a connection
_RENEW_SECONDS = 1.0
_IDLE_SECONDS = 0.01  # a connection of the pool that is idle is there at once
_PROBE_SECONDS = 2.0  # the longest that a probe waits for a reply
logger = logging.getLogger(__name__)


def probe_pause() -> float:
    """Seconds between two probes: at random, so that many workers do not ask a starting server all at once."""
    return random.uniform(0.2, 0.5)


class Connections:
    """Gives out connections, at most `size`. A part of them is never lent to writes: these may wait for locks, reads do not.

    known: hears what the database is from each connection that is given back. A connection from before it became another one may
    lead to a server that was replaced, and is dropped.
    fault: why the last attempt to connect failed; None once one succeeds. It is logged when it changes, not for each request.

    The circuit breaker opens when no connection can be made and none is left, and when the server is silent on all. Then requests
    are refused at once, and a thread tries to connect.
    """

    def __init__(self, url: str, size: int, known: KnownIdentity) -> None:
        self._known = known
        self.fault: ConnectFault | None = None
        self._replied_at = self._renewed_at = 0.0  # time.monotonic()
        self._lock = threading.Lock()
        self._made: WeakSet[Connection] = WeakSet()
        self._writers = threading.BoundedSemaphore(max(1, size - max(1, size // 3)))
        self._url, self._class = url, _watched(self)
        self._configure = partial(configure_session, wanted=wanted_settings(url))
        self._options: dict[str, Any] = {
            **CONNECT_OPTIONS,
            "application_name": f"petstore {OLDEST_VERSION}-{newest_version()}",  # `petstore migrate` reads it
        }
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url,
            connection_class=self._class,
            min_size=min(2, size),
            max_size=size,
            open=False,
            timeout=POOL_SECONDS,
            max_lifetime=_LIFETIME_SECONDS,
            reconnect_timeout=1,  # a back-off would grow to minutes: the breaker's probes take over
            kwargs=self._options,
        )
        self._breaker = CircuitBreaker("database", self._probe, (psycopg.Error,), probe_pause)

    def open(self) -> None:
        """Connect in the background."""
        self._pool.open()

    def close(self) -> None:
        self._breaker.stop()
        self._pool.close()

    def check(self) -> None:
        """DatabaseDown if the database is known to be down."""
        if not self._breaker.closed:
            raise DatabaseDown(str(self.fault))

    def suspect(self) -> None:
        """Look at once whether the database is there."""
        self._breaker.suspect()

    def connect(self) -> Connection:
        """A connection that is not of the pool, made in the same way."""
        conn: Connection = self._class.connect(self._url, **self._options)
        return conn

    def renew(self) -> None:
        """Make every connection anew, at most once a second: they may lead to a server that is no longer the primary."""
        with self._lock:
            if (now := time.monotonic()) < self._renewed_at + _RENEW_SECONDS:
                return
            self._renewed_at = now
        self._pool.drain()

    @contextmanager
    def take(self, deadline: float, *, writes: bool) -> Iterator[Connection]:
        """A connection for the block. PoolTimeout if none is free within POOL_SECONDS, DatabaseDown at once.

        deadline: time.monotonic(), of every wait on the connection. writes: whether the block may wait for locks.
        """
        self.check()
        wait_until = min(deadline, time.monotonic() + POOL_SECONDS)
        if writes and not self._writers.acquire(timeout=max(0.0, wait_until - time.monotonic())):
            raise PoolTimeout("every connection for writes is in use")
        try:
            conn = self._get_open(wait_until)
            try:
                conn.deadline, asked_at = deadline, time.monotonic()
                with self._watching():
                    yield conn
            finally:
                said, conn.identity = conn.identity, None
                conn.queued.clear()  # left by work that asked nothing
                self._pool.putconn(conn)
                self._known.hear(said, asked_at)
        finally:
            if writes:
                self._writers.release()

    def _get_open(self, wait_until: float) -> Connection:
        # Not with the pool's own `check=`: it sleeps between one dead connection and the next, although the database is up.
        while True:
            seconds = wait_until - time.monotonic()
            try:
                conn = self._pool.getconn(min(seconds, _TURN_SECONDS))
            except PoolTimeout:
                self.check()
                if seconds > _TURN_SECONDS:
                    continue
                raise PoolTimeout("no connection was free in time") from None
            if conn.opened_at < self._known.changed_at:
                conn.close()
            elif is_open(conn):
                return conn
            self._pool.putconn(conn)  # the pool replaces a closed one

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Open the breaker if the server stays silent in the block, and on all other connections as well."""
        since = time.monotonic()
        try:
            yield
            self._replied_at = time.monotonic()
        except NoReply as error:
            if self._replied_at < since and time.monotonic() - since >= REPLY_SECONDS:
                self._note(connect_fault(error))
                self._breaker.trip()
            else:  # another connection was answered meanwhile, or the request had no time left to wait
                self._breaker.suspect()
            raise
        except BaseException:
            self._replied_at = time.monotonic()
            raise

    def _connected(self, conn: Connection) -> None:
        with self._lock:
            self._made.add(conn)
            fault, self.fault = self.fault, None
        if fault:
            logger.warning("the database can be reached again")

    def _refused(self, error: psycopg.Error) -> None:
        self._note(connect_fault(error))
        if not self._has_connected():
            self._breaker.trip()

    def _has_connected(self) -> bool:
        with self._lock:
            made = list(self._made)
        return any(map(is_connected, made))

    def _note(self, fault: ConnectFault) -> None:
        with self._lock:
            before, self.fault = self.fault, fault
        if before is None or before.kind != fault.kind:
            logger.error("the database cannot be used (%s): %s", fault.kind, fault)

    @contextmanager
    def probing(self, anew: bool = False) -> Iterator[Connection]:
        """A connection for a question of our own: an idle one of the pool, else, or if it has to be `anew`, a new one."""
        try:
            if anew:
                raise PoolTimeout
            conn = self._pool.getconn(_IDLE_SECONDS)
        except PoolTimeout:
            with closing(self.connect()) as new:
                new.deadline = time.monotonic() + _PROBE_SECONDS
                yield new
            return
        try:
            conn.deadline = time.monotonic() + _PROBE_SECONDS
            yield conn
        finally:
            self._pool.putconn(conn)

    def _probe(self) -> None:
        try:
            with self.probing() as conn:
                conn.execute("SELECT")
        except psycopg.Error:
            # All slots of the server are taken: whoever has one goes on.
            if not (self.fault and self.fault.kind == "too-many-connections" and self._has_connected()):
                raise


def _watched(connections: Connections) -> type[Connection]:
    """A class of connections that tells how every attempt to connect ends; those in the pool's background would be lost."""

    class Watched(Connection):
        @classmethod
        def connect(cls, *arguments: Any, **options: Any) -> Any:
            try:
                conn = super().connect(*arguments, **options)
                connections._configure(conn)  # it asks the server, which a pooler may not reach
            except psycopg.Error as error:
                connections._refused(error)
                raise
            connections._connected(conn)
            return conn

    return Watched
