"""Row locks: how many requests of this process wait for the same row, so that one that stays locked does not take all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from petstore import errors
from petstore.db.errors import LOCK_NOT_AVAILABLE, QUERY_CANCELED

HASTY_SECONDS = 0.5  # the longest that most requests wait for a row that others of this process want as well
TRY_SECONDS = 0.015  # the longest that a request waits for a row that is known to stay locked
TRY_PAUSE_SECONDS = 0.1  # between two such tries
_KNOWN_SECONDS = 10.0  # a lock that was not given in time is remembered so long


class LockWaits:
    """The writes in progress, by the rows that they lock.

    patient: how many writes that want the same may wait as long as the database lets them; the others wait HASTY_SECONDS. Of the
    writes that want rows which somebody was not given in time, one at a time tries; the others are refused at once.
    """

    def __init__(self, patient: int) -> None:
        self._patient = patient
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}  # writes by row or kind
        self._timed_out: dict[str, float] = {}  # when, by row; time.monotonic()
        self._trying = threading.Lock()
        self._try_at = 0.0  # time.monotonic()

    @contextmanager
    def waiting_for(self, rows: Collection[str], kind: str = "") -> Iterator[float | None]:
        """Around a transaction that locks these rows; gives the seconds that it may wait for a lock, None for the database's own.

        Unavailable if one of the rows is known to stay locked. kind: of a write that may also lock rows not named here, which
        others of its kind want as well.
        """
        names = [*rows, kind] if kind else rows
        tries = self._stays_locked(rows)
        if tries and not self._may_try():
            raise errors.Unavailable("What this changes is locked in the database by somebody else; try again.")
        others = self._enter(names)
        try:
            yield TRY_SECONDS if tries else HASTY_SECONDS if others >= self._patient else None
            self._forget(rows)
        except errors.Problem as problem:
            if getattr(problem.__cause__, "sqlstate", None) in (LOCK_NOT_AVAILABLE, QUERY_CANCELED):
                self._remember(rows)
            raise
        finally:
            self._leave(names)
            if tries:
                self._trying.release()

    def _may_try(self) -> bool:
        return time.monotonic() >= self._try_at and self._trying.acquire(blocking=False)

    def _stays_locked(self, rows: Collection[str]) -> bool:
        if not self._timed_out:
            return False
        with self._lock:
            since = time.monotonic() - _KNOWN_SECONDS
            return any(self._timed_out.get(row, since) > since for row in rows)

    def _enter(self, names: Collection[str]) -> int:
        """Note a write; how many others want the same."""
        with self._lock:
            others = max((self._running.get(name, 0) for name in names), default=0)
            for name in names:
                self._running[name] = self._running.get(name, 0) + 1
        return others

    def _leave(self, names: Collection[str]) -> None:
        with self._lock:
            for name in names:
                self._running[name] -= 1
                if not self._running[name]:
                    del self._running[name]

    def _remember(self, rows: Collection[str]) -> None:
        now = time.monotonic()
        self._try_at = now + TRY_PAUSE_SECONDS
        with self._lock:
            self._timed_out = {row: at for row, at in self._timed_out.items() if now < at + _KNOWN_SECONDS}
            self._timed_out.update(dict.fromkeys(rows, now))

    def _forget(self, rows: Collection[str]) -> None:
        if self._timed_out:
            with self._lock:
                for row in rows:
                    self._timed_out.pop(row, None)
