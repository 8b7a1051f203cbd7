"""The database: a pool, explicit transactions begun anew until COMMIT is sent, and ways to run a query file."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from petstore.db.connection import CONNECTING, Connection, configure, is_open
from petstore.db.errors import (
    CAUSES,
    NO_CONNECTION,
    WrongDatabase,
    cause_of,
    problem,
    refusal,
    translated_errors,
)

T = TypeVar("T")
# Each under the one before: a request; a statement (here, and 2.5 s in the server); a lock; the wait for a free connection.
REQUEST_SECONDS = 3.0
POOL_SECONDS = 1.0
RETRIES = 3
_PAUSE_SECONDS = 0.03
_OPTIONS = "-c statement_timeout=2500 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=5000 -c timezone=UTC"
logger = logging.getLogger(__name__)


def server_options(url: str) -> str:
    """The server's own deadlines for a connection; what the URL itself says comes last, and so it counts."""
    return f"{_OPTIONS} {conninfo_to_dict(url).get('options', '')}"


class Database:
    """A pool of connections to one database that is known to be the right one.

    `verify(conn, whole)` gives the database's identity, which all workers on it share and no other database has, or raises
    WrongDatabase. The whole check, of every query, is made with the first connection; before it nothing else is run.
    """

    def __init__(self, url: str, *, pool_size: int, verify: Callable[[Connection, bool], str]) -> None:
        self._verify = verify
        self._verified = False
        self.identity: str | None = None  # stays what it was while the database is not fit: a write under way still has a cache
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url,
            connection_class=Connection,
            min_size=min(2, pool_size),
            max_size=pool_size,
            open=False,
            timeout=POOL_SECONDS,
            # Give up quickly and begin anew at the next request: the back-off would grow to minutes while the database is up.
            reconnect_timeout=1,
            kwargs={
                **CONNECTING,
                "application_name": "petstore",
                "options": server_options(url),
            },
            configure=configure,
        )

    def open(self) -> None:
        """Begin to connect, in the background: a database that is down does not stop the start."""
        self._pool.open()

    def close(self) -> None:
        self._pool.close()

    def read(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """What `work` gives, on a connection in autocommit mode; run again on another one when the first breaks.

        deadline: time.monotonic() by which all of it must end; REQUEST_SECONDS from now. psycopg's errors leave it as problems.
        """
        return self._attempts(work, deadline or time.monotonic() + REQUEST_SECONDS)

    def snapshot(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """As `read`, with all of it as it was at one moment (REPEATABLE READ): for what takes several queries."""

        def transact(conn: Connection) -> T:
            conn.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                return work(conn)
            finally:
                conn.end("ROLLBACK")  # there is nothing to commit

        return self.read(transact, deadline)

    def transact(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """What `work` gives, in one transaction (READ COMMITTED): committed at its end, rolled back if it raises.

        Until COMMIT is sent, a broken connection, a dead-lock or a serialization failure begins it anew, at most RETRIES times:
        `work` does nothing but SQL. After COMMIT was sent nothing is repeated: OutcomeUnknown when its answer did not come.
        """

        def transact(conn: Connection) -> T:
            conn.begin("BEGIN ISOLATION LEVEL READ COMMITTED")
            try:
                result = work(conn)
                conn.flush()
            except BaseException:
                with suppress(psycopg.Error):
                    conn.end("ROLLBACK")
                raise
            _commit(conn)
            return result

        return self._attempts(transact, deadline or time.monotonic() + REQUEST_SECONDS)

    def check(self) -> None:
        """Ask the database again what it is; raise WrongDatabase, or the problem that keeps it from answering."""
        with translated_errors(wrong_database=False), self._borrowed(time.monotonic() + REQUEST_SECONDS) as conn:
            self._check(conn)

    def _attempts(self, work: Callable[[Connection], T], deadline: float) -> T:
        with translated_errors():
            for attempt in range(RETRIES + 1):
                try:
                    with self._borrowed(deadline) as conn:
                        if not self._verified:
                            self._check(conn)
                        return work(conn)
                except NO_CONNECTION:
                    raise
                except psycopg.Error as error:
                    last = attempt == RETRIES or time.monotonic() >= deadline
                    if last or not cause_of(error).retried:
                        raise
                    logger.info("begins anew after: %s", error)
                    time.sleep(random.uniform(0, _PAUSE_SECONDS))  # so that two who locked each other out do not meet again
            raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _borrowed(self, deadline: float) -> Iterator[Connection]:
        # Not by the pool's own `check=`: it sleeps between one dead connection and the next, while the database is up.
        wait_until = min(deadline, time.monotonic() + POOL_SECONDS)
        while True:
            if (seconds := wait_until - time.monotonic()) <= 0:
                raise PoolTimeout("the time for this request is over")
            conn = self._pool.getconn(seconds)
            conn.deadline = deadline
            if is_open(conn):
                break
            self._pool.putconn(conn)  # which replaces it
        try:
            yield conn
        finally:
            self._pool.putconn(conn)

    def _check(self, conn: Connection) -> None:
        try:
            self.identity = self._verify(conn, not self._verified)
            self._verified = True
        except WrongDatabase:
            self._verified = False
            raise


def _commit(conn: Connection) -> None:
    try:
        tag = conn.end("COMMIT")
    except psycopg.Error as error:
        if conn.closed:
            logger.warning("COMMIT was sent, and no answer came: %s", error)
            raise problem(CAUSES["no answer to COMMIT"]) from error
        raise refusal(error) from error  # not as psycopg's, which may be begun anew
    if tag not in ("COMMIT", None):
        raise LookupError("an error inside the transaction was swallowed: it is rolled back")
