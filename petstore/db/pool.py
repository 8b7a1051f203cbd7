"""The database: transactions, and retries until COMMIT is sent."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psycopg

from petstore.cache.waiting import about_to_wait
from petstore.db.connect_faults import ConnectFault
from petstore.db.connection import Connection
from petstore.db.connections import Connections
from petstore.db.errors import (
    CAUSES,
    NOT_RETRIED,
    READ_ONLY,
    WrongDatabase,
    cause_of,
    problem,
    refusal,
    translated_errors,
)
from petstore.db.identity import KnownIdentity
from petstore.db.run import enqueue_identity
from petstore.db.write_guard import WriteGuard

T = TypeVar("T")
# Deadlines, each shorter than the one before: request 3 s; statement 2.5 s and lock 2 s (session_settings.NEEDED); pool wait 1 s.
REQUEST_SECONDS = 3.0
RETRIES = 3
_VERIFY_SECONDS = 10.0  # until all workers have noticed that a migration ended the range that they serve
_REFUSE_SECONDS = 1.0  # a wrong database is verified once a second, not for each request
_MAX_PAUSE_SECONDS = 0.03  # before a retry
logger = logging.getLogger(__name__)


class Database:
    """A pool of connections to one database, which is verified before its first use and every 10 s of use.

    verify(conn, whole): gives the database's identity, the same for all workers and different for every other database, or raises
    WrongDatabase. whole: every query is checked, too; that is done once, with the first connection.
    leave(identity): called when the database is another one now, with what it was before.
    find_write_fault(conn): why the database takes no writes now, None if it does.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        verify: Callable[[Connection, bool], str],
        find_write_fault: Callable[[Connection], str | None],
        leave: Callable[[str], None] = lambda identity: None,
    ) -> None:
        self._verify, self._leave = verify, leave
        self.known = KnownIdentity(self._changed)  # kept if a later check fails: a write in progress still invalidates
        self._verify_at = 0.0  # time.monotonic()
        self._verified = False
        self._wrong: WrongDatabase | None = None  # what the last verification found
        self._connections = Connections(url, pool_size, self.known)
        self._writes = WriteGuard(self._connections.probing, find_write_fault)

    def open(self) -> None:
        """Connect in the background. A database that is down does not keep the service from starting."""
        self._connections.open()

    def close(self) -> None:
        self._writes.close()
        self._connections.close()

    @property
    def fault(self) -> ConnectFault | None:
        """Why no connection can be made; None if the last attempt succeeded."""
        return self._connections.fault

    def suspect(self) -> None:
        """Requests wait too long: look at once whether the database is there."""
        self._connections.suspect()

    def expect_writes(self) -> None:
        """Unavailable if it is known that a write cannot be done now. It is meant for what comes before the write."""
        about_to_wait()
        with translated_errors():
            self._connections.check()
            self._writes.check()

    def read(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """Call `work(conn)` in autocommit mode and return its result. Retried on another connection if the first one breaks.

        deadline: time.monotonic(), by default REQUEST_SECONDS from now. Errors of psycopg become those of petstore.errors.
        """

        def asking(conn: Connection) -> T:
            enqueue_identity(conn, "system/get_identity")
            return work(conn)

        return self._with_retries(asking, deadline or time.monotonic() + REQUEST_SECONDS)

    def snapshot(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """As `read`, in one snapshot of the database (REPEATABLE READ): for work that runs several queries."""

        def in_snapshot(conn: Connection) -> T:
            conn.queue_command("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            enqueue_identity(conn, "system/get_identity")
            try:
                return work(conn)
            finally:
                conn.end("ROLLBACK")  # there is nothing to commit

        return self._with_retries(in_snapshot, deadline or time.monotonic() + REQUEST_SECONDS)

    def transact(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """Call `work(conn)` in a transaction (READ COMMITTED) and return its result: COMMIT at its end, ROLLBACK if it raises.

        Until COMMIT is sent, it is retried after a broken connection, a deadlock or a serialization failure (RETRIES times).
        So `work` does nothing but SQL. Nothing is retried after COMMIT was sent: OutcomeUnknown if no reply came.
        """

        def in_transaction(conn: Connection) -> T:
            conn.queue_command("BEGIN ISOLATION LEVEL READ COMMITTED")
            try:
                result = work(conn)
                conn.flush()
            except BaseException:
                with suppress(psycopg.Error):
                    conn.end("ROLLBACK")
                raise
            self._commit(conn)
            return result

        return self._with_retries(in_transaction, deadline or time.monotonic() + REQUEST_SECONDS, writes=True)

    def check(self) -> None:
        """Verify the database again. Raises WrongDatabase, or Unavailable if it does not answer."""
        about_to_wait()
        deadline = time.monotonic() + REQUEST_SECONDS
        with translated_errors(wrong_database=False), self._connections.take(deadline, writes=False) as conn:
            self._verify_identity(conn)

    def _with_retries(self, work: Callable[[Connection], T], deadline: float, writes: bool = False) -> T:
        about_to_wait()
        with translated_errors():
            for attempt in range(RETRIES + 1):
                try:
                    with self._connections.take(deadline, writes=writes) as conn:
                        self._verify_in_time(conn)
                        return work(conn)
                except NOT_RETRIED:
                    raise
                except psycopg.Error as error:
                    if error.sqlstate == READ_ONLY:
                        self._connections.renew()  # the next attempt is on a new one, which may lead to another server
                        self._writes.suspect()
                    last = attempt == RETRIES or time.monotonic() >= deadline
                    if last or not cause_of(error).retried:
                        raise
                    logger.info("database work is retried after: %s", error)
                    time.sleep(random.uniform(0, _MAX_PAUSE_SECONDS))  # so that two transactions do not deadlock again
            raise AssertionError("the last attempt returns or raises")

    def _changed(self, before: str) -> None:
        self._leave(before)
        self._verify_at = 0.0  # another one may be of another version or currency

    def _verify_in_time(self, conn: Connection) -> None:
        """Verify before the first use, and every _VERIFY_SECONDS. Raises the last fault again until _REFUSE_SECONDS later."""
        now, wrong = time.monotonic(), self._wrong
        if now < self._verify_at:
            if wrong:
                raise wrong.with_traceback(None)
            if self._verified and not conn.fault:
                return
        try:
            self._verify_identity(conn)
        except psycopg.Error as error:
            # A lock on what is read for it does not concern the request.
            if not self._verified or conn.closed:
                raise
            logger.info("the database could not be verified again: %s", error)

    def _verify_identity(self, conn: Connection) -> None:
        now = time.monotonic()
        self._verify_at = now + _VERIFY_SECONDS  # first: one thread verifies, the others go on
        try:
            if conn.fault:
                conn.close()  # the pool replaces it by one that may have what this one lacks
                raise WrongDatabase(conn.fault)
            self.known.hear(self._verify(conn, not self._verified), now)
            self._verified, self._wrong = True, None
        except WrongDatabase as error:
            self._verify_at = time.monotonic() + _REFUSE_SECONDS
            if str(error) != str(self._wrong):
                logger.error("the database cannot be used: %s", error)
            self._verified, self._wrong = False, error
            raise

    def _commit(self, conn: Connection) -> None:
        warnings = conn.warnings
        try:
            with self._writes.committing():
                tag = conn.end("COMMIT")
        except psycopg.Error as error:
            if conn.closed:
                logger.warning("COMMIT was sent but not answered, its outcome is unknown: %s", error)
                raise problem(CAUSES["no answer to COMMIT"]) from error
            raise refusal(error) from error  # not as psycopg.Error, which would be retried
        if tag not in ("COMMIT", None):
            raise LookupError("the transaction was rolled back: `work` caught an error of the database")
        if conn.warnings > warnings:  # PostgreSQL manual, 27.2.8.3: the wait for the standby was cancelled
            logger.warning("COMMIT was done, but perhaps not on the standby")
            raise problem(CAUSES["no answer to COMMIT"])
