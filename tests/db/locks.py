"""Watches from inside PostgreSQL who waits for a lock and for how long, and who has an ACCESS EXCLUSIVE lock.

The measurement is PostgreSQL's, not that of the clients: their threads wait for each other and for a busy machine as well. It samples
pg_locks every few milliseconds. A wait is as long as PostgreSQL says (pg_locks.waitstart), so none that is longer than the time between
two samples is missed. A lock has been held at least from the first sample that saw it to the last.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

import psycopg

from petstore import db

LONGEST_WAIT = 0.5  # seconds that a request may wait for a lock
LONGEST_HOLD = 0.2  # seconds that ACCESS EXCLUSIVE may be held on a table

_TABLES = """
    CREATE TEMPORARY TABLE waits (
        pid int, since timestamptz, what text, behind text, seconds float8 NOT NULL, PRIMARY KEY (pid, since)
    );
    CREATE TEMPORARY TABLE holds (
        pid int, xact text, relation regclass, statement text, first timestamptz NOT NULL, last timestamptz NOT NULL,
        PRIMARY KEY (pid, xact, relation)
    );
    CREATE TEMPORARY TABLE samples (at timestamptz NOT NULL);
"""
# Each sample is a transaction of its own: an older one would hold up CREATE INDEX CONCURRENTLY.
_WATCH = """DO $$
BEGIN
    LOOP
        INSERT INTO samples VALUES (clock_timestamp());
        INSERT INTO waits
        SELECT l.pid, l.waitstart, concat_ws(' ', l.mode, l.locktype, l.relation::regclass), left(b.query, 200),
            extract(epoch FROM clock_timestamp() - l.waitstart)
        FROM pg_locks AS l
        INNER JOIN pg_stat_activity AS a ON l.pid = a.pid AND a.datname = current_database() AND a.application_name ~ '^petstore [0-9]'
        LEFT JOIN pg_stat_activity AS b ON b.pid = (pg_blocking_pids(l.pid))[1]
        WHERE NOT l.granted AND l.waitstart IS NOT NULL
        ON CONFLICT (pid, since) DO UPDATE SET seconds = excluded.seconds;
        INSERT INTO holds
        SELECT l.pid, l.virtualtransaction, l.relation::regclass, left(a.query, 200), clock_timestamp(), clock_timestamp()
        FROM pg_locks AS l
        INNER JOIN pg_class AS c ON l.relation = c.oid AND c.relkind = 'r'
        INNER JOIN pg_stat_activity AS a ON l.pid = a.pid
        WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock' AND c.relnamespace = 'm2_be_project'::regnamespace
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ON CONFLICT (pid, xact, relation) DO UPDATE SET last = excluded.last;
        COMMIT;
        PERFORM pg_sleep(0.004);
        COMMIT;
    END LOOP;
END
$$"""


class Wait(NamedTuple):
    """A session of the service that waited for a lock. behind: what the first session that it waited for ran."""

    seconds: float
    what: str
    behind: str


class Hold(NamedTuple):
    """An ACCESS EXCLUSIVE lock on a table. statement: what the session ran when it was first seen with the lock."""

    seconds: float
    relation: str
    statement: str


class LockWatch:
    """Watches for the block; then `waits` and `holds` have what was seen, the longest first. url: of a superuser."""

    def __init__(self, url: str) -> None:
        self._conn = db.connect(url, options="-c search_path=m2_be_project,pg_temp")
        self._thread = threading.Thread(target=self._watch, name="lock-watch")
        self.waits: list[Wait] = []
        self.holds: list[Hold] = []
        self.samples, self.longest_gap = 0, 0.0  # seconds between two samples

    def __enter__(self) -> LockWatch:
        self._conn.execute(_TABLES)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._conn.cancel()
        self._thread.join(30)
        with self._conn as conn:
            found = conn.execute("SELECT seconds, what, coalesce(behind, '') FROM waits ORDER BY seconds DESC").fetchall()
            self.waits = [Wait(*row) for row in found]
            found = conn.execute(
                "SELECT extract(epoch FROM last - first)::float8 AS seconds, relation::text, statement FROM holds ORDER BY seconds DESC"
            ).fetchall()
            self.holds = [Hold(*row) for row in found]
            self.samples, self.longest_gap = conn.execute(
                "SELECT count(*), max(gap)::float8 FROM (SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY at)) FROM samples) AS s (gap)"
            ).fetchone()  # type: ignore[misc]

    def faults(self) -> list[Wait | Hold]:
        """What blocked the shop: waits and locks that were too long."""
        waits = [wait for wait in self.waits if wait.seconds > LONGEST_WAIT]
        return [*waits, *(hold for hold in self.holds if hold.seconds > LONGEST_HOLD)]

    def _watch(self) -> None:
        with suppress(psycopg.errors.QueryCanceled):
            self._conn.execute(_WATCH)
