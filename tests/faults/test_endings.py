"""The end of a service amid purchases: asked to stop, it loses none that it took on; killed, none that it acknowledged."""

import itertools
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from petstore.auth import tokens
from petstore.auth.signing_keys import Keyring
from tests.client import Client
from tests.commands import environment
from tests.faults.conftest import timed
from tests.processes import end
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
BUYERS = 40


class Process:
    """A `petstore serve` on the shop's database."""

    def __init__(self, shop, settings, folder):
        self.log, self.shop, self.settings = folder / "log", shop, settings
        environ = environment(
            PETSTORE_LISTEN="127.0.0.1:0",
            PETSTORE_DATABASE_URL=shop.postgres.url("petstore_app"),
            PETSTORE_REDIS_URL=settings.redis_url,
            PETSTORE_KEYS=str(settings.keys),
            PETSTORE_WORKERS="2",
        )
        self.log.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "petstore", "serve"],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: " serves on http://" in self.log.read_text(), 30)
        host, port = self.log.read_text().split(" serves on http://")[1].split(",")[0].split(":")
        self.address = host, int(port)
        issuer = tokens.Tokens(Keyring(settings.keys), issuer="petstore", audience="petstore", seconds=900)
        self.token = issuer.issue(shop.ana)

    def buy(self, key=None, client=None, product_id=None):
        headers = {"Idempotency-Key": key} if key else {}
        wish = {"products": [{"product_id": product_id or self.shop.first, "quantity": 1}]}
        if client is not None:
            return client.post("/purchase_product", wish, headers=headers)
        with Client(self.address, self.token) as one:
            return one.post("/purchase_product", wish, headers=headers)

    def end(self, how):
        return end(self.process, how, 20)


@pytest.fixture
def serve(shop, settings, tmp_path):
    made = []

    def start():
        made.append(Process(shop, settings, tmp_path))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def numbers(seconds=20):
    """0, 1, 2, ... for so long: a test that fails has to end, too."""
    until = time.monotonic() + seconds
    return itertools.takewhile(lambda _: time.monotonic() < until, itertools.count())


@contextmanager
def held(shop):
    """Nobody can buy until the end of the block."""
    shop.make.conn.execute("UPDATE products SET stock = 1000")
    with shop.make.conn.transaction():
        shop.make.conn.execute("SELECT FROM products FOR UPDATE")
        yield


@pytest.mark.parametrize("keyed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_stop_answers_every_purchase_that_runs_or_waits(serve, shop, meanwhile, keyed):
    service = serve()
    wanted = [shop.make.product() for _ in range(BUYERS)]  # each another one: of many who wait for one, some wait 0.5 s only
    with held(shop):
        answers = [
            meanwhile(lambda number=number, one=one: service.buy(f"k{number}" if keyed else None, product_id=one))
            for number, one in enumerate(wanted)
        ]
        # The threads of one worker at least: how many connections each of the two gets is chance.
        eventually(lambda: shop.make.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted") >= 4)
        time.sleep(0.2)  # all the others have been sent, and wait in a thread or in the queue, which they may for a second
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert service.process.poll() is None
    assert service.process.wait(20) == 0
    assert time.monotonic() - started < 10
    answered = [answer() for answer in answers]
    assert [answer.status for answer in answered] == [201] * BUYERS
    assert shop.bought() == BUYERS
    ids = {invoice_id for (invoice_id,) in shop.make.rows("SELECT id FROM invoices")}
    assert {answer.json()["id"] for answer in answered} == ids
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_a_stop_under_load_loses_no_acknowledged_purchase_and_takes_no_new_one(serve, shop, meanwhile):
    service = serve()
    shop.make.conn.execute("UPDATE products SET stock = 1000000")
    done, refused = [], []

    def customer(name):
        with Client(service.address, service.token) as client, suppress(OSError, HTTPException):
            for number in numbers():
                answer = service.buy(f"{name}-{number}", client)
                (done if answer.status == 201 else refused).append(answer)

    customers = [meanwhile(lambda name=name: customer(name)) for name in range(30)]
    eventually(lambda: len(done) > 60)
    status, seconds = timed(lambda: service.end(signal.SIGTERM))
    assert status == 0
    assert seconds < 10
    for one in customers:
        one()
    assert refused == []
    assert shop.bought() == len(done)  # none that was done went without its answer
    assert len({answer.json()["id"] for answer in done}) == len(done)


@pytest.mark.parametrize("keyed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_service_that_is_killed_amid_purchases_loses_none_that_it_acknowledged_and_leaves_none_half_done(
    serve, shop, meanwhile, keyed
):
    service = serve()
    shop.make.conn.execute("UPDATE products SET stock = 1000000")
    done, open_keys = {}, set()

    def customer(name):
        with Client(service.address, service.token) as client, suppress(OSError, HTTPException):
            for number in numbers():
                key = f"{name}-{number}"
                open_keys.add(key)
                answer = service.buy(key if keyed else None, client)
                assert answer.status == 201
                done[key] = answer.body
                open_keys.discard(key)

    def visitor():
        with Client(service.address) as client, suppress(OSError, HTTPException):
            for _ in numbers():
                assert client.get(path).status == 200  # which fills the cache

    path = f"/products?id={shop.first}"
    customers = [meanwhile(lambda name=name: customer(name)) for name in range(20)] + [meanwhile(visitor)]
    eventually(lambda: len(done) > 60)
    assert service.end(signal.SIGKILL) == -signal.SIGKILL
    for one in customers:
        one()
    eventually(lambda: not shop.backends("state <> 'idle'"), 3)
    bought = shop.bought()
    assert len(done) <= bought <= len(done) + 20
    invoices = {invoice_id for (invoice_id,) in shop.make.rows("SELECT id FROM invoices")}
    acknowledged = {json.loads(body)["id"] for body in done.values()}
    assert acknowledged <= invoices
    assert len(acknowledged) == len(done)
    another = serve()
    with Client(another.address) as client:
        assert client.get(path).json()["stock"] == shop.make.stock(shop.first)
    assert another.buy().status == 201
    if keyed:
        for key in open_keys:
            assert another.buy(key).status == 201
        for key, body in list(done.items())[:10]:
            assert another.buy(key).body == body
        assert shop.bought() == len(done) + len(open_keys) + 1
