"""What the service does when what it stands on is broken: it answers, says so, and recovers by itself."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from petstore.db import errors
from petstore.db.describe import describe
from petstore.db.pool import REQUEST_SECONDS
from petstore.db.queries import load_queries
from petstore.errors import Unavailable
from tests.client import Client
from tests.databases import FAST, open_folder, own_postgres
from tests.waiting import eventually


@pytest.fixture
def folder():
    with open_folder() as one:
        yield one


@pytest.mark.parametrize("how", ["frozen", "gone"])
def test_with_redis_frozen_or_gone_every_request_answers_and_readyz_says_degraded(make, with_settings, own_redis, how):
    product_id, user = make.product(), make.user(role="admin")
    with (
        with_settings(redis_url=own_redis.url) as (services, server),
        Client(server.address, services.tokens.issue(user)) as client,
    ):
        services.db.check()
        assert [client.get("/products")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
        assert client.get("/readyz").json()["cache"] == "ok"
        os.kill(own_redis.pid, signal.SIGSTOP) if how == "frozen" else own_redis.stop()
        times = []
        for _ in range(10):
            started = time.perf_counter()
            answer = client.get("/products")
            times.append(time.perf_counter() - started)
            assert (answer.status, answer["X-Cache"]) == (200, "BYPASS")
        assert times[0] < 0.5
        assert sorted(times)[-2] < 0.2
        ready = client.get("/readyz")
        assert (ready.status, ready.json()["status"], ready.json()["cache"]) == (200, "degraded", "down")
        assert client.patch(f"/modify_product?id={product_id}", {"stock": 3}).status == 200
        assert client.post("/purchase_product", {"products": [{"product_id": product_id, "quantity": 1}]}).status == 201
        assert client.get("/invoices")["X-Cache"] == "BYPASS"
        assert client.get("/products").json()["items"][0]["stock"] == 2


def states(client):
    found = client.get("/readyz").json()
    return found["status"], found["database"], found["cache"], found["housekeeping"]


def test_readyz_asks_redis_itself(make, with_settings, own_redis):
    with with_settings(redis_url=own_redis.url) as (services, server), Client(server.address) as client:
        services.db.check()
        own_redis.stop()
        assert states(client) == ("degraded", "ok", "down", "ok")


def test_without_redis_the_cache_is_off_and_the_service_ready(make, with_settings):
    make.product()
    with with_settings(redis_url=None) as (_, server), Client(server.address) as client:
        assert client.get("/products")["X-Cache"] == "BYPASS"
        assert states(client) == ("ready", "ok", "off", "ok")


def test_a_database_that_is_down_is_a_503_with_retry_after_and_live_all_the_same(with_settings):
    with socket.socket() as closed:  # bound, never listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://petstore_app@127.0.0.1:{closed.getsockname()[1]}/pet_ecommerce"
        with with_settings(database_url=url) as (_, server), Client(server.address) as client:
            for path in ("/products", "/products?id=1", "/readyz"):
                started = time.perf_counter()
                answer = client.get(path)
                assert (answer.status, answer["Retry-After"]) == (503, "1")
                assert time.perf_counter() - started < 2
            assert client.get("/readyz").json()["database"] == "down"
            assert client.get("/livez").status == 200


@pytest.mark.slow
def test_a_database_that_comes_and_goes_is_used_as_soon_as_it_is_there(with_settings, tmp_path, folder):
    address = tmp_path / "address"  # stays the same while the server's own socket folder is a new one at each start

    def start():
        postgres.start()
        address.unlink(missing_ok=True)
        address.symlink_to(parse_qs(urlsplit(postgres.url("postgres")).query)["host"][0])

    with own_postgres(folder, *FAST) as postgres:
        postgres.stop()
        url = f"postgresql://petstore_app@/pet_ecommerce?host={address}"
        with with_settings(database_url=url) as (_, server), Client(server.address) as client:
            for _ in range(3):
                assert client.get("/readyz").status == 503
                time.sleep(3)  # long enough for a back-off to have grown
                start()
                started = time.monotonic()
                eventually(lambda: client.get("/readyz").status == 200, 2)
                assert client.get("/products").status == 200
                assert time.monotonic() - started < 2
                postgres.stop()


def test_connections_that_the_server_has_closed_cost_no_request_an_error(make, cluster, database, with_settings):
    make.product()
    with with_settings() as (services, server):

        def ask(_):
            with Client(server.address) as client:
                return [client.get(f"/products?limit={n}").status for n in range(1, 20)]

        with ThreadPoolExecutor(16) as pool:  # fills the pool
            assert {status for statuses in pool.map(ask, range(16)) for status in statuses} == {200}
        with psycopg.connect(cluster.url("postgres", database)) as superuser:
            (killed,) = superuser.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name ~ '^petstore [0-9]' AND datname = current_database()"
            ).fetchone()
        assert killed > 2
        time.sleep(0.2)
        services.cache.invalidate("products")
        with Client(server.address) as client:
            assert client.get("/readyz").status == 200
        assert set(ask(None)) == {200}


def test_a_statement_ends_within_its_deadline(service):
    started = time.perf_counter()
    with pytest.raises(Unavailable):
        service[0].db.read(lambda conn: conn.execute("SELECT pg_sleep(10)"))
    assert 2 < time.perf_counter() - started < 3


def test_a_lock_at_start_is_no_wrong_database(make, with_settings):
    with make.conn.transaction():
        make.conn.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        with with_settings() as (services, _), pytest.raises(Unavailable):
            services.db.check()
    with with_settings() as (services, _):
        services.db.check()


def test_a_write_under_way_still_clears_the_cache_when_the_database_is_found_unfit(make, with_settings):
    product_id, boss = make.product(price="1.00"), make.user(role="admin")
    path = f"/products?id={product_id}"
    with (
        with_settings() as (services, one),
        with_settings() as (other_services, other),
        Client(one.address, services.tokens.issue(boss)) as writer,
        Client(one.address) as prober,
        Client(other.address) as reader,
        ThreadPoolExecutor(1) as pool,
    ):
        services.db.check(), other_services.db.check()
        assert [reader.get(path)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
        with make.conn.transaction():
            make.conn.execute("SELECT FROM products WHERE id = %s FOR UPDATE", (product_id,))
            writing = pool.submit(writer.patch, f"/modify_product?id={product_id}", {"price": "2.00"})
            time.sleep(0.3)
            with psycopg.connect(services.settings.owner_url, autocommit=True) as another:
                another.execute("INSERT INTO schema_version (version) VALUES (999)")
                assert prober.get("/readyz").status == 503
                another.execute("DELETE FROM schema_version WHERE version = 999")
        assert writing.result().status == 200
        assert reader.get(path).json()["price"] == "2.00"


def test_the_cache_is_told_after_the_commit(make, with_settings):
    """Whoever reads after the invalidation must find the new state in the database."""
    product_id, boss = make.product(stock=5), make.user(role="admin")
    seen = []
    with with_settings() as (services, server), Client(server.address, services.tokens.issue(boss)) as client:
        tell = services.cache.invalidate

        def watch(*prefixes, mark):
            seen.append(make.rows("SELECT stock, deleted_at IS NULL FROM products ORDER BY id"))
            tell(*prefixes, mark=mark)

        services.cache.invalidate = watch
        client.patch(f"/modify_product?id={product_id}", {"stock": 4})
        client.post("/purchase_product", {"products": [{"product_id": product_id, "quantity": 1}]})
        client.patch("/admin/invoices/1", {"status": "cancelled"})
        client.post("/create_product", {"name": "New", "price": 1, "stock": 1})
        client.delete(f"/delete_product?id={product_id}")
    assert seen == [[(4, True)], [(3, True)], [(4, True)], [(4, True), (1, True)], [(4, False), (1, True)]]


@pytest.mark.slow
def test_a_pool_that_is_used_up_is_a_503_within_its_deadline(make, with_settings):
    with with_settings(pool_size=1) as (services, server), Client(server.address) as client:

        def ask(_):
            started = time.perf_counter()
            answer = client.get("/products")
            assert (answer.status, answer["Retry-After"]) == (503, "1")
            assert 0.9 < time.perf_counter() - started < 2

        services.db.read(ask)  # which holds the only connection
        assert client.get("/products").status == 200


@pytest.mark.slow
def test_a_lock_that_is_held_too_long_is_a_503_and_nothing_is_bought(make, ana, buyer):
    product_id = make.product()
    with make.conn.transaction():
        make.conn.execute("SELECT FROM products WHERE id = %s FOR UPDATE", (product_id,))
        started = time.perf_counter()
        answer = buyer.post("/purchase_product", {"products": [{"product_id": product_id, "quantity": 1}]})
        assert (answer.status, answer["Retry-After"]) == (503, "1")
        assert time.perf_counter() - started < 3
    assert make.stock(product_id) == 10
    assert make.scalar("SELECT count(*) FROM invoices") == 0


def test_the_deadline_of_a_request_counts_what_it_waits_for_a_thread(make, with_settings):
    product_id, user = make.product(), make.user()
    with with_settings(threads=1) as (services, server):
        token = services.tokens.issue(user)

        def ask(path):
            with Client(server.address, token) as client:
                started = time.perf_counter()
                lines = {"products": [{"product_id": product_id, "quantity": 1}]}
                answer = client.post("/purchase_product", lines) if path is None else client.get(path)
                return answer.status, answer["Retry-After"], time.perf_counter() - started

        with ThreadPoolExecutor(6) as pool:
            with services.request_rate._lock:  # which keeps the only thread longer than any request may take
                answers = pool.map(ask, [None, None, None, None, "/livez", "/products"])
                eventually(lambda: sum(bool(channel.requests) for channel in server._channels()) == 6)
                time.sleep(REQUEST_SECONDS)
            answers = list(answers)
        assert {answer[:2] for answer in answers} == {(503, "1")}
        assert max(seconds for _, _, seconds in answers) < 4
        assert ask(None)[0] == 201
    assert make.stock(product_id) == 9


@pytest.mark.parametrize(
    ("damage", "repair"),
    [
        ("ALTER TABLE products RENAME COLUMN stock TO pieces", "ALTER TABLE products RENAME COLUMN pieces TO stock"),
        (
            "ALTER TABLE idempotency_keys ALTER COLUMN location TYPE varchar(100)",
            "ALTER TABLE idempotency_keys ALTER COLUMN location TYPE text",
        ),
        ("UPDATE shop SET currency = 'EUR'", "UPDATE shop SET currency = 'USD'"),
        ("UPDATE shop SET minor_digits = 3", "UPDATE shop SET minor_digits = 2"),
        ("REVOKE SELECT ON shop FROM petstore_app", "GRANT SELECT ON shop TO petstore_app"),
        ("REVOKE USAGE ON SCHEMA m2_be_project FROM petstore_app", "GRANT USAGE ON SCHEMA m2_be_project TO petstore_app"),
    ],
)
def test_a_database_that_does_not_fit_is_not_used(make, with_settings, damage, repair):
    make.conn.execute(damage)
    try:
        with with_settings() as (services, server), Client(server.address) as client:
            with pytest.raises(errors.WrongDatabase):
                services.db.check()
            ready = client.get("/readyz")
            assert ready.status == 503
            for secret in (b"column", b"INSERT", b"stock", b"EUR", b"LINE", b"sql/"):
                assert secret not in ready.body
            assert client.get("/products").status == 503
    finally:
        make.conn.execute(repair)


def test_an_error_of_ours_is_a_500_that_tells_the_client_nothing(make, buyer, caplog):
    eventually(lambda: buyer.get("/products").status == 200)  # it may just have seen a database of the test before
    make.conn.execute("ALTER TABLE products RENAME COLUMN price TO cost")
    try:
        answer = buyer.get("/products?id=1")
    finally:
        make.conn.execute("ALTER TABLE products RENAME COLUMN cost TO price")
    assert answer.status == 500
    for secret in (b"column", b"price", b"SELECT", b"Traceback", b"psycopg"):
        assert secret not in answer.body
    assert 'column "price" does not exist' in caplog.text
    assert answer["X-Request-ID"] in caplog.text
    assert "Traceback" in caplog.text


def test_describing_a_query_runs_nothing(conn):
    before = conn.execute("SELECT count(*) FROM users").fetchone()
    described = describe(conn, load_queries()["users/create_user"])
    assert described.parameters == {"email": "text", "password": "text"}
    assert described.columns == {"id": "bigint", "email": "text", "role": "text", "created_at": "timestamp with time zone"}
    assert conn.execute("SELECT count(*) FROM users").fetchone() == before
