"""Row locks: how many requests of this process wait for the same row, so that one that stays locked does not take all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from petstore import errors
from petstore.db.errors import LOCK_NOT_AVAILABLE

HASTY_SECONDS = 0.5  # the longest that most requests wait for a row that others of this process want as well
_KNOWN_SECONDS = 10.0  # a lock that was not given in time is remembered so long


class LockWaits:
    """The writes in progress, by the rows that they lock.

    patient: how many may wait for one row as long as the database lets them; the others wait HASTY_SECONDS. A row that was not
    given to somebody in time is asked for by one request at a time; the others are refused at once.
    """

    def __init__(self, patient: int) -> None:
        self._patient = patient
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}  # writes by row
        self._timed_out: dict[str, float] = {}  # when, by row; time.monotonic()

    @contextmanager
    def waiting_for(self, rows: Sequence[str]) -> Iterator[bool]:
        """Around a transaction. Gives whether it may wait for its locks as long as the database lets it.

        Unavailable if one of the rows stays locked.
        """
        patient = self._enter(rows)
        try:
            yield patient
            self._forget(rows)
        except errors.Problem as problem:
            if getattr(problem.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                self._remember(rows)
            raise
        finally:
            self._leave(rows)

    def _enter(self, rows: Sequence[str]) -> bool:
        with self._lock:
            others = max((self._running.get(row, 0) for row in rows), default=0)
            if others and any(row in self._timed_out and self._running.get(row) for row in rows):
                raise errors.Unavailable("What this changes is locked in the database by somebody else; try again.")
            for row in rows:
                self._running[row] = self._running.get(row, 0) + 1
        return others < self._patient

    def _leave(self, rows: Sequence[str]) -> None:
        with self._lock:
            for row in rows:
                self._running[row] -= 1
                if not self._running[row]:
                    del self._running[row]

    def _remember(self, rows: Sequence[str]) -> None:
        now = time.monotonic()
        with self._lock:
            self._timed_out = {row: at for row, at in self._timed_out.items() if now < at + _KNOWN_SECONDS}
            self._timed_out.update(dict.fromkeys(rows, now))

    def _forget(self, rows: Sequence[str]) -> None:
        if self._timed_out:
            with self._lock:
                for row in rows:
                    self._timed_out.pop(row, None)
