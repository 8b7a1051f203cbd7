"""A connection to PostgreSQL with a deadline for every wait, prepared query files and pipelining.

Commands can be queued. They are sent with the next query in one round trip (a pipeline, PostgreSQL manual, 34.5): BEGIN and the
audit's first query cost no round trip of their own.
"""

from __future__ import annotations

import math
import select
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import execute, fetch_many, send
from psycopg.types.numeric import Int8Dumper

from petstore.db.queries import Query

# prepare_threshold: psycopg prepares nothing itself. At a ROLLBACK it would forget that, and ours with it (DEALLOCATE ALL).
CONNECT_OPTIONS: dict[str, Any] = {"autocommit": True, "connect_timeout": 2, "prepare_threshold": None}
Make: TypeAlias = Callable[[list[str], Sequence[Any]], Any]  # of column names and values
REPLY_SECONDS = 2.7  # above statement_timeout: a server that is silent for longer is frozen or cut off


class NoReply(psycopg.OperationalError):
    """The server has not answered in time. The connection is closed: a reply may still arrive."""


class _Command(NamedTuple):
    """A command to send. prepares: the name of the query that it prepares; on_result: gets its result."""

    send: Callable[[], None]
    prepares: str = ""
    on_result: Callable[[pq.abc.PGresult], None] | None = None


class Connection(psycopg.Connection[Any]):
    """A psycopg connection with a deadline: psycopg alone would wait for a frozen server for ever.

    Query files run by `run` and `count`: prepared once per connection, and without psycopg's cursors, which take longer for a
    short query than PostgreSQL itself. Everything else may use cursors.
    """

    deadline = math.inf  # time.monotonic() at which every wait ends
    fault = ""  # why the service cannot use it, although PostgreSQL answers

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.prepared_queries: set[str] = set()  # names of query files
        self._unprepared: Counter[str] = Counter()  # how often an error kept one of them from being prepared
        self.queued: list[_Command] = []  # sent with the next query
        self.warnings = 0  # that the server has sent
        self.add_notice_handler(self._count_warning)
        self.identity: str | None = None  # what the database is, as it said last (sql/queries/system/_identity.sql)
        self.opened_at = time.monotonic()

    def queue_command(self, command: str, values: Sequence[Any] | None = None) -> None:
        """Queue a statement, such as BEGIN. It is sent with the next query, and not at all without one.

        values: of its parameters $1, $2, ..., as `dump` gives them.
        """
        self.queued.append(_Command(partial(self.pgconn.send_query_params, command.encode(), values)))

    def queue(
        self, query: Query, parameters: Mapping[str, Any], on_result: Callable[[pq.abc.PGresult], None] | None = None
    ) -> None:
        """Queue a query: it is sent with the next one, and its error is raised then. on_result: gets its result."""
        if len(parameters) != len(query.names):  # a column that the query does not write would be lost in silence
            raise TypeError(f"{query.name} takes {', '.join(query.names)}; given: {', '.join(parameters)}")
        # PgBouncer takes a name for used from the moment it is sent, also if an error before it made PostgreSQL skip it.
        name = f"{query.name} {self._unprepared[query.name] or ''}".rstrip().encode()
        values = self.dump(query, parameters)
        if query.name not in self.prepared_queries and all(query.name != command.prepares for command in self.queued):
            self.queued.append(_Command(partial(self.pgconn.send_prepare, name, query.numbered().encode()), query.name))
        self.queued.append(_Command(partial(self.pgconn.send_query_prepared, name, values), on_result=on_result))

    def learn_identity(self, result: pq.abc.PGresult) -> None:
        """An `on_result` for a query whose only value is the identity of the database."""
        self.identity = (result.get_value(0, 0) or b"").decode()

    def run(self, query: Query, parameters: Mapping[str, Any], make: Make) -> list[Any]:
        """Run a query after those queued; a list of what `make(column names, values)` gives for each row."""
        self.queue(query, parameters)
        return self.load(make)

    def load(self, make: Make) -> list[Any]:
        """Send what is queued; a list of what `make(column names, values)` gives for each row of the last command."""
        result = self._send_queued()[-1]
        names = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
        rows = Transformer(self)
        rows.set_pgresult(result)
        return rows.load_rows(0, result.ntuples, partial(make, names))

    def dump(self, query: Query, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The parameters as they are sent, in the order of `Query.numbered`."""
        formats = [PyFormat.TEXT] * len(query.names)
        return Transformer(self).dump_sequence([parameters[each] for each in query.names], formats)

    def count(self, query: Query, parameters: Mapping[str, Any]) -> int:
        """Run a query after those queued; how many rows it touched."""
        self.queue(query, parameters)
        return self._send_queued()[-1].command_tuples or 0

    def describe(self, query: Query) -> pq.abc.PGresult:
        """Prepare and describe a query without keeping it (PostgreSQL manual, 55.2.3).

        In one round trip: a pooler may lend another session of PostgreSQL to the next, with nothing or another query prepared.
        """
        self.queued.append(_Command(partial(self.pgconn.send_prepare, b"", query.numbered().encode())))
        self.queued.append(_Command(partial(self.pgconn.send_describe_prepared, b"")))
        return self._send_queued()[-1]

    def flush(self) -> None:
        """Send what is queued. If that begins with BEGIN, nothing is sent: the transaction would be empty."""
        if self.queued and self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self._send_queued()

    def end(self, command: str) -> str | None:
        """COMMIT or ROLLBACK; drops what is queued. Its command tag (PostgreSQL manual, 54.7), None if BEGIN was not sent yet."""
        self.queued.clear()
        return None if self.pgconn.transaction_status == pq.TransactionStatus.IDLE else self.command(command)

    def command(self, text: str) -> str:
        """Run statements without parameters; the command tag of the last one. A cursor would cost more than COMMIT itself."""
        self.pgconn.send_query(text.encode())
        results = self.wait(execute(self.pgconn))
        _raise_error(results)
        return (results[-1].command_status or b"").decode()

    def cursor(self, *arguments: Any, **options: Any) -> Any:  # psycopg's execute() calls this, too
        if self.queued:
            self._send_queued()
        return super().cursor(*arguments, **options)

    def transaction(self, *arguments: Any, **options: Any) -> Any:  # becomes a savepoint if a BEGIN was queued
        if self.queued:
            self._send_queued()
        return super().transaction(*arguments, **options)

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.deadline < math.inf:
            options["timeout"] = max(0.0, min(self.deadline - time.monotonic(), REPLY_SECONDS))
        try:
            return super().wait(gen, *arguments, **options)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()  # a reply may still arrive, and would be taken for that to the next query
            raise NoReply("the server does not answer") from None

    def _count_warning(self, notice: psycopg.errors.Diagnostic) -> None:
        self.warnings += notice.sqlstate == "01000"

    def _send_queued(self) -> list[pq.abc.PGresult]:
        """Send the queue in a pipeline; the result of each command. Raises the first error."""
        commands, self.queued = self.queued, []
        self.pgconn.enter_pipeline_mode()
        try:
            for command in commands:
                command.send()
            self.pgconn.pipeline_sync()
            results = self.wait(_pipeline_results(self.pgconn))
            if self.pgconn.status == pq.ConnStatus.OK:
                self.pgconn.exit_pipeline_mode()
        except BaseException:
            self.pgconn.finish()  # unread replies may still arrive
            raise
        for command, result in zip(commands, results, strict=False):  # fewer results if the connection broke
            if command.prepares and result.status == pq.ExecStatus.COMMAND_OK:
                self.prepared_queries.add(command.prepares)
            elif command.prepares:
                self._unprepared[command.prepares] += 1
        _raise_error(results)
        for command, result in zip(commands, results, strict=True):
            if command.on_result:
                command.on_result(result)
        return list(results)


def _pipeline_results(pgconn: pq.abc.PGconn) -> Any:
    """A generator for Connection.wait. Gives the results of a pipeline, fewer if an error ended the connection."""
    yield from send(pgconn)
    results: list[pq.abc.PGresult] = []
    while True:
        try:
            found = yield from fetch_many(pgconn)
            if not found:
                raise psycopg.OperationalError("the connection is lost")
        except psycopg.OperationalError:
            # The server may have said why before it ended the connection: that error tells more.
            if any(result.status == pq.ExecStatus.FATAL_ERROR for result in results):
                return results
            raise
        if found[0].status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        results += found


def _raise_error(results: Sequence[pq.abc.PGresult]) -> None:
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            error = psycopg.errors.error_from_result(result)
            raise error if error.sqlstate else psycopg.OperationalError(str(error))


class _Bigint(Int8Dumper):
    """Sends every int as bigint. psycopg chooses by size, and PostgreSQL would prepare a query once for each."""


def configure(conn: psycopg.Connection[Any]) -> None:
    """Configure a new connection to run our queries."""
    conn.adapters.register_dumper(int, _Bigint)


def is_open(conn: Connection) -> bool:
    """Whether the server has not closed a pooled connection meanwhile (by a restart, say). Costs no round trip."""
    readable = select.poll()
    readable.register(conn.fileno(), select.POLLIN)
    if readable.poll(0):  # nothing was asked: this is a notice, or the connection is closed
        with suppress(psycopg.OperationalError):
            conn.execute("")
    return not conn.closed


def is_connected(conn: Connection) -> bool:
    """Whether the server holds its end of a connection, which another thread may be using. Reads nothing from it."""
    closed_by_peer = select.poll()
    try:
        closed_by_peer.register(conn.fileno(), getattr(select, "POLLRDHUP", 0))  # macOS: only what poll always tells
    except (psycopg.Error, OSError, ValueError):
        return False
    return not closed_by_peer.poll(0)


def connect(url: str, **options: Any) -> Connection:
    """A single connection outside the pool, for tools: in autocommit mode, without deadlines."""
    conn = Connection.connect(url, **CONNECT_OPTIONS, **options)
    configure(conn)
    return conn


Error = psycopg.Error  # for modules that may not import psycopg
