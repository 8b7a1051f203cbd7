"""A connection to PostgreSQL: every wait on it ends, and a query goes there and back in one round trip, BEGIN with it."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import execute, fetch_many, send
from psycopg.types.numeric import Int8Dumper

from petstore.db.queries import Query

# What psycopg prepares by itself it forgets at a ROLLBACK, and all else with it (DEALLOCATE ALL).
CONNECTING: dict[str, Any] = {"autocommit": True, "connect_timeout": 2, "prepare_threshold": None}
FROZEN_SECONDS = 2.7  # above the server's own statement_timeout: who passes this does not answer any more


class _Command(NamedTuple):
    """Something to send. prepares: the query that it makes ready for all later calls."""

    send: Callable[[], None]
    prepares: str = ""


class Connection(psycopg.Connection[Any]):
    """A connection whose every wait ends at its deadline (psycopg alone would wait for a frozen server for ever), and on which a
    query file is prepared once.

    Query files do not go by psycopg's cursors, which take longer for a short query than PostgreSQL itself; all else may.
    """

    deadline = math.inf  # time.monotonic()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.query_files: set[str] = set()  # that are prepared
        self.unsent: list[_Command] = []  # what goes out with the next query

    def begin(self, command: str) -> None:
        """Begin a transaction: in one round trip with the first query in it, and not at all if there is none."""
        self.unsent.append(_Command(partial(self.pgconn.send_query_params, command.encode(), None)))

    def later(self, query: Query, parameters: Mapping[str, Any]) -> None:
        """Run a query of whose result only an error counts, in one round trip with the next one."""
        name, formats = query.name.encode(), [PyFormat.TEXT] * len(query.names)
        values = Transformer(self).dump_sequence([parameters[each] for each in query.names], formats)
        if query.name not in self.query_files and all(query.name != command.prepares for command in self.unsent):
            self.unsent.append(_Command(partial(self.pgconn.send_prepare, name, query.numbered().encode()), query.name))
        self.unsent.append(_Command(partial(self.pgconn.send_query_prepared, name, values)))

    def run(self, query: Query, parameters: Mapping[str, Any], make: Callable[[list[str], Sequence[Any]], Any]) -> list[Any]:
        """Run a query, after what waits; `make` of the names of its columns, and of the values of each row."""
        self.later(query, parameters)
        result = self._exchange()[-1]
        names = [(result.fname(number) or b"").decode() for number in range(result.nfields)]
        rows = Transformer(self)
        rows.set_pgresult(result)
        return rows.load_rows(0, result.ntuples, partial(make, names))

    def count(self, query: Query, parameters: Mapping[str, Any]) -> int:
        """Run a query, after what waits; how many rows it touched."""
        self.later(query, parameters)
        return self._exchange()[-1].command_tuples or 0

    def flush(self) -> None:
        """Send what waits, if its transaction has begun."""
        if self.unsent and self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self._exchange()

    def end(self, command: str) -> str | None:
        """COMMIT or ROLLBACK, without what waits; its tag (PostgreSQL manual, 54.7), or None before BEGIN was sent."""
        self.unsent.clear()
        return None if self.pgconn.transaction_status == pq.TransactionStatus.IDLE else self.command(command)

    def command(self, text: str) -> str:
        """Run what takes no parameters, in a message of its own; the tag of its last statement.

        Not by a cursor, which would cost more than COMMIT itself.
        """
        self.pgconn.send_query(text.encode())
        results = self.wait(execute(self.pgconn))
        _raise_error(results)
        return (results[-1].command_status or b"").decode()

    def cursor(self, *arguments: Any, **options: Any) -> Any:  # which also psycopg's own execute() asks for
        if self.unsent:
            self._exchange()
        return super().cursor(*arguments, **options)

    def transaction(self, *arguments: Any, **options: Any) -> Any:  # a savepoint, if what waits begins one
        if self.unsent:
            self._exchange()
        return super().transaction(*arguments, **options)

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.deadline < math.inf:
            options["timeout"] = max(0.0, min(self.deadline - time.monotonic(), FROZEN_SECONDS))
        try:
            return super().wait(gen, *arguments, **options)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()  # an answer may still be on its way
            raise psycopg.OperationalError("the server does not answer") from None

    def _exchange(self) -> list[pq.abc.PGresult]:
        """Send what waits, in a pipeline (PostgreSQL manual, 34.5), and give the result of each; raise the first error."""
        commands, self.unsent = self.unsent, []
        self.pgconn.enter_pipeline_mode()
        try:
            for command in commands:
                command.send()
            self.pgconn.pipeline_sync()
            results = self.wait(_answers(self.pgconn))
            if self.pgconn.status == pq.ConnStatus.OK:
                self.pgconn.exit_pipeline_mode()
        except BaseException:
            self.pgconn.finish()  # which answers are still to come is not known
            raise
        for command, result in zip(commands, results, strict=False):  # of a connection that broke there are fewer results
            if command.prepares and result.status == pq.ExecStatus.COMMAND_OK:
                self.query_files.add(command.prepares)
        _raise_error(results)
        return list(results)


def _answers(pgconn: pq.abc.PGconn) -> Any:
    """For Connection.wait: the results of a pipeline, as far as they come."""
    yield from send(pgconn)
    results: list[pq.abc.PGresult] = []
    while True:
        try:
            found = yield from fetch_many(pgconn)
            if not found:
                raise psycopg.OperationalError("the connection is lost")
        except psycopg.OperationalError:  # it may have said before why it ended
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
    """Every int goes out as bigint: psycopg's choice by size would prepare a statement once per size."""


def configure(conn: psycopg.Connection[Any]) -> None:
    """What every connection needs that is to run our queries."""
    conn.adapters.register_dumper(int, _Bigint)


def is_open(conn: Connection) -> bool:
    """Whether the server has not closed a connection while it lay in the pool (after a restart, say). Costs no round trip."""
    readable = select.poll()
    readable.register(conn.fileno(), select.POLLIN)
    if readable.poll(0):  # an idle connection has nothing to say: this is a notice, or the end
        with suppress(psycopg.OperationalError):
            conn.execute("")
    return not conn.closed


def connect(url: str, **options: Any) -> Connection:
    """One connection of its own, in autocommit mode, for tools; without the deadlines of the service."""
    conn = Connection.connect(url, **CONNECTING, **options)
    configure(conn)
    return conn


Error = psycopg.Error  # for tools that say what went wrong
