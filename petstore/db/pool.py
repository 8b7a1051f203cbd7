"""The database: a connection pool, transactions, and retries until COMMIT is sent."""

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

from petstore.db.connection import CONNECT_OPTIONS, Connection, configure, is_open
from petstore.db.errors import (
    CAUSES,
    NO_CONNECTION,
    WrongDatabase,
    cause_of,
    problem,
    refusal,
    translated_errors,
)
from petstore.db.migrations import OLDEST_VERSION, newest_version

T = TypeVar("T")
# Deadlines, each shorter than the one before: request 3 s; statement 2.5 s and lock 2 s (_OPTIONS); pool wait 1 s.
REQUEST_SECONDS = 3.0
POOL_SECONDS = 1.0
RETRIES = 3
_VERIFY_SECONDS = 10.0  # until all workers have noticed that a migration ended the range that they serve
_REFUSE_SECONDS = 1.0  # a wrong database is verified once a second, not for each request
_MAX_PAUSE_SECONDS = 0.03  # before a retry
_OPTIONS = (
    "-c statement_timeout=2500 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=5000"
    " -c search_path=m2_be_project -c timezone=UTC -c datestyle=ISO"
)
logger = logging.getLogger(__name__)


def server_options(url: str) -> str:
    """The server's own deadlines for a connection; the URL's own options come last, so they win."""
    return f"{_OPTIONS} {conninfo_to_dict(url).get('options', '')}"


class Database:
    """A pool of connections to one database, which is verified before its first use and every 10 s of use.

    verify(conn, whole): gives the database's identity, the same for all workers and different for every other database, or raises
    WrongDatabase. whole: every query is checked, too; that is done once, with the first connection.
    """

    def __init__(self, url: str, *, pool_size: int, verify: Callable[[Connection, bool], str]) -> None:
        self._verify = verify
        self._verify_at = 0.0  # time.monotonic()
        self._verified = False
        self._wrong: WrongDatabase | None = None  # what the last verification found
        self.identity: str | None = None  # kept if a later check fails: a write in progress still invalidates its cache entries
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url,
            connection_class=Connection,
            min_size=min(2, pool_size),
            max_size=pool_size,
            open=False,
            timeout=POOL_SECONDS,
            # The pool gives up quickly, and the next request connects: a back-off would grow to minutes, with the database up.
            reconnect_timeout=1,
            kwargs={
                **CONNECT_OPTIONS,
                "application_name": f"petstore {OLDEST_VERSION}-{newest_version()}",  # `petstore migrate` reads it
                "options": server_options(url),
            },
            configure=configure,
        )

    def open(self) -> None:
        """Connect in the background. A database that is down does not keep the service from starting."""
        self._pool.open()

    def close(self) -> None:
        self._pool.close()

    def read(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """Call `work(conn)` in autocommit mode and return its result. Retried on another connection if the first one breaks.

        deadline: time.monotonic(), by default REQUEST_SECONDS from now. Errors of psycopg become those of petstore.errors.
        """
        return self._with_retries(work, deadline or time.monotonic() + REQUEST_SECONDS)

    def snapshot(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """As `read`, in one snapshot of the database (REPEATABLE READ): for work that runs several queries."""

        def in_snapshot(conn: Connection) -> T:
            conn.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                return work(conn)
            finally:
                conn.end("ROLLBACK")  # there is nothing to commit

        return self.read(in_snapshot, deadline)

    def transact(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """Call `work(conn)` in a transaction (READ COMMITTED) and return its result: COMMIT at its end, ROLLBACK if it raises.

        Until COMMIT is sent, it is retried after a broken connection, a deadlock or a serialization failure (RETRIES times).
        So `work` does nothing but SQL. Nothing is retried after COMMIT was sent: OutcomeUnknown if no reply came.
        """

        def in_transaction(conn: Connection) -> T:
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

        return self._with_retries(in_transaction, deadline or time.monotonic() + REQUEST_SECONDS)

    def check(self) -> None:
        """Verify the database again. Raises WrongDatabase, or Unavailable if it does not answer."""
        with translated_errors(wrong_database=False), self._connection(time.monotonic() + REQUEST_SECONDS) as conn:
            self._verify_identity(conn)

    def _with_retries(self, work: Callable[[Connection], T], deadline: float) -> T:
        with translated_errors():
            for attempt in range(RETRIES + 1):
                try:
                    with self._connection(deadline) as conn:
                        self._verify_in_time(conn)
                        return work(conn)
                except NO_CONNECTION:
                    raise
                except psycopg.Error as error:
                    last = attempt == RETRIES or time.monotonic() >= deadline
                    if last or not cause_of(error).retried:
                        raise
                    logger.info("database work is retried after: %s", error)
                    time.sleep(random.uniform(0, _MAX_PAUSE_SECONDS))  # so that two transactions do not deadlock again
            raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _connection(self, deadline: float) -> Iterator[Connection]:
        # Not with the pool's own `check=`: it sleeps between one dead connection and the next, although the database is up.
        wait_until = min(deadline, time.monotonic() + POOL_SECONDS)
        while True:
            if (seconds := wait_until - time.monotonic()) <= 0:
                raise PoolTimeout("no connection was free before the deadline of the request")
            conn = self._pool.getconn(seconds)
            conn.deadline = deadline
            if is_open(conn):
                break
            self._pool.putconn(conn)  # the pool replaces a closed one
        try:
            yield conn
        finally:
            self._pool.putconn(conn)

    def _verify_in_time(self, conn: Connection) -> None:
        """Verify before the first use, and every _VERIFY_SECONDS. Raises the last fault again until _REFUSE_SECONDS later."""
        now, wrong = time.monotonic(), self._wrong
        if now < self._verify_at:
            if wrong:
                raise wrong.with_traceback(None)
            if self._verified:
                return
        try:
            self._verify_identity(conn)
        except psycopg.Error as error:
            # A lock on what is read for it does not concern the request.
            if not self._verified or conn.closed:
                raise
            logger.info("the database could not be verified again: %s", error)

    def _verify_identity(self, conn: Connection) -> None:
        self._verify_at = time.monotonic() + _VERIFY_SECONDS  # first: one thread verifies, the others go on
        try:
            self.identity = self._verify(conn, not self._verified)
            self._verified, self._wrong = True, None
        except WrongDatabase as error:
            self._verify_at = time.monotonic() + _REFUSE_SECONDS
            if str(error) != str(self._wrong):
                logger.error("the database cannot be used: %s", error)
            self._verified, self._wrong = False, error
            raise


def _commit(conn: Connection) -> None:
    try:
        tag = conn.end("COMMIT")
    except psycopg.Error as error:
        if conn.closed:
            logger.warning("COMMIT was sent but not answered, its outcome is unknown: %s", error)
            raise problem(CAUSES["no answer to COMMIT"]) from error
        raise refusal(error) from error  # not as psycopg.Error, which would be retried
    if tag not in ("COMMIT", None):
        raise LookupError("the transaction was rolled back: `work` caught an error of the database")
