"""Keeps writes away from a database that takes none: one that is read-only, or whose COMMITs get no answer.

A COMMIT gets none while a synchronous standby is away. Each one that a request has given up still keeps a backend of PostgreSQL,
until no connection is left for reads. So writes are refused before that, and reads go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg

from petstore.cache.circuit_breaker import CircuitBreaker
from petstore.db.connection import Connection, NoReply
from petstore.db.connections import probe_pause
from petstore.db.errors import WritesRefused

_SLOW_SECONDS = 0.5  # a COMMIT without an answer for so long is suspicious
logger = logging.getLogger(__name__)


class WriteGuard:
    """A circuit breaker for writes. fault: `read-only`, `commits-wait`, or None while writes are taken.

    probing(anew): gives a connection for a block. find_fault(conn): asks the database for the fault.
    """

    def __init__(
        self, probing: Callable[[bool], AbstractContextManager[Connection]], find_fault: Callable[[Connection], str | None]
    ) -> None:
        self.fault: str | None = None
        self._probing, self._find_fault = probing, find_fault
        self._commits: dict[int, float] = {}  # by thread: when its COMMIT was sent
        self._breaker = CircuitBreaker("database-writes", self._probe, (psycopg.Error,), probe_pause)

    def close(self) -> None:
        self._breaker.stop()

    def check(self) -> None:
        """WritesRefused while the database takes no writes."""
        if not self._breaker.closed:
            raise WritesRefused(str(self.fault))
        if self._commits:
            late = time.monotonic() - _SLOW_SECONDS
            if any(sent_at < late for sent_at in list(self._commits.values())):
                self._breaker.suspect()

    def suspect(self) -> None:
        """A write has failed in a way that makes others fail as well: ask the database."""
        self._breaker.suspect()

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Around a COMMIT."""
        thread = threading.get_ident()
        self._commits[thread] = time.monotonic()
        try:
            yield
        except NoReply:
            self._breaker.suspect()
            raise
        finally:
            del self._commits[thread]

    def _probe(self) -> None:
        try:
            with self._probing(not self._breaker.closed) as conn:  # one of the pool may lead to the old primary for ever
                fault = self._find_fault(conn)
        except psycopg.Error:
            if self._breaker.closed:
                return  # nothing was learnt about writes
            raise
        before, self.fault = self.fault, fault
        if fault != before:
            if fault:
                logger.error("writes are refused: %s", _MEANINGS.get(fault, fault))
            else:
                logger.warning("the database takes writes again")
        if fault:
            raise WritesRefused(fault)


_MEANINGS = {
    "read-only": "the database is read-only (a standby, or default_transaction_read_only is on)",
    "commits-wait": "COMMITs get no answer (is a synchronous standby away?); reads go on",
}
