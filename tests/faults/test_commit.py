"""A connection that ends before, at and after COMMIT: what is done is done once, and no answer says what is not so."""

import time
from dataclasses import replace

import pytest

from petstore.cache import redis_connection
from petstore.domain import logins
from petstore.web import plugin
from tests.client import Client
from tests.factories import PASSWORD
from tests.services import running
from tests.waiting import eventually


def unavailable(answer):
    assert (answer.status, answer["Retry-After"]) == (503, "1")
    return answer.json()["type"].removeprefix("/problems/"), answer.json()["detail"]


def test_a_connection_that_was_cut_before_the_first_statement_costs_no_error(shop):
    shop.proxy.cut()
    assert shop.buy()[0].status == 201
    assert (shop.bought(), shop.begun()) == (1, 1)


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(("table", "event"), [("invoices", "INSERT"), ("invoice_details", "INSERT"), ("products", "UPDATE")])
def test_what_is_cut_before_commit_begins_anew_and_is_done_once(shop, meanwhile, key, table, event):
    """All three are written by the one statement before COMMIT."""
    with shop.waiting_in(table, event) as waiting:
        answer = meanwhile(lambda: shop.buy(key))
        eventually(waiting)
        first = waiting()
        shop.proxy.cut()
        if key:
            time.sleep(0.3)  # its key is taken, until the backend that was cut off has seen it
        else:
            eventually(lambda: waiting() - first or shop.backends("wait_event = 'transactionid'"))
    assert answer()[0].status == 201
    assert (shop.bought(), shop.make.scalar("SELECT count(*) FROM invoices")) == (1, 1)


def test_the_answer_to_commit_is_lost_without_a_key_and_the_client_is_told_how_to_find_out(shop):
    shop.proxy.lose_answers()
    slug, detail = unavailable(shop.buy()[0])
    assert slug == "outcome-unknown"
    assert "GET /invoices" in detail
    assert "Idempotency-Key" in detail
    assert (shop.bought(), shop.begun(), shop.proxy.lost) == (1, 1, ["answer"])
    assert len(shop.client().get("/invoices").json()["items"]) == 1
    assert shop.client().get("/products?id=1").json()["stock"] == 9


def test_a_commit_that_never_arrived_without_a_key_is_an_outcome_unknown_too_and_is_not_sent_again(shop):
    shop.proxy.lose_commits()
    assert unavailable(shop.buy()[0])[0] == "outcome-unknown"
    assert (shop.bought(), shop.begun(), shop.proxy.lost) == (0, 1, ["commit"])


@pytest.mark.parametrize("times", [1, 3])
def test_the_answer_to_commit_is_lost_with_a_key_and_the_client_gets_it_all_the_same(shop, times):
    shop.proxy.lose_answers(times)  # those of the look for what became of it, too
    first, seconds = shop.buy("k")
    assert (first.status, first["Location"], first.json()["total"]) == (201, "/invoices/1", "12.50")
    assert seconds < 3
    assert len(shop.proxy.lost) == times
    second = shop.buy("k")[0]
    assert (second.status, second.body, second["Idempotent-Replayed"]) == (201, first.body, "true")
    assert (shop.bought(), shop.begun()) == (1, 1)


def test_a_commit_that_never_arrived_with_a_key_is_a_503_that_says_that_nothing_was_done(shop):
    shop.proxy.lose_commits()
    slug, detail = unavailable(shop.buy("k")[0])
    assert slug == "unavailable"
    assert "nothing was changed" in detail
    assert (shop.bought(), shop.begun()) == (0, 1)
    assert shop.buy("k")[0].status == 201
    assert shop.bought() == 1


def test_while_the_old_transaction_still_runs_the_answer_waits_for_its_end(shop):
    shop.proxy.lose_answers(late=0.7)
    answer, seconds = shop.buy("k")
    assert answer.status == 201
    assert 0.6 < seconds < 3
    assert (shop.bought(), shop.begun()) == (1, 1)


def test_a_commit_that_arrives_late_without_a_key_is_unknown_at_once_and_shows_when_it_is_done(shop):
    path = f"/products?id={shop.first}"
    assert [shop.client().get(path)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    shop.proxy.lose_answers(late=0.7)
    answer, seconds = shop.buy()
    assert unavailable(answer)[0] == "outcome-unknown"
    assert seconds < 0.6
    assert (shop.client().get(path).json()["stock"], shop.client().get(path)["X-Cache"]) == (10, "BYPASS")
    eventually(lambda: shop.client().get(path).json()["stock"] == 9, 2)
    assert (shop.bought(), shop.begun()) == (1, 1)


def test_a_commit_that_arrives_after_the_deadline_with_a_key_is_unknown_and_no_read_is_older_than_it(shop, monkeypatch):
    monkeypatch.setattr(plugin, "REQUEST_SECONDS", 1)
    monkeypatch.setattr(redis_connection, "UNKNOWN_OUTCOME_SECONDS", 3)
    path = f"/products?id={shop.first}"
    assert [shop.client().get(path)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    shop.proxy.lose_answers(late=1.5)
    slug, detail = unavailable(shop.buy("k")[0])
    assert slug == "outcome-unknown"
    assert "same Idempotency-Key" in detail
    before = shop.client().get(path)
    assert (before.json()["stock"], before["X-Cache"]) == (10, "BYPASS")
    eventually(lambda: shop.client().get(path).json()["stock"] == 9, 2)
    seen = []
    eventually(lambda: seen.append(shop.client().get(path)) or seen[-1]["X-Cache"] == "HIT", 5)  # the mark has expired
    assert {answer.json()["stock"] for answer in seen} == {9}
    assert (shop.bought(), shop.begun()) == (1, 1)


ENDINGS = {
    "new password": lambda own, boss: own.post("/me/password", {"current_password": PASSWORD, "new_password": f"{PASSWORD} new"}),
    "disabled": lambda own, boss: boss.patch(f"/admin/users/{own.get('/me').json()['id']}", {"active": False}),
    "erased": lambda own, boss: own.post("/me/delete", {"current_password": PASSWORD}),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
def test_logins_that_end_with_a_commit_of_unknown_outcome_are_forgotten_by_every_worker(shop, settings, monkeypatch, end):
    monkeypatch.setattr(logins, "CACHED_SECONDS", 60)
    own, boss = shop.client(), shop.client(shop.boss)
    with (
        running(replace(settings, database_url=shop.postgres.url("petstore_app"))) as (services, server),
        Client(server.address, own.token) as other,
    ):
        services.db.check()
        assert [client.get("/invoices").status for client in (own, other)] == [200, 200]
        shop.proxy.lose_answers()
        assert unavailable(end(own, boss))[0] == "outcome-unknown"
        assert [client.get("/invoices").status for client in (own, other)] == [401, 401]


@pytest.mark.slow
def test_with_the_database_gone_after_commit_a_key_gets_the_answer_later(open_shop):
    with open_shop(pool_size=1) as shop:
        shop.proxy.lose_answers()
        shop.proxy.upstream, there = shop.proxy.upstream + "-not", shop.proxy.upstream
        answer, seconds = shop.buy("k")
        slug, detail = unavailable(answer)
        assert slug == "outcome-unknown"
        assert "same Idempotency-Key" in detail
        assert seconds < 4
        shop.proxy.upstream = there
        eventually(lambda: shop.client().get("/products?id=2").status == 200, 2)
        again = shop.buy("k")[0]
        assert (again.status, again["Idempotent-Replayed"]) == (201, "true")
        assert (shop.bought(), shop.begun()) == (1, 1)


@pytest.mark.parametrize("lost", ["answer", "commit"])
def test_every_write_that_takes_a_key_is_settled(shop, lost):
    boss, key = shop.client(shop.boss), {"Idempotency-Key": "k"}
    invoice_id = shop.make.invoice(shop.ana.id, {shop.first: 3}, "paid")
    credit = {"lines": [{"product_id": shop.first, "quantity": 1}]}
    for request in (
        lambda: boss.post("/create_product", {"name": "Bone", "price": 1, "stock": 1}, headers=key),
        lambda: boss.patch("/modify_product?id=1", {"stock_delta": 5}, headers=key),
        lambda: boss.post(f"/admin/invoices/{invoice_id}/credit_notes", credit, headers=key),
    ):
        shop.proxy.lose_answers() if lost == "answer" else shop.proxy.lose_commits()
        first, second = request(), request()
        assert first.status == (503 if lost == "commit" else second.status)
        assert second.status in (200, 201)
        assert (first.body == second.body) == (lost == "answer")
        assert request().body == second.body
    assert shop.make.rows("SELECT count(*) FILTER (WHERE name = 'Bone') FROM products") == [(1,)]
    assert shop.make.stock(shop.first) == 10 + 5 + 1
    assert shop.make.rows("SELECT number FROM credit_notes") == [(f"C{time.gmtime().tm_year}-000001",)]


def test_a_change_of_status_whose_answer_is_lost_is_done_once_and_takes_one_number(shop):
    invoice_id, boss = shop.make.invoice(shop.ana.id, {shop.first: 1}), shop.client(shop.boss)
    shop.proxy.lose_answers()
    path = f"/admin/invoices/{invoice_id}"
    assert unavailable(boss.patch(path, {"status": "paid"}))[0] == "outcome-unknown"
    again = boss.patch(path, {"status": "paid"})
    assert (again.status, again.json()["number"]) == (200, f"{time.gmtime().tm_year}-000001")
    assert shop.make.scalar("SELECT count(*) FROM invoice_events") == 1
