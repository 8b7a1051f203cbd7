"""How many Idempotency-Keys an account can have, whichever worker it asks."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from petstore.limits import live_keys
from tests.client import Client

LIMIT = 200
FILL = """
    INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, body, created_at)
    SELECT %s, 'POST /purchase_product', 'old ' || i, sha256(''), 201, '{}', now() - interval '23 hours' + i * interval '1 minute'
    FROM generate_series(1, %s) AS s (i)
"""


@pytest.fixture
def workers(make, with_settings):
    """Two workers with a limit of LIMIT keys."""
    make.product(stock=10_000)
    with ExitStack() as stack:
        yield [stack.enter_context(with_settings(idempotency_keys=LIMIT)) for _ in range(2)]


@pytest.fixture
def shoppers(workers, ana):
    """Ana at each of the workers."""
    with ExitStack() as stack:
        yield [stack.enter_context(Client(server.address, services.tokens.issue(ana))) for services, server in workers]


def buy(client, key, quantity=1):
    body = {"products": [{"product_id": 1, "quantity": quantity}]}
    return client.post("/purchase_product", body, headers={"Idempotency-Key": key})


def live(make, ana):
    return make.scalar("SELECT count(*) FROM idempotency_keys WHERE user_id = %s", ana.id)


def until_refused(make, ana, shoppers):
    """The first answers of each key that was taken, and the last refusal of each worker."""
    make.conn.execute(FILL, (ana.id, LIMIT - 10))
    answers = {number: buy(shoppers[number % 2], str(number)) for number in range(40)}
    taken = {number: answer for number, answer in answers.items() if answer.status == 201}
    refused = [answer for number, answer in answers.items() if number not in taken]
    assert {answer.status for answer in refused} == {429}
    return taken, refused


def test_an_account_of_two_workers_has_the_limit_and_one_per_cent_for_each(make, ana, shoppers, clients):
    taken, refused = until_refused(make, ana, shoppers)
    assert LIMIT <= live(make, ana) == LIMIT - 10 + len(taken) <= LIMIT + 2 * LIMIT // 100
    assert make.stock(1) == 10_000 - len(taken)
    over = len(taken) - 10
    for answer in refused:
        seconds = int(answer["Retry-After"])
        assert 3600 + 60 * (over + 1) - 30 <= seconds <= 3600 + 60 * (over + 1)  # when so many of the old ones have ended
        assert answer.json()["type"] == "/problems/too-many-keys"
        assert f"try again in {seconds:,} s" in answer.json()["detail"]
        assert answer["RateLimit-Policy"] == '"idempotency-keys";q=200;w=86400'
        assert answer["RateLimit"] == f'"idempotency-keys";r=0;t={seconds}'
    bob = make.user()
    for client in shoppers:
        client.token = clients(bob).token
    assert [buy(client, "his").status for client in shoppers] == [201, 201]


def test_a_key_that_was_used_is_answered_also_when_there_are_too_many(make, ana, shoppers):
    taken, refused = until_refused(make, ana, shoppers)
    assert len(refused) > 20
    for client in shoppers:
        for number, first in taken.items():
            answer = buy(client, str(number))
            assert (answer.status, answer.body, answer["Idempotent-Replayed"]) == (201, first.body, "true")
        assert buy(client, "0", quantity=2).json()["type"] == "/problems/key-reused"
        assert buy(client, "new").status == 429
    without_key = shoppers[0].post("/purchase_product", {"products": [{"product_id": 1, "quantity": 1}]})
    assert without_key.status == 201


def test_when_keys_end_as_many_may_come(make, ana, shoppers, monkeypatch):
    monkeypatch.setattr(live_keys, "_RECOUNT_SECONDS", 0)
    taken, _ = until_refused(make, ana, shoppers)
    over = len(taken) - 10
    make.conn.execute(
        "UPDATE idempotency_keys SET created_at = created_at - interval '1 day' WHERE key IN (SELECT 'old ' || i FROM"
        " generate_series(1, %s) AS s (i))",
        (over + 1,),
    )
    answers = [buy(shoppers[0], f"new {number}").status for number in range(5)]
    assert answers[0] == 201
    assert answers[-1] == 429


def test_a_refused_key_writes_nothing(make, ana, shoppers):
    until_refused(make, ana, shoppers)
    rows = "SELECT t::text, t.xmin::text, t.xmax::text FROM {} AS t ORDER BY 1"
    before = [make.rows(rows.format(table)) for table in ("idempotency_keys", "users", "products")]
    assert {buy(client, "new").status for client in shoppers for _ in range(5)} == {429}
    assert [make.rows(rows.format(table)) for table in ("idempotency_keys", "users", "products")] == before


def test_there_may_be_no_limit(make, ana, with_settings):
    make.product(stock=10_000)
    with (
        with_settings(idempotency_keys=0) as (services, server),
        Client(server.address, services.tokens.issue(ana)) as client,
    ):
        make.conn.execute(FILL, (ana.id, 10_000))
        assert {buy(client, str(number)).status for number in range(10)} == {201}
