"""The database schema: whether it is there, how it is created, and how it is migrated."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import psycopg

from petstore.db.connection import Connection, connect
from petstore.db.migrations import Migration, load_migrations
from petstore.db.queries import sql_folder

Report = Callable[[str], None]
# A statement that waits for a lock on a table holds up everybody who comes after it. So it soon gives up, and tries again later.
_LOCK_TIMEOUT = "200ms"
_ATTEMPTS = 100
_MAX_PAUSE_SECONDS = 3.0  # between two of them; 100 attempts take about five minutes


def _silent(text: str) -> None:
    pass


class MigrationError(Exception):
    """The schema cannot be migrated. The text says why, and what to do."""


def schema_exists(conn: Connection) -> bool:
    """Whether the schema is there, and the connection's role may read its version."""
    try:
        row = conn.execute(_MAY_READ).fetchone()
    except psycopg.errors.InsufficientPrivilege:  # on the schema itself
        return False
    return row is not None and row[0] is True


_MAY_READ = """
    SELECT has_table_privilege(to_regclass('m2_be_project.shop'), 'SELECT')
        AND has_table_privilege(to_regclass('m2_be_project.schema_version'), 'SELECT')
"""


def create_schema(url: str, *, currency: str, minor_digits: int, report: Report = _silent) -> bool:
    """Create roles and schema; False if the schema was there already. url: of the database's owner or a superuser."""
    with _locked(url, report) as conn:
        if conn.execute("SELECT to_regnamespace('m2_be_project')").fetchone() != (None,):
            return False
        may_create_roles = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user"
        if conn.execute(may_create_roles).fetchone() == (True,):
            conn.execute((sql_folder() / "roles.sql").read_bytes())
        conn.execute(
            "SELECT set_config('petstore.currency', %s, false), set_config('petstore.minor_digits', %s, false)",
            (currency, str(minor_digits)),
        )
        conn.execute((sql_folder() / "schema.sql").read_bytes())
    return True


def is_migrating(conn: Connection) -> bool:
    """Whether somebody creates or migrates the schema of this database right now."""
    return conn.execute(_MIGRATING).fetchone() == (True,)


# pg_locks shows the two halves of the key of an advisory lock (PostgreSQL manual, 54.12).
_MIGRATING = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l INNER JOIN pg_catalog.pg_database AS d ON l.database = d.oid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = current_database()
            AND l.classid::bigint << 32 | l.objid::bigint = hashtext('petstore schema')
    )
"""


def migrate(
    url: str, *, to: int | None = None, migrations: Mapping[int, Migration] | None = None, report: Report = _silent
) -> list[Migration]:
    """Run the migrations that the database lacks, up to version `to`, by default all; which ones.

    url: of a superuser or petstore_owner. MigrationError says which file could not be applied, and what stays of it.
    """
    with _locked(url, report) as conn:
        # What a file says itself (RAISE) has a context. What does not exist, and so is not dropped, concerns nobody.
        conn.add_notice_handler(lambda notice: report(f"  {notice.message_primary}") if notice.context else None)
        _become_owner(conn)
        wanted = pending(conn, to=to, migrations=migrations)
        _refuse_beside_older_releases(conn, wanted)
        for migration in wanted:
            report(f"{migration.file}: {migration.sentence}")
            try:
                _become_owner(conn)  # again: whatever a file has set ends with it
                _run(conn, migration, report)
            except psycopg.Error as error:
                said = (error.diag.message_primary or str(error)).strip()
                raise MigrationError(f"{migration.file} failed: {said}\n{_what_stays(migration, error)}") from error
    return wanted


def _what_stays(migration: Migration, error: psycopg.Error) -> str:
    if not migration.one_transaction:
        return "Its statements up to there are applied; it can be run again"
    if error.sqlstate is None:
        return "The connection is lost, perhaps at COMMIT: `petstore migrate --plan` tells whether it is applied"
    return "Nothing of it is applied"


def _become_owner(conn: Connection) -> None:
    conn.execute("RESET ALL; RESET ROLE")
    with suppress(psycopg.errors.InsufficientPrivilege):
        # Autovacuum gives way to a waiting lock after this time; by default that is later than _LOCK_TIMEOUT.
        conn.execute("SET deadlock_timeout = '100ms'")
    try:
        conn.execute("SET ROLE petstore_owner; SET search_path = m2_be_project")
    except psycopg.errors.InsufficientPrivilege:
        raise MigrationError("PETSTORE_OWNER_URL must log in as petstore_owner, as a member of it, or as a superuser") from None
    conn.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")


def pending(conn: Connection, *, to: int | None = None, migrations: Mapping[int, Migration] | None = None) -> list[Migration]:
    """The migrations that the database lacks, up to version `to`. MigrationError if it has others than the files say."""
    files = load_migrations() if migrations is None else migrations
    applied = {version: facts for version, *facts in conn.execute(_APPLIED).fetchall()}
    if not applied:
        raise MigrationError("schema_version has no row, so nobody knows which version this is: restore its rows from a backup")
    current = max(applied)
    for version, (name, digest) in applied.items():
        migration = files.get(version)
        if migration and (name not in (None, migration.name) or digest not in (None, migration.sha256)):
            raise MigrationError(
                f"sql/migrations/{migration.file} is not the file that was applied to this database ({name or 'no name'},"
                f" SHA-256 {digest or 'unknown'}): an applied file is never edited. Restore it, and write a new one"
            )
    lacking = [migration.file for version, migration in files.items() if version < current and version not in applied]
    if lacking:
        raise MigrationError(
            f"the database has version {current}, but not {', '.join(lacking)}: run it with psql, by the line in its header"
        )
    if to is not None and not current <= to <= max(files):
        raise MigrationError(f"the database has version {current}, and the files go up to {max(files)}: {to} is not between them")
    return [migration for version, migration in files.items() if current < version and (to is None or version <= to)]


# By way of JSON, because version 5 has neither column.
_APPLIED = """
    SELECT v.version, to_jsonb(v) ->> 'name', to_jsonb(v) ->> 'sha256' FROM m2_be_project.schema_version AS v ORDER BY v.version
"""


def _refuse_beside_older_releases(conn: Connection, wanted: Sequence[Migration]) -> None:
    """MigrationError if a release is connected that would stop to serve: the new one is deployed first."""
    for pid, name in conn.execute(_SERVICES).fetchall():
        newest = int(name.rpartition("-")[2]) if "-" in name else 0  # the first release told nothing, and serves version 5 only
        unknown = [migration for migration in wanted if migration.version > newest and not (migration.safe and newest)]
        if unknown:
            raise MigrationError(
                f"process {pid} of PostgreSQL serves a release ({name}) for which {unknown[0].file} is not safe. First let every"
                " node run this release, then migrate. If no such release runs any more, end that session (pg_terminate_backend)"
            )


# The name is told by db.pool: `petstore 5-8`.
_SERVICES = """
    SELECT pid, application_name FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND application_name ~ '^petstore( [0-9]+-[0-9]+)?$' ORDER BY pid
"""


@contextmanager
def _locked(url: str, report: Report) -> Iterator[Connection]:
    """A connection that holds the lock of the schema: one session at a time creates or migrates it."""
    with connect(url) as conn:
        if conn.execute("SELECT pg_backend_pid()").fetchone() != (conn.pgconn.backend_pid,):
            raise MigrationError(
                "this is a connection pooler, where a lock of the session does not hold: connect to PostgreSQL itself"
            )
        waiting = False
        # Not by waiting in PostgreSQL: CREATE INDEX CONCURRENTLY of the one that runs would wait for the statement that waits.
        while conn.execute("SELECT pg_try_advisory_lock(hashtext('petstore schema'))").fetchone() != (True,):
            if not waiting:
                report("another process creates or migrates this schema; waiting for it")
            waiting = True
            time.sleep(0.2)
        yield conn


def _run(conn: Connection, migration: Migration, report: Report) -> None:
    started = time.monotonic()
    if migration.one_transaction:
        _retried(conn, partial(_run_and_record, conn, migration, migration.text), report)
        return
    *statements, record = migration.statements
    for statement in statements:
        # CONCURRENTLY waits for transactions, and nobody waits for it.
        timeout = "0" if "CONCURRENTLY" in statement else _LOCK_TIMEOUT
        _retried(conn, partial(conn.execute, statement.encode()), report, timeout)
    invalid = [name for (name,) in conn.execute(_INVALID).fetchall()]
    if invalid:
        raise MigrationError(f"{migration.file}: INVALID index {', '.join(invalid)}; drop it, and run `petstore migrate` again")
    _retried(conn, partial(_run_and_record, conn, migration, record, started), report)


def _run_and_record(conn: Connection, migration: Migration, text: str, started: float | None = None) -> None:
    """One transaction. started: when the first statement of the file ran, if that was before this one."""
    begun = time.monotonic() if started is None else started
    with conn.transaction():
        conn.execute(text.encode())
        conn.execute(_RECORD, (migration.sha256, time.monotonic() - begun, migration.version))


_RECORD = "UPDATE schema_version SET sha256 = %s, seconds = round(%s::numeric, 3) WHERE version = %s"
_INVALID = """
    SELECT c.relname FROM pg_catalog.pg_index AS i INNER JOIN pg_catalog.pg_class AS c ON i.indexrelid = c.oid
    WHERE c.relnamespace = 'm2_be_project'::regnamespace AND NOT (i.indisvalid AND i.indisready) ORDER BY c.relname
"""


def _retried(conn: Connection, work: Callable[[], object], report: Report, lock_timeout: str = _LOCK_TIMEOUT) -> None:
    """Call `work`, again after a pause whenever it did not get a lock."""
    conn.execute(f"SET lock_timeout = '{lock_timeout}'".encode())
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            work()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if attempt == _ATTEMPTS:
                raise
            if attempt in (1, 10, 50):
                report(f"  {(error.diag.message_primary or '').strip()}; trying again ({attempt} of {_ATTEMPTS}){_holders(conn)}")
            time.sleep(random.uniform(0.5, 1) * min(0.1 * 1.5**attempt, _MAX_PAUSE_SECONDS))


def _holders(conn: Connection) -> str:
    found = conn.execute(_HOLDERS).fetchall()
    return "".join(f"; process {pid} ({user}) has locks" for pid, user in found[:5])


_HOLDERS = """
    SELECT DISTINCT a.pid, coalesce(a.usename, 'autovacuum') FROM pg_catalog.pg_locks AS l
    INNER JOIN pg_catalog.pg_class AS c ON l.relation = c.oid INNER JOIN pg_catalog.pg_stat_activity AS a ON l.pid = a.pid
    WHERE c.relnamespace = 'm2_be_project'::regnamespace AND l.granted AND l.pid <> pg_backend_pid()
"""
