"""The database: a pool, explicit transactions begun anew until COMMIT is sent, and ways to run a query file."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from petstore.causes import CAUSES, Cause, of_database, problem
from petstore.db_connection import CONNECTING, configure, is_open
from petstore.db_connection import Connection as Connection
from petstore.db_connection import Error as Error
from petstore.db_connection import connect as connect
from petstore.errors import Problem
from petstore.queries import QUERIES, Query

Row = TypeVar("Row")
T = TypeVar("T")

# Each under the one before: a request; a statement (here, and 2.5 s in the server); a lock; the wait for a free connection.
REQUEST_SECONDS = 3.0
POOL_SECONDS = 1.0
RETRIES = 3
_PAUSE_SECONDS = 0.03
_OPTIONS = "-c statement_timeout=2500 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=5000 -c timezone=UTC"

_NO_CONNECTION = (PoolTimeout, PoolClosed, TooManyRequests)  # the pool's, which are psycopg.Error too

logger = logging.getLogger(__name__)


class WrongDatabase(Exception):
    """The database answers, but it is not the one that this version needs; the text says what to do."""


class WrongQuery(WrongDatabase):
    """A query file does not fit the database or its function: it was edited, or the database was."""


def one(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> Row:
    """The row of a query that always has one, as a dataclass."""
    found = one_or_none(conn, name, row, **parameters)
    if found is None:
        raise LookupError(f"{name} gave no row")
    return found


def one_or_none(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> Row | None:
    """The only row of a query as a dataclass, or None."""
    return next(iter(many(conn, name, row, **parameters)), None)


def many(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> list[Row]:
    """Every row of a query as dataclasses."""
    return conn.run(QUERIES[name], parameters, lambda names, values: row(**dict(zip(names, values, strict=True))))


def scalar(conn: Connection, name: str, /, **parameters: Any) -> Any:
    """The first column of a query's only row, or None."""
    return next(iter(conn.run(QUERIES[name], parameters, lambda _, values: values[0])), None)


def rows(conn: Connection, query: Query, /, **parameters: Any) -> list[dict[str, Any]]:
    """Every row of any query, each by column."""
    return conn.run(query, parameters, lambda names, values: dict(zip(names, values, strict=True)))


def execute(conn: Connection, name: str, /, **parameters: Any) -> int:
    """Run a query for what it does; the number of rows it touched."""
    return conn.count(QUERIES[name], parameters)


def run_later(conn: Connection, name: str, /, **parameters: Any) -> None:
    """Run a query in one round trip with the next one; only whether it fails is known then."""
    conn.later(QUERIES[name], parameters)


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
                # What the URL itself says comes last, and so it counts.
                "options": f"{_OPTIONS} {conninfo_to_dict(url).get('options', '')}",
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

    def write(
        self, work: Callable[[Connection], T], deadline: float | None = None, first: Callable[[Connection], None] = lambda _: None
    ) -> T:
        """What `work` gives, in one transaction (READ COMMITTED): committed at its end, rolled back if it raises.

        Until COMMIT is sent, a broken connection, a dead-lock or a serialization failure begins it anew, at most RETRIES times:
        `work` does nothing but SQL. After COMMIT was sent nothing is repeated: OutcomeUnknown when its answer did not come.
        first: what comes before `work`, by `run_later`.
        """

        def transact(conn: Connection) -> T:
            conn.begin("BEGIN ISOLATION LEVEL READ COMMITTED")
            try:
                first(conn)
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
                except _NO_CONNECTION:
                    raise
                except psycopg.Error as error:
                    last = attempt == RETRIES or time.monotonic() >= deadline
                    if last or not _cause(error).retried:
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
        raise _refusal(error) from error  # not as psycopg's, which may be begun anew
    if tag not in ("COMMIT", None):
        raise LookupError("an error inside the transaction was swallowed: it is rolled back")


def _cause(error: psycopg.Error) -> Cause:
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError):
        return CAUSES["connection lost"]
    return of_database(error.sqlstate, error.diag.constraint_name)


def _refusal(error: psycopg.Error) -> Problem:
    refusal = problem(_cause(error))
    if refusal.status >= 500:
        logger.warning("database error %s: %s", error.sqlstate, error.diag.message_primary or error)
    return refusal


@contextmanager
def translated_errors(wrong_database: bool = True) -> Iterator[None]:
    """Turn what psycopg and its pool raise into the problems of the API; the details go to the log alone."""
    try:
        yield
    except WrongDatabase as error:
        logger.error("not ready: %s", error)
        if not wrong_database:
            raise
        raise problem(CAUSES["wrong database"]) from error
    except _NO_CONNECTION as error:
        logger.warning("no database connection: %s", error)
        raise problem(CAUSES["no connection"]) from error
    except psycopg.Error as error:
        raise _refusal(error) from error
