"""A connection to PostgreSQL: every wait on it ends, and every int goes out as bigint."""

from __future__ import annotations

import math
import select
import time
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeAlias

import psycopg
from psycopg.generators import execute
from psycopg.types.numeric import Int8Dumper

Connection: TypeAlias = psycopg.Connection[Any]

CONNECT_SECONDS = 2
FROZEN_SECONDS = 2.7  # above the server's own statement_timeout: who passes this does not answer any more


class PooledConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends at its deadline: psycopg alone would wait for a frozen server for ever."""

    deadline = math.inf  # time.monotonic()

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        options["timeout"] = max(0.0, min(self.deadline - time.monotonic(), FROZEN_SECONDS))
        try:
            return super().wait(gen, *arguments, **options)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()  # an answer may still be on its way
            raise psycopg.OperationalError("the server does not answer") from None


class _Bigint(Int8Dumper):
    """Every int goes out as bigint: psycopg's choice by size would prepare a statement once per size."""


def configure(conn: Connection) -> None:
    """What every connection needs that is to run our queries."""
    conn.adapters.register_dumper(int, _Bigint)


def command(conn: Connection, text: str) -> str:
    """Run BEGIN, COMMIT or ROLLBACK, or what else takes no parameters; the tag of its last statement (PostgreSQL manual, 54.7).

    Not by a cursor, which would cost more than COMMIT itself, and after each ROLLBACK forget every prepared statement.
    """
    conn.pgconn.send_query(text.encode())
    for result in (results := conn.wait(execute(conn.pgconn))):
        if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
    return (results[-1].command_status or b"").decode()


def is_open(conn: Connection) -> bool:
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
    configure(conn)
    return conn


Error = psycopg.Error  # for tools that say what went wrong
