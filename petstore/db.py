"""The database: a pool, explicit transactions, and four ways to run a query file. The only module that imports psycopg."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row, scalar_row
from psycopg.types.numeric import Int8Dumper
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from petstore import errors
from petstore.queries import QUERIES, SQL_FOLDER, Query

Connection: TypeAlias = psycopg.Connection[Any]
Row = TypeVar("Row")

SCHEMA_VERSION = 1  # what sql/schema.sql writes into schema_version

CONNECT_SECONDS = 2
POOL_SECONDS = 1.0
_OPTIONS = "-c statement_timeout=2500 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=5000 -c timezone=UTC"

logger = logging.getLogger(__name__)


class WrongDatabase(Exception):
    """The database answers, but it is not the one that this version needs; the text says what to do."""


def one(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> Row:
    """The row of a query that always has one, as a dataclass."""
    found = one_or_none(conn, name, row, **parameters)
    if found is None:
        raise LookupError(f"{name} gave no row")
    return found


def one_or_none(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> Row | None:
    """The only row of a query as a dataclass, or None."""
    with conn.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(QUERIES[name].sql, parameters, prepare=True).fetchone()


def many(conn: Connection, name: str, row: type[Row], /, **parameters: Any) -> list[Row]:
    """Every row of a query as dataclasses."""
    with conn.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(QUERIES[name].sql, parameters, prepare=True).fetchall()


def scalar(conn: Connection, name: str, /, **parameters: Any) -> Any:
    """The first column of a query's only row, or None."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(QUERIES[name].sql, parameters, prepare=True).fetchone()


def execute(conn: Connection, name: str, /, **parameters: Any) -> int:
    """Run a query for what it does; the number of rows it touched."""
    return conn.execute(QUERIES[name].sql, parameters, prepare=True).rowcount


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
            min_size=min(2, pool_size),
            max_size=pool_size,
            open=False,
            timeout=POOL_SECONDS,
            # Give up quickly and begin anew at the next request: the back-off would grow to minutes while the database is up.
            reconnect_timeout=1,
            kwargs={
                "autocommit": True,
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "petstore",
                # What the URL itself says comes last, and so it counts.
                "options": f"{_OPTIONS} {conninfo_to_dict(url).get('options', '')}",
            },
            configure=_configure,
        )

    def open(self) -> None:
        """Begin to connect, in the background: a database that is down does not stop the start."""
        self._pool.open()

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in autocommit mode, for reads. psycopg's errors leave it as problems."""
        with translated_errors(), self._borrowed() as conn:
            if not self._verified:
                self._check(conn)
            yield conn

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction (READ COMMITTED): committed at the end of the block, rolled back if it raises."""
        with self.connection() as conn, conn.transaction():
            yield conn

    def check(self) -> None:
        """Ask the database again what it is; raise WrongDatabase, or the problem that keeps it from answering."""
        with translated_errors(wrong_database=False), self._borrowed() as conn:
            self._check(conn)

    @contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        # Not by the pool's own `check=`: it sleeps between one dead connection and the next, while the database is up.
        deadline = time.monotonic() + POOL_SECONDS
        while not _is_open(conn := self._pool.getconn(deadline - time.monotonic())):
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


@contextmanager
def translated_errors(wrong_database: bool = True) -> Iterator[None]:
    """Turn what psycopg and its pool raise into the problems of the API; the details go to the log alone."""
    try:
        yield
    except WrongDatabase as error:
        logger.error("not ready: %s", error)
        if not wrong_database:
            raise
        raise errors.Unavailable("The service is not ready.") from error
    except (PoolTimeout, PoolClosed, TooManyRequests) as error:
        logger.warning("no database connection: %s", error)
        raise errors.Unavailable() from error
    except psycopg.Error as error:
        connection_lost = error.sqlstate is None and isinstance(error, psycopg.OperationalError)
        problem = errors.Unavailable() if connection_lost else errors.from_database(error.sqlstate, error.diag.constraint_name)
        if problem.status >= 500:
            logger.warning("database error %s: %s", error.sqlstate, error.diag.message_primary or error)
        raise problem from error


class _Bigint(Int8Dumper):
    """Every int goes out as bigint: psycopg's choice by size would prepare a statement once per size."""


def _configure(conn: Connection) -> None:
    conn.adapters.register_dumper(int, _Bigint)


def _is_open(conn: Connection) -> bool:
    """Whether the server has not closed a connection while it lay in the pool (after a restart, say). Costs no round trip."""
    readable = select.poll()
    readable.register(conn.fileno(), select.POLLIN)
    if readable.poll(0):  # an idle connection has nothing to say: this is a notice, or the end
        with suppress(psycopg.OperationalError):
            conn.execute("")
    return not conn.closed


def connect(url: str, **options: Any) -> AbstractContextManager[Connection]:
    """One connection of its own, in autocommit mode, for tools; without the deadlines of the service."""
    conn: Connection = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS, **options)
    _configure(conn)
    return conn


Error = psycopg.Error  # for tools that say what went wrong


@dataclass(frozen=True)
class Description:
    """What PostgreSQL says of a statement without running it: types by their SQL names, columns with theirs."""

    parameters: Mapping[str, str]
    columns: Mapping[str, str]


def describe(conn: Connection, query: Query) -> Description:
    """Prepare a query and describe it (PostgreSQL manual, 55.2.3); raise WrongDatabase if it does not fit the schema."""
    pgconn = conn.pgconn
    for result in (pgconn.prepare(b"", query.numbered().encode()), described := pgconn.describe_prepared(b"")):
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            error = psycopg.errors.error_from_result(result)
            if not (error.sqlstate or "").startswith("42"):  # not the query's fault: a lock, a time-out, a lost connection
                raise error
            raise WrongDatabase(f"sql/queries/{query.name}.sql does not fit the database: {error.diag.message_primary}")
    return Description(
        parameters={name: _type(conn, described.param_type(i)) for i, name in enumerate(query.parameters)},
        columns={(described.fname(i) or b"").decode(): _type(conn, described.ftype(i)) for i in range(described.nfields)},
    )


def schema_exists(conn: Connection) -> bool:
    """Whether the connection's role may use the schema and find out what is in it."""
    try:
        row = conn.execute(_MAY_READ).fetchone()
    except psycopg.errors.InsufficientPrivilege:  # not even the schema
        return False
    return row is not None and row[0] is True


_MAY_READ = """
    SELECT has_table_privilege(to_regclass('m2_be_project.shop'), 'SELECT')
        AND has_table_privilege(to_regclass('m2_be_project.schema_version'), 'SELECT')
"""


def _type(conn: Connection, oid: int) -> str:
    info = conn.adapters.types.get(oid)
    if info is None:
        return f"oid {oid}"
    return info.regtype + ("[]" if oid == info.array_oid else "")


def create_schema(url: str, *, currency: str, minor_digits: int) -> bool:
    """Make roles and schema where there are none yet; False if the schema was there. `url`: owner or superuser."""
    with connect(url) as conn:
        conn.execute("SELECT pg_advisory_lock(hashtext('petstore schema'))")  # of two who start at once, one makes it
        if conn.execute("SELECT to_regnamespace('m2_be_project')").fetchone() != (None,):
            return False
        may_create_roles = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user"
        if conn.execute(may_create_roles).fetchone() == (True,):
            conn.execute((SQL_FOLDER / "roles.sql").read_bytes())
        conn.execute(
            "SELECT set_config('petstore.currency', %s, false), set_config('petstore.minor_digits', %s, false)",
            (currency, str(minor_digits)),
        )
        conn.execute((SQL_FOLDER / "schema.sql").read_bytes())
    return True
