"""Lanes: requests that wait for the database keep no others waiting, and a lane that stands still refuses."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from petstore.app import create_router, sections_with_database
from petstore.cache.waiting import WouldWait, about_to_wait, may_not_wait, resting
from petstore.server import lanes
from tests.client import Client
from tests.factories import PASSWORD
from tests.faults.conftest import timed
from tests.waiting import at_once, eventually

AT_ONCE = 0.9
LONG = 1.5  # between the hasty and the patient


@contextmanager
def locked(settings, statement):
    """Somebody forgot a COMMIT, for the block."""
    with psycopg.connect(settings.owner_url) as other:
        other.execute("SET search_path = m2_be_project")
        other.execute(statement)
        yield
        other.rollback()


@pytest.fixture
def shop(make, ana, with_settings):
    """A service with the threads of a default one; buy(product_id), read(path) with a connection of their own."""

    class Shop:
        def __init__(self, services, server):
            self.services, self.server, self.token = services, server, services.tokens.issue(ana)

        def buy(self, product_id):
            with Client(self.server.address, self.token) as client:
                lines = {"products": [{"product_id": product_id, "quantity": 1}]}
                return timed(lambda: client.post("/purchase_product", lines))

        def read(self, path):
            with Client(self.server.address, self.token) as client:
                return timed(lambda: client.get(path))

    with with_settings(threads=4, pool_size=6) as (services, server):
        services.db.check()
        shop = Shop(services, server)
        shop.read("/openapi.json")  # which is built by the first request
        yield shop


def are_served(shop, *paths):
    for path in paths:
        answer, seconds = shop.read(path)
        assert (path, answer.status) == (path, 200)
        assert seconds < AT_ONCE, path


STATIC = ("/livez", "/.well-known/jwks.json", "/", "/docs", "/openapi.json", "/problems", "/problems/not-found")


@pytest.mark.parametrize("kind", ["one row", "all rows"])
def test_purchases_that_wait_for_a_lock_keep_nothing_else_waiting(make, shop, settings, kind):
    products = [make.product(stock=50) for _ in range(12)]
    for _ in range(2):
        shop.read("/products")
    where = f"WHERE id = {products[0]}" if kind == "one row" else ""
    with locked(settings, f"UPDATE products SET name = 'held' {where}"):
        wanted = [products[0] if kind == "one row" else product for product in products]
        waiting = [threading.Thread(target=shop.buy, args=(product,)) for product in wanted]
        for thread in waiting:
            thread.start()
        eventually(lambda: make.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted") >= 2)
        are_served(shop, *STATIC, "/products", "/products?limit=7", f"/products?id={products[3]}", "/me", "/invoices", "/readyz")
        for thread in waiting:
            thread.join()
    eventually(lambda: shop.buy(products[0])[0].status == 201, 2)


def test_a_row_that_is_known_to_stay_locked_is_refused_at_once_and_the_others_are_sold(make, shop, settings):
    held, free = make.product(stock=50), make.product(stock=50)
    with locked(settings, f"SELECT FROM products WHERE id = {held} FOR UPDATE"):
        first = at_once(*[lambda: shop.buy(held)] * 4)
        assert {answer.status for answer, _ in first} == {503}
        assert sorted(seconds < LONG for _, seconds in first) == [False, False, False, True]  # three are patient, one is not
        for _ in range(3):
            again = at_once(*[lambda: shop.buy(held)] * 4)
            assert {answer.status for answer, _ in again} == {503}
            assert "locked" in "".join(answer.json()["detail"] for answer, _ in again)
            assert max(seconds for _, seconds in again) < AT_ONCE
            answer, seconds = shop.buy(free)
            assert answer.status == 201
            assert seconds < AT_ONCE
    eventually(lambda: shop.buy(held)[0].status == 201, 2)
    assert [answer.status for answer, _ in at_once(*[lambda: shop.buy(held)] * 8)] == [201] * 8


def test_a_lane_that_stands_still_refuses_at_once_until_a_request_is_served_soon(make, shop, settings):
    products = [make.product(stock=50) for _ in range(20)]
    with locked(settings, "LOCK TABLE products IN ACCESS EXCLUSIVE MODE"):
        answers = at_once(*[lambda product=product: shop.read(f"/products?id={product}") for product in products])
        assert {answer.status for answer, _ in answers} == {503}
        assert max(seconds for _, seconds in answers) < 3.5
        tries = [threading.Thread(target=shop.read, args=(f"/products?id={product}",)) for product in products[:2]]
        for thread in tries:
            thread.start()
        eventually(lambda: shop.server._lanes._reads.dispatcher.active_count == 2)
        answer, seconds = shop.read("/products?id=1")
        assert (answer.status, answer["Retry-After"]) == (503, "1")
        assert "waits for its database" in answer.json()["detail"]
        assert seconds < AT_ONCE
        are_served(shop, *STATIC)
    for thread in tries:
        thread.join()
    are_served(shop, f"/products?id={products[0]}", "/me")
    assert shop.buy(products[0])[0].status == 201


def test_an_account_that_stays_locked_keeps_no_other_customer_waiting(make, shop, settings, ana):
    products, other = [make.product(stock=50) for _ in range(8)], shop.services.tokens.issue(make.user("other@example.com"))
    with locked(settings, f"SELECT FROM users WHERE id = {ana.id} FOR UPDATE"):
        at_once(*[lambda product=product: shop.buy(product) for product in products])
        waiting = [threading.Thread(target=shop.buy, args=(product,)) for product in products]
        for thread in waiting:
            thread.start()
        with Client(shop.server.address, other) as client:
            for product in products:
                lines = {"products": [{"product_id": product, "quantity": 1}]}
                answer, seconds = timed(lambda lines=lines: client.post("/purchase_product", lines))
                assert (answer.status, seconds < AT_ONCE) == (201, True)
        for thread in waiting:
            thread.join()
    eventually(lambda: shop.buy(products[0])[0].status == 201, 2)


def test_a_basket_with_a_locked_product_does_not_make_its_other_products_refused(make, shop, settings):
    free, held = make.product(stock=50), make.product(stock=50)
    with (
        locked(settings, f"SELECT FROM products WHERE id = {held} FOR UPDATE"),
        Client(shop.server.address, shop.token) as client,
    ):
        basket = {"products": [{"product_id": product, "quantity": 1} for product in (held, free)]}
        assert client.post("/purchase_product", basket).status == 503
        assert [shop.buy(free)[0].status for _ in range(3)] == [201] * 3


def test_logouts_that_wait_because_redis_is_down_make_no_purchase_refused(make, with_settings, own_redis, ana):
    product = make.product(stock=50)
    with with_settings(redis_url=own_redis.url, threads=2) as (services, server):
        services.db.check()
        token = services.tokens.issue(ana)
        with Client(server.address) as client:
            account = {"email": "ana@example.com", "password": PASSWORD}
            refresh = [client.post("/login", account).json()["refresh_token"] for _ in range(2)]
        own_redis.stop()

        def log_out(one):
            with Client(server.address) as client:
                return client.post("/logout", {"refresh_token": one}).status

        def buy():
            with Client(server.address, token) as client:
                return client.post("/purchase_product", {"products": [{"product_id": product, "quantity": 1}]}).status

        with ThreadPoolExecutor(8) as pool:
            ended = [pool.submit(log_out, one) for one in refresh]
            eventually(lambda: resting.threads == 2)
            assert [one.result() for one in [pool.submit(buy) for _ in range(4)]] == [201] * 4
            assert [one.result() for one in ended] == [204, 204]


@pytest.mark.parametrize(("seconds", "still"), [(0.6, False), (1.1, True)])
def test_a_lane_stands_still_no_more_when_a_request_takes_less_than_a_second(seconds, still):
    lane = lanes.Lane("reads", 4)
    lane.stands_still = True
    lane.served(seconds)
    assert lane.stands_still is still
    lane.dispatcher.shutdown()


def test_a_cached_read_is_served_from_redis_by_a_thread_that_may_not_wait(make, shop, settings):
    product = make.product()
    with shop.services.cache.connection() as connection:
        assert connection is not None
    path = f"/products?id={product}"
    assert shop.read(path)[0]["X-Cache"] == "MISS"
    with locked(settings, "LOCK TABLE products IN ACCESS EXCLUSIVE MODE"):
        still = [threading.Thread(target=shop.read, args=(f"/products?limit={limit}",)) for limit in range(1, 9)]
        for thread in still:
            thread.start()
        eventually(lambda: shop.server._lanes._reads.dispatcher.active_count == 4)
        answer, seconds = shop.read(path)
        assert (answer.status, answer["X-Cache"]) == (200, "HIT")
        assert seconds < AT_ONCE
        for thread in still:
            thread.join()


def test_a_request_that_is_handed_on_is_counted_and_logged_once(make, shop, caplog):
    caplog.set_level("INFO", "petstore.access")
    counted = []
    count = shop.services.request_rate.count
    shop.services.request_rate.count = lambda *clients: counted.append(clients[0]) or count(*clients)
    assert shop.read("/invoices")[0]["X-Cache"] == "MISS"
    counted.clear(), caplog.clear()
    assert (
        shop.read("/invoices?limit=7")[0]["X-Cache"] == "MISS"
    )  # the login is known now, so it is looked for in the cache first
    assert [client.split()[0] for client in counted] == ["127.0.0.1", "user"]
    assert len([record for record in caplog.records if record.name == "petstore.access"]) == 1


def test_no_section_has_routes_with_and_without_a_database(service):
    routes = create_router(service[0]).routes
    without = {route.rule.split("/")[1] for route in routes if route.config.get("database") is False}
    assert without
    assert not without & sections_with_database()


def test_a_thread_may_wait_again_after_the_block():
    with pytest.raises(WouldWait), may_not_wait(WouldWait()):
        about_to_wait()
    about_to_wait()


def test_the_quick_lane_has_threads_for_two_slow_looks():
    assert lanes.QUICK_THREADS == 2
