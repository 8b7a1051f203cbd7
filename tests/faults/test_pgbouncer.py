"""A shop behind PgBouncer: in transaction mode (1.21 or newer), and in session mode (any)."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from petstore import db
from petstore.db import schema
from petstore.db.errors import WrongDatabase
from petstore.db.queries import sql_folder
from petstore.db.session_settings import connect_as_service
from petstore.repository import audit, system
from tests.client import Client
from tests.commands import environment
from tests.databases import open_folder
from tests.db.test_session_settings import AS_POSTGRESQL_WRITES, settings_of
from tests.faults.busy import busy_shop, gap, refusals, sells
from tests.faults.links import with_options
from tests.pgbouncer import pooled
from tests.services import running
from tests.standby import Server
from tests.waiting import eventually

pytestmark = pytest.mark.slow
MODES = ("transaction", "session")
ROLES = (sql_folder() / "roles.sql").read_bytes()


@pytest.fixture
def folder():
    with open_folder() as one:
        yield one


@pytest.fixture
def server(folder):
    one = Server(folder / "server")
    try:
        one.start()
        one.create_database()
        schema.create_schema(one.url("postgres"), currency="USD", minor_digits=2)
        yield one
    finally:
        one.stop()


@pytest.mark.parametrize("mode", MODES)
def test_a_shop_sells_and_its_books_hold_while_postgresql_and_pgbouncer_are_restarted(folder, server, redis_url, tmp_path, mode):
    connections = 4 if mode == "transaction" else 30  # in session mode each client has one of its own
    ways = {"PETSTORE_THREADS": "8", "PETSTORE_POOL_SIZE": "8"}
    with (
        pooled(folder, server, mode, default_pool_size=connections) as pooler,
        busy_shop(tmp_path, pooler.url(), server.url("postgres"), redis_url, **ways) as shop,
    ):
        with shop.buyers() as buyers:
            eventually(lambda: len(buyers.bought) > 200, 30)
            assert buyers.faults() == []
            if mode == "transaction":
                clients, used = shared(pooler, server)
                assert used <= connections < clients
            for broken in (server, pooler):
                broken.stop()
                time.sleep(0.5)
                broken.start()
                sells(buyers, time.monotonic())
            whole = time.monotonic()
            eventually(lambda: buyers.answers[-1].started > whole + 2.5)
        assert [answer for answer in buyers.faults() if answer.started > whole + 1.5] == []  # each worker finds out by itself
        assert refusals(buyers.answers) == []
        print(f"{mode}: {buyers.longest()}; {len(buyers.faults())} × 503; {gap(buyers.answers):.1f} s without a sale")
        shop.buy_again(buyers.bought)
        with shop.client(shop.boss) as boss, shop.client(shop.people[0]) as buyer:
            assert boss.get("/admin/reports/stock_value").status == 200  # SET LOCAL ROLE, to no more than that transaction
            assert boss.get("/admin/reports/unpaid_invoices?limit=3").status == 200
            assert buyer.get("/me/export").status == 200  # a snapshot
        shop.check(buyers.bought, len(buyers.faults()))


def shared(pooler, server):
    """How many connections the service has to the pooler, and this one to PostgreSQL."""
    (pool,) = [one for one in pooler.ask("SHOW POOLS") if one["database"] == "pet_ecommerce"]
    used = server.ask("SELECT count(*) FROM pg_stat_activity WHERE usename = 'petstore_app'")
    return pool["cl_active"] + pool["cl_waiting"], used


def alter_role(server, pooler, statements):
    with db.connect(server.url("postgres")) as conn:
        conn.execute(statements)
    pooler.ask("RECONNECT")


@contextmanager
def served(settings, url):
    with running(replace(settings, database_url=url)) as (services, server), Client(server.address) as client:
        yield services, client


@pytest.mark.parametrize("mode", MODES)
def test_a_role_without_its_deadlines_is_refused_behind_it_until_roles_sql_is_run(folder, server, settings, mode):
    with pooled(folder, server, mode) as pooler:
        alter_role(server, pooler, b"ALTER ROLE petstore_app RESET ALL; ALTER ROLE petstore_app SET lock_timeout = '2s'")
        done = run("housekeep", pooler.url(), "--once")
        assert (done.returncode, "run sql/roles.sql as a superuser" in done.stderr) == (1, True), done.stderr
        with served(settings, pooler.url()) as (services, client):
            with pytest.raises(WrongDatabase, match=r"statement_timeout is 0, needed is 2500ms\): run sql/roles\.sql") as refused:
                services.db.check()
            assert "lock_timeout" not in str(refused.value)
            assert [client.get(path).status for path in ("/readyz", "/products")] == [503, 503]
            alter_role(server, pooler, ROLES)
            eventually(lambda: client.get("/readyz").status == 200, 20)
            assert client.get("/products").status == 200
            assert services.db.read(settings_of) == AS_POSTGRESQL_WRITES


def test_a_role_without_its_deadlines_serves_on_a_direct_connection(server, settings):
    with db.connect(server.url("postgres")) as conn:
        conn.execute("ALTER ROLE petstore_app RESET ALL")
    with served(settings, server.url("petstore_app")) as (services, client):
        assert client.get("/readyz").status == 200
        assert services.db.read(settings_of) == AS_POSTGRESQL_WRITES


@pytest.mark.parametrize(
    ("ignored", "refused"),
    [
        ("", "unsupported startup parameter"),
        ("options", r"statement_timeout is 2500ms, needed is 1min\): .*ALTER ROLE petstore_app SET"),
        ("statement_timeout", r"statement_timeout is 2500ms, needed is 1min\): .*ALTER ROLE petstore_app SET"),
    ],
)
def test_what_the_url_asks_for_and_the_pooler_drops_is_told(folder, server, ignored, refused):
    with pooled(folder, server, ignore_startup_parameters=ignored) as pooler:
        with pytest.raises((WrongDatabase, db.Error), match=refused):
            connect_as_service(with_options(pooler.url(), statement_timeout="1min"))
        alter_role(server, pooler, b"ALTER ROLE petstore_app SET statement_timeout = '1min'")
        if ignored:
            with connect_as_service(with_options(pooler.url(), statement_timeout="1min")) as conn:
                assert conn.execute("SHOW statement_timeout").fetchone() == ("1min",)


def test_a_transaction_that_fails_harms_no_prepared_query(folder, server):
    """What stands behind the error in the same round trip was never prepared; a pooler has to know that, too."""
    with (
        pooled(folder, server, default_pool_size=1) as pooler,
        connect_as_service(pooler.url()) as one,
        connect_as_service(pooler.url()) as another,
    ):
        for conn in (one, another, one):
            conn.queue_command("BEGIN")
            audit.begin_request(conn, actor_id=2**40, address=None)
            with pytest.raises(db.Error, match="is not active"):
                system.get_shop(conn)
            conn.end("ROLLBACK")
        for conn in (another, one):
            assert system.get_shop(conn).currency == "USD"
            assert conn.execute("SELECT pg_backend_pid()").fetchone() == another.execute("SELECT pg_backend_pid()").fetchone()


def test_the_commands_work_behind_it_and_a_migration_is_refused(folder, server, tmp_path):
    with pooled(folder, server) as pooler:
        assert run("check", pooler.url()).returncode == 0
        listed = run("sql", pooler.url(), "products/list_products", "after=0", "limit=5", "--explain")
        assert "Execution Time" in listed.stdout, listed.stderr
        assert "3\n" in run("psql", pooler.url(), "-Atc", "SELECT 1 + 2").stdout
        refused = run("migrate", pooler.url(), PETSTORE_OWNER_URL=pooler.url())
        assert "this is a connection pooler" in refused.stderr


def run(name, url, *arguments, **environ):
    command = [sys.executable, "-m", "petstore", name, *arguments]
    environ = environment(PETSTORE_DATABASE_URL=url, PETSTORE_REDIS_URL="redis://127.0.0.1:1", **environ)
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
