"""A backend, or the whole server, that does not answer any more: every request ends in time, and the others are served."""

import os
import signal
import time
from contextlib import ExitStack, suppress

import pytest

from tests.faults.conftest import timed, usual
from tests.waiting import eventually

IN_TIME = 3.7  # a request's deadline, and the noise of a machine

LAST_FOR_EVER = {"statement_timeout": "0", "lock_timeout": "0"}  # so that a frozen statement goes on when it is thawed


@pytest.fixture
def freeze():
    """Makes backends stand still; gives what thaws them, which happens at the end in any case."""
    with ExitStack() as stack:

        def stop(pids):
            def thaw():
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)

            stack.callback(thaw)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            return thaw

        yield stop


def serves_others(shop):
    for call in (
        lambda: shop.client().get("/products"),
        lambda: shop.client().get("/products?id=2"),
        lambda: shop.buy(product_id=shop.second)[0],
    ):
        answer, seconds = timed(call)
        assert answer.status in (200, 201)
        assert seconds < 1


@pytest.mark.slow
def test_backends_frozen_before_the_first_statement_cost_no_more_than_the_deadline(shop, meanwhile, freeze):
    pids = shop.backends()
    thaw = freeze(pids)
    answers = [meanwhile(shop.buy) for _ in pids]
    time.sleep(0.2)
    serves_others(shop)
    for answer, seconds in (answer() for answer in answers):
        assert (answer.status, answer["Retry-After"]) in ((503, "1"), (201, None))
        assert seconds < IN_TIME
    usual(shop)
    thaw()
    usual(shop)
    assert shop.bought() == len(shop.client().get("/invoices?limit=100").json()["items"])


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, "k"])
def test_a_backend_frozen_amid_its_statements_is_answered_in_time_and_nothing_is_bought(shop, meanwhile, freeze, key):
    """It holds the product that it was about to sell, and the key."""
    with shop.waiting_in("invoices", "INSERT") as waiting:
        answer = meanwhile(lambda: shop.buy(key))
        eventually(waiting)
        pids = waiting()
        thaw = freeze(pids)
    serves_others(shop)
    answer, seconds = answer()
    assert answer.json()["type"] in ("/problems/unavailable", "/problems/key-in-use" if key else "")
    assert (answer.status, answer["Retry-After"]) == (409 if "key-in-use" in answer.json()["type"] else 503, "1")
    assert seconds < IN_TIME
    usual(shop)
    thaw()
    eventually(lambda: not shop.backends() & pids, 2)
    assert shop.make.stock(shop.first) == 10
    assert shop.buy(key)[0].status == 201
    assert shop.make.stock(shop.first) == 9
    shop.bought()


@pytest.mark.slow
@pytest.mark.parametrize(("options", "done"), [({}, 0), (LAST_FOR_EVER, 1)])
def test_a_backend_frozen_in_commit_leaves_the_outcome_unknown_without_a_key(open_shop, meanwhile, freeze, options, done):
    """When it is thawed, it finds that it was too late, and rolls back; or it commits, where nothing limits it."""
    with open_shop(options=options) as shop:
        with shop.waiting_in("invoices", "INSERT", "DEFERRABLE INITIALLY DEFERRED") as waiting:
            answer = meanwhile(shop.buy)
            eventually(waiting)
            pids = waiting()
            thaw = freeze(pids)
        serving = timed(lambda: shop.client().get("/products?id=2"))
        assert (serving[0].status, serving[1] < 1) == (200, True)
        answer, seconds = answer()
        assert (answer.status, answer["Retry-After"]) == (503, "1")
        assert answer.json()["type"] == "/problems/outcome-unknown"
        assert "GET /invoices" in answer.json()["detail"]
        assert 2 < seconds < IN_TIME
        serves_others(shop)
        thaw()
        eventually(lambda: not shop.backends() & pids, 2)
        assert shop.make.stock(shop.first) == 10 - done
        assert shop.client().get(f"/products?id={shop.first}").json()["stock"] == 10 - done
        usual(shop)
        shop.bought()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, LAST_FOR_EVER])
def test_a_backend_frozen_in_commit_with_a_key_is_settled_when_the_request_is_sent_again(open_shop, meanwhile, freeze, options):
    with open_shop(options=options) as shop:
        with shop.waiting_in("invoices", "INSERT", "DEFERRABLE INITIALLY DEFERRED") as waiting:
            answer = meanwhile(lambda: shop.buy("k"))
            eventually(waiting)
            pids = waiting()
            thaw = freeze(pids)
        answer, seconds = answer()
        assert (answer.status, answer.json()["type"]) == (503, "/problems/outcome-unknown")
        assert "same Idempotency-Key" in answer.json()["detail"]
        assert seconds < IN_TIME
        again, seconds = shop.buy("k")  # nobody can know yet
        assert again.status in (409, 503)
        assert again["Retry-After"] == "1"
        assert seconds < IN_TIME
        thaw()
        eventually(lambda: not shop.backends() & pids, 2)
        first, second = shop.buy("k")[0], shop.buy("k")[0]
        assert (first.status, second.status, second["Idempotent-Replayed"]) == (201, 201, "true")
        assert first.body == second.body
        assert shop.bought() == 1


@pytest.mark.parametrize("key", [None, "k"])
def test_a_backend_frozen_in_commit_and_thawed_in_time_is_a_purchase_as_usual(shop, meanwhile, freeze, key):
    with shop.waiting_in("invoices", "INSERT", "DEFERRABLE INITIALLY DEFERRED") as waiting:
        answer = meanwhile(lambda: shop.buy(key))
        eventually(waiting)
        thaw = freeze(waiting())
    time.sleep(0.5)
    thaw()
    assert answer()[0].status == 201
    assert (shop.bought(), shop.begun()) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, "k"])
def test_a_whole_server_that_is_silent_is_a_503_in_time_and_used_again_within_two_seconds(shop, meanwhile, key):
    boss = shop.client(shop.boss)
    assert shop.client().get("/products?id=2").status == 200
    shop.services.cache.clear()
    shop.proxy.swallowing = True
    calls = [meanwhile(lambda: shop.buy(key))]
    calls += [meanwhile(lambda path=path: timed(lambda: shop.client().get(path))) for path in ("/products", "/invoices", "/me")]
    calls += [meanwhile(lambda: timed(lambda: boss.patch("/modify_product?id=2", {"stock": 3})))]
    for answer, seconds in [call() for call in calls]:
        assert (answer.status, answer["Retry-After"]) == (503, "1")
        assert seconds < IN_TIME
    assert timed(lambda: shop.client().get("/livez"))[1] < 1
    assert shop.client().get("/readyz").status == 503
    shop.proxy.swallowing = False
    eventually(lambda: shop.client().get("/products").status == 200, 2)
    usual(shop)
    shop.make.conn.execute(
        "UPDATE products SET stock = 10 - (SELECT count(*) FROM invoice_details WHERE product_id = products.id)"
    )
    before = shop.bought()
    if key:
        assert shop.buy(key)[0].status == 201
        assert shop.bought() in (before, before + 1)
        assert shop.make.scalar("SELECT count(*) FROM idempotency_keys WHERE key = %s", key) == 1


@pytest.mark.slow
def test_a_server_that_goes_silent_with_commit_leaves_the_outcome_unknown_and_then_it_is_done(shop, meanwhile):
    with shop.waiting_in("invoices", "INSERT", "DEFERRABLE INITIALLY DEFERRED") as waiting:
        answers = {
            key: meanwhile(lambda key=key: shop.buy(key, product_id=shop.first if key else shop.second)) for key in (None, "k")
        }
        eventually(lambda: len(waiting()) == 2)
        shop.proxy.swallowing = True
    for answer, seconds in (answer() for answer in answers.values()):
        assert (answer.status, answer.json()["type"]) == (503, "/problems/outcome-unknown")
        assert seconds < IN_TIME
    assert shop.bought() == 2  # the server had the COMMIT; its answer was swallowed
    shop.proxy.swallowing = False
    eventually(lambda: shop.client().get("/products").status == 200, 2)
    assert shop.buy("k")[0]["Idempotent-Replayed"] == "true"
    assert shop.bought() == 2
