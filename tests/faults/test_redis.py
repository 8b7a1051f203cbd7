"""A Redis that is frozen, killed or cut off costs no request its answer; and what a write clears of the cache."""

import os
import signal

import pytest

from petstore.cache import redis_connection
from tests.client import Client
from tests.faults.conftest import timed
from tests.proxy import Proxy
from tests.waiting import eventually

NOISE = 0.3  # seconds, of a busy machine


class Shop:
    """An admin's client of a service whose Redis is its own, behind a proxy."""

    def __init__(self, client, services, proxy, redis):
        self.client, self.services, self.proxy, self.redis = client, services, proxy, redis

    def read(self, path="/products?id=1"):
        answer, seconds = timed(lambda: self.client.get(path))
        assert answer.status == 200
        return answer.json(), answer["X-Cache"], seconds

    def buy(self, product_id=1, quantity=1, **headers):
        wish = {"products": [{"product_id": product_id, "quantity": quantity}]}
        return timed(lambda: self.client.post("/purchase_product", wish, headers=headers))

    def how(self, *paths):
        return [self.read(path)[1] for path in paths]


@pytest.fixture
def shop(make, with_settings, own_redis, tmp_path):
    user = make.user(role="admin")
    make.product(), make.product()
    with (
        Proxy(tmp_path / "proxied.sock", own_redis.url.removeprefix("unix://")) as proxy,
        with_settings(redis_url=f"unix://{proxy.address}") as (services, server),
        Client(server.address, services.tokens.issue(user)) as client,
    ):
        services.db.check()
        one = Shop(client, services, proxy, own_redis)
        assert one.how("/products?id=1", "/products?id=1") == ["MISS", "HIT"]
        yield one
        proxy.swallowing = False


def freeze(shop):
    os.kill(shop.redis.pid, signal.SIGSTOP)
    return lambda: os.kill(shop.redis.pid, signal.SIGCONT)


def swallow(shop):
    shop.proxy.swallowing = True
    return lambda: setattr(shop.proxy, "swallowing", False)


def cut_off(shop):
    shop.proxy.refusing = True
    shop.proxy.cut()
    return lambda: setattr(shop.proxy, "refusing", False)


@pytest.mark.parametrize(("fault", "most"), [(freeze, 0.2), (swallow, 0.2), (cut_off, 0)])
@pytest.mark.parametrize("first", ["read", "write"])
def test_only_the_first_to_notice_waits_and_no_read_is_old_when_redis_is_back(shop, monkeypatch, fault, most, first):
    monkeypatch.setattr(redis_connection, "MARK_SECONDS", 2)  # a mark that reaches a Redis that was frozen stands so long
    repair = fault(shop)
    if first == "read":
        found, how, seconds = shop.read()
        assert (found["stock"], how) == (10, "BYPASS")
    else:
        seconds = 0
    answer, bought_in = shop.buy()
    assert answer.status == 201
    assert max(seconds, bought_in) < most + NOISE
    assert shop.buy()[1] < NOISE
    for _ in range(3):
        found, how, seconds = shop.read()
        assert (found["stock"], how) == (8, "BYPASS")
        assert seconds < NOISE
    repair()
    eventually(lambda: shop.services.cache.check() == "ok")
    assert shop.read()[0]["stock"] == 8
    eventually(lambda: shop.read()[1] == "HIT", 5)
    assert shop.read()[0]["stock"] == 8


def test_a_cut_connection_to_redis_is_made_again(shop):
    for _ in range(3):
        shop.proxy.cut()
        answer, seconds = shop.buy()
        assert (answer.status, seconds < NOISE) == (201, True)
        before = shop.read()[0]["stock"]
        eventually(lambda: shop.services.cache.check() == "ok")
        assert shop.read()[0]["stock"] == before
    assert before == 7


def test_a_redis_that_is_killed_costs_nothing(shop):
    os.kill(shop.redis.pid, signal.SIGKILL)
    for number in range(3):
        answer, seconds = shop.buy()
        assert (answer.status, seconds < NOISE) == (201, True)
        found, how, seconds = shop.read()
        assert (found["stock"], how, seconds < NOISE) == (9 - number, "BYPASS", True)


LISTS = "/products", "/products?limit=1", "/invoices"


def test_a_purchase_clears_its_product_the_lists_and_the_buyers_invoices_and_nothing_else(shop, make):
    other = Client(shop.client.address, shop.services.tokens.issue(make.user()))
    with other:
        shop.how("/products?id=2", *LISTS), other.get("/invoices")
        assert shop.how("/products?id=1", "/products?id=2", *LISTS) == ["HIT"] * 5
        assert shop.buy(1)[0].status == 201
        assert shop.how("/products?id=1", "/products?id=2", *LISTS) == ["MISS", "HIT", "MISS", "MISS", "MISS"]
        assert other.get("/invoices")["X-Cache"] == "HIT"


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "k"}])
def test_a_refused_purchase_clears_nothing(shop, key):
    shop.how(*LISTS)
    assert shop.buy(1, 10_000, **key)[0].status == 409
    assert shop.how("/products?id=1", *LISTS) == ["HIT"] * 4


def test_an_answer_that_is_given_again_clears_the_cache_as_the_first_did(shop):
    """The process that gave the first may have died before it could."""
    key = {"Idempotency-Key": "k"}
    assert shop.buy(1, **key)[0].status == 201
    shop.how("/products?id=1", *LISTS)
    assert shop.how("/products?id=1", *LISTS) == ["HIT"] * 4
    assert shop.buy(1, **key)[0]["Idempotent-Replayed"] == "true"
    assert shop.how("/products?id=1", *LISTS) == ["MISS"] * 4
