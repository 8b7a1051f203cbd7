"""Row locks: how many requests of this process wait for the same row, so that one that stays locked does not take all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from petstore import errors
from petstore.db.errors import LOCK_NOT_AVAILABLE, QUERY_CANCELED

HASTY_SECONDS = 0.5  # the longest that most requests wait for a row that others of this process want as well
TRY_SECONDS = 0.015  # the longest that a request waits for a row that is known to stay locked
_KNOWN_SECONDS = 10.0  # a lock that was not given in time is remembered so long
_TRY_PAUSE_SECONDS = 0.05  # between two tries, of all rows that are known to stay locked together


@dataclass
class _LockedRow:
    """A row that somebody was not given in time. until, try_at: time.monotonic(); trying: a request tries it now."""

    until: float
    try_at: float
    trying: bool = False


class LockWaits:
    """The writes in progress, by the rows that they lock.

    patient: how many writes that want the same may wait as long as the database lets them; the others wait HASTY_SECONDS. Of the
    writes that want a row which somebody was not given in time, one at a time tries; the others are refused at once.
    """

    def __init__(self, patient: int) -> None:
        self._patient = patient
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}  # writes by row or kind
        self._locked: dict[str, _LockedRow] = {}

    @contextmanager
    def waiting_for(self, rows: Collection[str], account: str = "", kind: str = "") -> Iterator[float | None]:
        """Around a transaction that locks these rows; gives how long it may wait for a lock; None: as the database says.

        Unavailable if one of the rows is known to stay locked. account: the row of the caller. kind: of a write that may lock
        other rows as well, which others of its kind want, too.
        """
        names = [name for name in (*rows, account, kind) if name]
        tried = self._try([*rows, account]) if self._locked else []
        others = self._enter(names)
        try:
            yield TRY_SECONDS if tried else HASTY_SECONDS if others >= self._patient else None
            self._forget(names)
        except errors.Problem as problem:
            if getattr(problem.__cause__, "sqlstate", None) in (LOCK_NOT_AVAILABLE, QUERY_CANCELED):
                self._remember(rows, account, str(problem.__cause__))
            raise
        finally:
            self._leave(names)
            for row in tried:
                row.trying = False

    def _try(self, names: Collection[str]) -> list[_LockedRow]:
        """Those of the rows that are known to stay locked, for this request to try. Unavailable if it may not."""
        now = time.monotonic()
        with self._lock:
            locked = [row for row in map(self._locked.get, names) if row and now < row.until]
            if any(row.trying or now < row.try_at for row in locked):
                raise errors.Unavailable("What this changes is locked in the database by somebody else; try again.")
            for row in locked:
                row.trying = True
        return locked

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

    def _remember(self, rows: Collection[str], account: str, message: str) -> None:
        """Note the row that was not given. Of several nobody knows which one. message: of PostgreSQL, with its context."""
        row = account if '"users"' in message else next(iter(rows)) if len(rows) == 1 else ""
        if not row:
            return
        now = time.monotonic()
        with self._lock:
            self._locked = {name: one for name, one in self._locked.items() if now < one.until}
            pause = _TRY_PAUSE_SECONDS * len(self._locked) if row in self._locked else 0  # it may be free by now
            self._locked[row] = _LockedRow(now + _KNOWN_SECONDS, now + pause)

    def _forget(self, names: Collection[str]) -> None:
        if self._locked:
            with self._lock:
                for name in names:
                    self._locked.pop(name, None)
