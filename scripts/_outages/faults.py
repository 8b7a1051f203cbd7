"""The faults: each begins with its block and ends with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import memory
from servers import Servers
from traffic import HOT

from petstore import db
from tests.proxy import Proxy

_SLOW = """
    CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({}); RETURN NULL; END $$;
    CREATE OR REPLACE TRIGGER slow AFTER INSERT ON m2_be_project.invoices FOR EACH ROW EXECUTE FUNCTION slow();
"""


@dataclass(frozen=True)
class Place:
    """Where faults are made: the servers, the name of the database, and the proxy before it."""

    servers: Servers
    database: str
    proxy: Proxy

    def connect(self) -> db.Connection:
        """As a superuser, past the proxy."""
        return db.connect(self.servers.postgres.url("postgres", self.database), options="-c search_path=m2_be_project")


@contextmanager
def refused(place: Place) -> Iterator[None]:
    place.proxy.refusing = True
    place.proxy.cut()
    yield
    place.proxy.refusing = False


@contextmanager
def silent(place: Place) -> Iterator[None]:
    place.proxy.swallowing = True
    yield
    place.proxy.swallowing = False


@contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """SIGSTOP of a server and of all its processes."""
    pids = memory.processes(pid or 0)
    for one in pids:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in pids:
            os.kill(one, signal.SIGCONT)


@contextmanager
def transaction(place: Place, statement: str) -> Iterator[None]:
    """Somebody forgot the COMMIT."""
    with place.connect() as conn, conn.transaction(force_rollback=True):
        conn.execute(statement.encode())
        yield


@contextmanager
def slow_purchases(place: Place) -> Iterator[None]:
    with place.connect() as conn:
        conn.execute(_SLOW.format(2).encode())
        yield
        conn.execute(_SLOW.format(0).partition(";\n")[0].encode())


@contextmanager
def with_redis(place: Place, fault: Fault) -> Iterator[None]:
    """The fault, and Redis stands still as well."""
    with ExitStack() as stack:
        stack.enter_context(stopped(redis_pid(place)))
        stack.enter_context(fault(place))
        yield


def redis_pid(place: Place) -> int | None:
    return place.servers.redis.pid


Fault = Callable[[Place], AbstractContextManager[None]]
FAULTS: dict[str, tuple[str, Fault]] = {
    "refused": ("connections are cut and refused", refused),
    "silent": ("nothing comes through the network", silent),
    "frozen": ("PostgreSQL is stopped (SIGSTOP)", lambda place: stopped(place.servers.postgres.pid)),
    "row": (
        "the row of one product is locked",
        lambda place: transaction(place, f"SELECT FROM products WHERE id = {HOT} FOR UPDATE"),
    ),
    "rows": ("the rows of all products are locked", lambda place: transaction(place, "SELECT FROM products FOR UPDATE")),
    "table": (
        "the table of products is locked",
        lambda place: transaction(place, "LOCK TABLE products IN ACCESS EXCLUSIVE MODE"),
    ),
    "slow": ("each purchase takes 2 s more", slow_purchases),
    "refused+redis": ("as refused, and Redis is stopped", lambda place: with_redis(place, refused)),
    "silent+redis": ("as silent, and Redis is stopped", lambda place: with_redis(place, silent)),
}
