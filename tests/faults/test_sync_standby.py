"""A synchronous standby that stands still: COMMITs get no answer, and nothing is told as done that the standby does not have."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

import pytest

from petstore import db
from tests import standby
from tests.databases import open_folder
from tests.faults.busy import busy_shop, refusals, sells
from tests.waiting import at_once, eventually

pytestmark = pytest.mark.slow

HELD = 20  # seconds that the standby stands still
# One for each COMMIT that was sent before they were refused, and the pools: two workers, a housekeeper.
BACKENDS = 30
UNKNOWN = {(503, "/problems/outcome-unknown"), (409, "/problems/key-in-use")}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'petstore_app'"


@pytest.fixture
def pair():
    with open_folder() as folder, standby.pair(folder, synchronous=True) as servers:
        yield servers


@pytest.fixture
def shop(pair, redis_url, tmp_path):
    url, owner_url = pair.primary.url("petstore_app"), pair.primary.url("postgres")
    with busy_shop(tmp_path, url, owner_url, redis_url, PETSTORE_THREADS="8") as one:
        yield one


@contextmanager
def stalled(server):
    """The standby stands still for the block."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


def buy(shop, key=None):
    body = {"products": [{"product_id": shop.products[0], "quantity": 1}]}
    with shop.client(shop.people[0]) as client:
        return client.post("/purchase_product", body, headers={"Idempotency-Key": key} if key else {})


def replayed(shop):
    answer = buy(shop, "k")
    return (answer.status, answer["Idempotent-Replayed"]) == (201, "true")


def invoices(server):
    """How many there are on a server, whether or not it is a standby."""
    with db.connect(server.url("postgres")) as conn:
        return conn.execute("SELECT count(*) FROM m2_be_project.invoices").fetchone()[0]


def test_writes_are_refused_early_and_reads_go_on_until_the_standby_is_back(pair, shop):
    backends = []
    with shop.buyers() as buyers:
        eventually(lambda: len(buyers.bought) > 100, 30)
        assert buyers.faults() == []
        with stalled(pair.standby):
            began = time.monotonic()
            while time.monotonic() < began + HELD:
                backends.append(pair.primary.ask(OURS))
                time.sleep(0.2)
            ended = time.monotonic()
        sells(buyers, ended)
        served = time.monotonic()
        eventually(lambda: buyers.answers[-1].started > served + 2)
    answers = [one for one in buyers.answers if began < one.started < ended]
    reads = [one for one in answers if one.kind == "read"]
    refused = [one.seconds for one in answers if one.status == 503 and one.started > began + 6]
    print(
        f"{len(reads)} reads, longest {max(one.seconds for one in reads):.3f} s; {len(refused)} writes refused, {buyers.longest()}"
    )
    print(f"{max(backends)} backends at most, {backends[-1]} at the end; refused in {median(refused) * 1000:.1f} ms")
    assert [one for one in reads if one.status != 200] == []
    assert sorted(one.seconds for one in reads)[int(len(reads) * 0.95)] < 0.5
    assert sorted(refused)[int(len(refused) * 0.9)] < 0.5
    assert max(backends) < BACKENDS
    assert refusals(buyers.answers) == []
    assert [one for one in buyers.faults() if one.started > served + 1] == []  # each worker finds out by itself
    shop.check(buyers.bought, len(buyers.faults()))


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_wait_for_the_standby_that_an_operator_ends_is_not_told_as_done(pair, shop, key, end):
    """PostgreSQL answers COMMIT then, with a warning."""
    with ThreadPoolExecutor() as pool, stalled(pair.standby):
        answer = pool.submit(buy, shop, key)
        eventually(lambda: pair.primary.ask(WAITING) == 1)
        pair.primary.ask(f"SELECT {end}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        eventually(lambda: invoices(pair.primary) == 1, 2)
        answer = answer.result(30)
        assert (answer.status, answer.json()["type"]) == (503, "/problems/outcome-unknown")
    if key:
        eventually(lambda: replayed(shop))
        pair.catch_up()
        assert (invoices(pair.primary), invoices(pair.standby)) == (1, 1)


def test_a_replay_waits_until_the_standby_has_what_it_tells(pair, shop):
    """A restart of the primary shows what it has committed, also what the standby does not have yet."""
    with stalled(pair.standby):
        first = buy(shop, "k")
        assert (first.status, first.json()["type"]) == (503, "/problems/outcome-unknown")
        assert invoices(pair.primary) == 0  # nobody sees it before the standby has it
        pair.primary.kill()
        pair.primary.start()
        assert invoices(pair.primary) == 1
        with shop.client(shop.people[0]) as client:
            eventually(lambda: client.get("/me").status == 200)
        answers = at_once(*[lambda: buy(shop, "k")] * 3)  # a replay, also while another one waits for the standby
        assert {(answer.status, answer.json().get("type")) for answer in answers} <= UNKNOWN
    eventually(lambda: replayed(shop), 20)
    pair.catch_up()
    assert (invoices(pair.primary), invoices(pair.standby)) == (1, 1)
