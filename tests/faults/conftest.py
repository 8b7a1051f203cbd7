"""A PostgreSQL that may be broken, a proxy before it, and a service on it."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from petstore import db
from petstore.repository.reports import run_report
from tests.client import Client
from tests.databases import DURABLE, open_folder, own_postgres
from tests.factories import Factory
from tests.faults.links import with_options
from tests.proxy import Proxy
from tests.services import running
from tests.tables import CLEAN
from tests.waiting import eventually


@pytest.fixture(scope="session")
def postgres():
    """A server with an empty shop, for all tests that break what comes back."""
    with open_folder() as folder, own_postgres(folder, *DURABLE) as server:
        yield server


def socket_of(server):
    """Where a PostgreSQL listens."""
    return f"{parse_qs(urlsplit(server.url('postgres')).query)['host'][0]}/.s.PGSQL.5432"


class Shop:
    """A service on a database behind a proxy, a buyer with a key to spend, and two products of ten pieces."""

    def __init__(self, server, proxy, services, service):
        self.postgres, self.proxy, self.services, self.service = server, proxy, services, service
        self.clients, self.cleanup = [], []
        self.make = Factory(None)
        self.arrange_again()
        self.make.conn.execute(CLEAN)
        self.ana, self.boss = self.make.user("ana@example.com"), self.make.user("boss@example.com", role="admin")
        self.first, self.second = self.make.product(stock=10), self.make.product(stock=10)

    def arrange_again(self):
        """A new connection to arrange and look with: the server has been started again."""
        if self.make.conn is not None:
            self.make.conn.close()
        self.make.conn = db.connect(self.postgres.url("postgres"), options="-c search_path=m2_be_project")

    def client(self, user=None):
        token = self.services.tokens.issue(user or self.ana)
        self.clients.append(Client(self.service.address, token))
        return self.clients[-1]

    def buy(self, key=None, product_id=None, client=None):
        """The answer to a purchase of one piece, and the seconds it took."""
        return timed(
            lambda: (client or self.client()).post(
                "/purchase_product",
                {"products": [{"product_id": product_id or self.first, "quantity": 1}]},
                headers={"Idempotency-Key": key} if key else {},
            )
        )

    def bought(self):
        """How many purchases there are; whole, each of them."""
        assert run_report(self.make.conn, "ledger_proof") == []
        (invoices, lines, pieces) = self.make.rows(
            "SELECT (SELECT count(*) FROM invoices), (SELECT count(*) FROM invoice_details),"
            " (SELECT coalesce(-sum(delta), 0) FROM stock_movements WHERE kind = 'sale')"
        )[0]
        assert invoices == lines == pieces
        assert self.make.rows("SELECT FROM idempotency_keys WHERE status IS NULL") == []
        return invoices

    def begun(self):
        """How often an invoice was begun, those rolled back included."""
        return self.make.scalar("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM invoices_id_seq")

    def backends(self, condition="true"):
        return {
            pid
            for (pid,) in self.make.rows(
                f"SELECT pid FROM pg_stat_activity WHERE application_name ~ '^petstore [0-9]' AND ({condition})"
            )
        }

    @contextmanager
    def waiting_in(self, table, event, when=""):
        """Backends wait where they write to the table, until the block ends; gives a function that tells which do."""
        kind = "CONSTRAINT TRIGGER" if when else "TRIGGER"
        self.make.conn.execute(
            "CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$"
            " BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END $$;"
            f"CREATE {kind} hold AFTER {event} ON {table} {when} FOR EACH ROW EXECUTE FUNCTION hold()"
        )
        try:
            with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as holder:
                holder.execute("SELECT pg_advisory_lock(7)")
                yield lambda: self.backends("wait_event_type = 'Lock' AND wait_event = 'advisory'")
        finally:
            self.later(f"DROP TRIGGER hold ON {table}")

    def later(self, statement):
        """Run it when nothing of a test stands in its way."""
        self.cleanup.append(statement)

    def close(self):
        for client in self.clients:
            client.close()
        for pid in self.backends():  # frozen, if a test failed: they would hold what is locked
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for statement in self.cleanup:
            self.make.conn.execute(statement)
        self.make.conn.close()


def timed(call):
    started = time.monotonic()
    return call(), time.monotonic() - started


@contextmanager
def opened(server, settings, folder, options=None, **changes):
    """A shop on a server, for the block."""
    with Proxy(folder / ".s.PGSQL.5432", socket_of(server)) as proxy:
        url = with_options(f"postgresql://petstore_app@/pet_ecommerce?host={folder}&port=5432", **(options or {}))
        with running(replace(settings, database_url=url, **changes)) as (services, service):
            services.db.check()
            shop = Shop(server, proxy, services, service)
            services.cache.clear()
            try:
                yield shop
            finally:
                proxy.swallowing = proxy.refusing = False
                shop.close()


@pytest.fixture
def open_shop(postgres, settings, tmp_path):
    """open_shop(options={"lock_timeout": "100"}, pool_size=1): a shop with settings of its own."""
    return lambda **changes: opened(postgres, settings, tmp_path, **changes)


@pytest.fixture
def shop(open_shop):
    with open_shop() as one:
        yield one


@pytest.fixture
def meanwhile():
    """Runs a call in a thread of its own; gives a function that waits for what it gave."""
    with ThreadPoolExecutor(64) as pool:
        yield lambda call: partial(pool.submit(call).result, 30)


def usual(shop):
    """Everything is answered as usual, within 2 s from now."""

    def works():
        with suppress(AssertionError):
            answers = [shop.client().get("/products?id=2"), shop.client().get("/products"), shop.buy(product_id=shop.second)[0]]
            return [answer.status for answer in answers] == [200, 200, 201]

    eventually(works, 2)
