"""Requests with one Idempotency-Key that come at the same time, here or in another process: one is done, nobody else waits."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from petstore import db
from petstore.repository import idempotency
from tests.routes.test_idempotency import BUY, CREATE, CREDIT, DONE, MODIFY, WITH_KEY, Shop, is_replay
from tests.waiting import eventually


@pytest.fixture
def shop(make, clients):
    return Shop(make, clients)


@pytest.fixture
def elsewhere(shop, settings):
    """Another process, as far as the database can tell, in a transaction."""
    with db.connect(settings.database_url) as conn:
        conn.execute("BEGIN")
        yield conn


def hold(conn, shop, key="k", route=BUY):
    """Take the key, as the first request does."""
    assert idempotency.claim_key(conn, user_id=shop.boss.id, route=route, key=key, fingerprint=bytes(32)) is not None


def is_key_in_use(answer):
    return answer.status == 409 and answer.json()["type"] == "/problems/key-in-use" and answer["Retry-After"] == "1"


@pytest.mark.parametrize("route", WITH_KEY)
def test_of_twelve_twins_at_once_one_is_done(shop, route):
    twins = [shop.clients(shop.boss) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda twin, key: shop.send(route, key, client=twin), twins, ["k", '"k"'] * 6))
    (first,) = [answer for answer in answers if answer.status < 400 and answer["Idempotent-Replayed"] is None]
    assert all(answer is first or is_key_in_use(answer) or is_replay(answer, first) for answer in answers)
    after = shop.state()
    assert is_replay(shop.send(route, "k"), first)
    assert shop.state() == after
    rows = {BUY: ("invoices", 4), CREATE: ("products", 3), MODIFY: ("stock_movements", 3), CREDIT: ("credit_notes", 1)}
    table, number = rows.get(route, ("invoice_events WHERE to_status = 'shipped'", 1))
    assert shop.make.scalar(f"SELECT count(*) FROM {table}") == number


def others_are_served(shop):
    client = shop.clients(shop.make.user())
    body = {"products": [{"product_id": 2, "quantity": 1}]}
    assert client.post("/purchase_product", body, headers={"Idempotency-Key": "k"}).status == 201
    assert client.get("/products").status == 200


def test_twins_wait_for_the_first_one_and_keep_nobody_else_waiting(shop, elsewhere):
    elsewhere.execute("SELECT FROM products WHERE id = 1 FOR UPDATE")
    twins = [shop.clients(shop.boss) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        sent = [pool.submit(shop.send, BUY, "k", client=twin) for twin in twins]
        eventually(lambda: sum(one.done() for one in sent) == 9)  # not the first one, nor the two that may wait
        others_are_served(shop)
        assert sum(one.done() for one in sent) == 9
        elsewhere.execute("ROLLBACK")
        answers = [one.result() for one in sent]
    (first,) = [answer for answer in answers if answer.status == 201 and answer["Idempotent-Replayed"] is None]
    assert sum(is_key_in_use(answer) for answer in answers) == 9
    assert sum(not is_key_in_use(answer) and is_replay(answer, first) for answer in answers if answer is not first) == 2
    assert shop.make.stock(1) == 8


def test_a_request_in_a_process_of_the_release_before_holds_its_spelling(shop, elsewhere, monkeypatch):
    """Which has not looked for the key without its quotes, and does not claim it."""
    monkeypatch.setattr("petstore.domain.idempotency.KEY_WAIT_SECONDS", 0.2)
    hold(elsewhere, shop, '"k"')
    assert is_key_in_use(shop.send(BUY, '"k"'))
    assert shop.keys() == []
    elsewhere.execute("ROLLBACK")
    shop.is_done_once(BUY, '"k"')


def test_twins_of_a_request_in_another_process_drain_neither_pool_nor_threads(shop, elsewhere):
    hold(elsewhere, shop)
    twins = [shop.clients(shop.boss) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(shop.send, BUY, "k", client=twin) for twin in twins]
        eventually(lambda: sum(one.done() for one in sent) == 6)  # not the two that may wait
        others_are_served(shop)
        assert sum(one.done() for one in sent) == 6
        elsewhere.execute("ROLLBACK")
        answers = [one.result() for one in sent]
    (first,) = [answer for answer in answers if answer.status == 201 and answer["Idempotent-Replayed"] is None]
    assert all(answer is first or is_key_in_use(answer) or is_replay(answer, first) for answer in answers)
    assert shop.make.stock(1) == 8


def test_requests_with_many_keys_of_another_process_drain_neither_pool_nor_threads(shop, elsewhere):
    keys = [f"k{number}" for number in range(12)]
    for key in keys:
        hold(elsewhere, shop, key)
    team = [shop.clients(shop.boss) for _ in keys]
    with ThreadPoolExecutor(12) as pool:
        sent = [pool.submit(shop.send, BUY, key, client=client) for key, client in zip(keys, team, strict=True)]
        eventually(lambda: sum(one.done() for one in sent) == 10)
        others_are_served(shop)
        refused = [one for one in sent if one.done()]
        assert len(refused) == 10
        elsewhere.execute("ROLLBACK")
        answers = [one.result() for one in sent if one not in refused]
    assert all(is_key_in_use(one.result()) for one in refused)
    assert [answer.status for answer in answers] == [201, 201]
    assert shop.make.stock(1) == 10 - 2 * 2


@pytest.mark.slow
def test_a_twin_that_waits_here_and_then_for_another_process_waits_two_seconds_too(shop, elsewhere):
    hold(elsewhere, shop)
    team = [shop.clients(shop.boss) for _ in range(2)]

    def send(number):
        time.sleep(number * 0.4)
        started = time.perf_counter()
        return shop.send(BUY, "k", client=team[number]), time.perf_counter() - started

    with ThreadPoolExecutor(2) as pool:
        for answer, seconds in pool.map(send, range(2)):
            assert is_key_in_use(answer)
            assert 1.8 < seconds < 2.6


def test_a_request_waits_two_seconds_for_the_first_one_in_another_process(shop, elsewhere):
    hold(elsewhere, shop)
    before, started = shop.state(), time.perf_counter()
    assert is_key_in_use(shop.send(BUY, "k"))
    assert 1.8 < time.perf_counter() - started < 2.6
    assert shop.state() == before
    elsewhere.execute("ROLLBACK")
    shop.is_done_once(BUY)


@pytest.mark.parametrize("route", WITH_KEY)
def test_when_the_first_one_in_another_process_fails_the_next_one_is_done(shop, elsewhere, route):
    hold(elsewhere, shop, route=route)
    hold(elsewhere, shop, "another", route)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(shop.send, route, "k")
        time.sleep(0.2)
        assert not sent.done()
        elsewhere.execute("ROLLBACK")
        first = sent.result()
    assert (first.status, first["Idempotent-Replayed"]) == (DONE[route], None)
    assert is_replay(shop.send(route, "k"), first)


def test_when_the_first_one_in_another_process_is_done_its_answer_is_given(shop, elsewhere):
    first = shop.send(BUY, "k")
    after = shop.state()
    hold(elsewhere, shop, "other")
    elsewhere.execute(
        "UPDATE idempotency_keys AS k SET (fingerprint, status, location, body) = (f.fingerprint, f.status, f.location, f.body)"
        " FROM idempotency_keys AS f WHERE k.key = 'other' AND f.key = 'k'"
    )
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(shop.send, BUY, "other")
        time.sleep(0.2)
        assert not sent.done()
        elsewhere.execute("COMMIT")
        assert is_replay(sent.result(), first)
    assert shop.state() == after
