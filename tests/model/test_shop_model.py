"""The whole shop beside a small model: whatever is asked of both, in whatever order, both say the same."""

import os
import re
import signal
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.client import Client
from tests.factories import PASSWORD
from tests.model.shop_model import NEXT, Model, cents, refusal, said, usd
from tests.tables import TABLES
from tests.waiting import eventually


def maybe(**members):
    """Some of these members of a body."""
    return st.fixed_dictionaries({}, optional=members)


def nth(things, n):
    return list(things)[n % len(things)]


N, PIECES = st.integers(0, 9), st.integers(1, 4)  # N: which one of those that there are
USERS = {"boss@example.com": "admin", "ana@example.com": "user", "eva@example.com": "user"}
EMAIL = st.sampled_from(["bob@example.com", "BOB@example.com", "Eva@Example.com"])
NAME, PRICE, STOCK = st.sampled_from(["Ball", "Tree"]), st.integers(0, 500).map(usd), st.integers(0, 9)
NEW_STOCK = st.one_of(st.just({}), *map(st.fixed_dictionaries, ({"stock": STOCK}, {"stock_delta": st.integers(-4, 4)})))
OFF = st.sampled_from([None, None, None, 0, 0, 1])  # how wrong a client is in what it expects, if it expects anything
KEY = st.sampled_from([None, None, *"abcdef"])  # few, so that some are met again
REASON, RESTOCK = maybe(reason=st.just("Late")), maybe(restock=st.booleans())
BASKET = st.lists(st.tuples(N, PIECES, OFF), min_size=1, max_size=4)
RETURNS = st.lists(st.tuples(N, PIECES, RESTOCK), min_size=1, max_size=3)


class World:
    """The real service, on a Redis that can go and come back."""

    def __init__(self, make, services, server, redis, address):
        self.make, self.services, self.server, self.redis, self.address = make, services, server, redis, address
        self.point()

    def client(self, user=None):
        return Client(self.server.address, user and self.services.tokens.issue(user))

    def login(self, email):
        client = self.client()
        answer = client.post("/login", {"email": email, "password": PASSWORD})
        assert answer.status == 200
        client.token = answer.json()["access_token"]
        return client

    def point(self):
        """A Redis has another folder after each start."""
        self.address.unlink(missing_ok=True)
        self.address.symlink_to(self.redis.url.removeprefix("unix://"))
        self.redis_is = "there"

    def take_redis(self, how):
        os.kill(self.redis.pid, signal.SIGSTOP if how == "frozen" else signal.SIGKILL)
        self.redis_is = how

    def bring_redis(self):
        if self.redis_is == "frozen":
            os.kill(self.redis.pid, signal.SIGCONT)
        elif self.redis_is == "gone":
            self.redis.stop()
            self.redis.start()
        self.point()
        eventually(lambda: self.services.cache.state == "ok")


class Shop(stateful.RuleBasedStateMachine):
    """Rules that ask the service and the model the same; after each, what can be read is compared."""

    def __init__(self, world):
        super().__init__()
        world.make.conn.execute(f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY CASCADE")
        world.services.cache.clear()
        world.services.failed_attempts.clear()
        boss, *customers = (world.make.user(email, role) for email, role in USERS.items())
        self.boss = boss.id
        self.anyone, self.admin = world.client(), world.client(boss)
        self.buyers = {user.id: world.client(user) for user in customers}
        self.world, self.model, self.keys = world, Model(USERS), {}  # keys: what was asked and answered under each
        self.steps = self.registrations = 0

    def teardown(self):
        self.world.bring_redis()
        for client in (self.anyone, self.admin, *self.buyers.values()):
            client.close()

    @initialize(how=st.sampled_from([None, "frozen", "gone"]), first=st.integers(1, 12), steps=st.integers(1, 5))
    def open(self, how, first, steps):
        """A bit of everything; and plan when Redis goes, and for how many steps."""
        self.outage = {first: partial(self.world.take_redis, how), first + steps: self.world.bring_redis} if how else {}
        self.create("Bone", "1.25", 5, "first")
        self.create("Fish", "0.05", 5, None)
        self.create("Worm", "0.10", 3, None)
        self.edit(1, {}, {"stock_delta": 1}, None, None, "first")
        self.buy(1, [(2, 1, None), (1, 2, None)], None)
        self.buy(0, [(0, 2, None), (1, 1, None)], "first")
        self.change(1, "paid", {}, {})
        self.credit(1, [(0, 1, {}), (1, 1, {"restock": False})], {}, "first")
        self.delete(2, None)
        self.buy(0, [(8, 1, None)], "invalid")
        self.buy(0, [(0, 1, 0), (1, 1, 1)], "refused")

    def ask(self, judge, client, method, path, body, key=None):
        """Both are asked; when the key has an answer, the service alone."""
        answer = client.request(method, path, body, headers={"Idempotency-Key": key} if key else {})
        slot = client, method, re.sub("[0-9]+", "X", path), key
        *_, old_path, old_body, first = self.keys.get(slot, [None] * 3)
        if first is None:
            assert said(answer) == judge(body, answer.json())
            assert answer["Idempotent-Replayed"] is None
            if key is not None:
                self.keys[slot] = judge, path, body, answer if answer.status in (200, 201, 409) else None
        elif (old_path, old_body) == (path, body):
            assert (answer.status, answer.body, answer["Location"]) == (first.status, first.body, first["Location"])
            assert answer["Idempotent-Replayed"] == "true"
        else:
            assert said(answer) == refusal(422, "key-reused", errors=[{"parameter": "Idempotency-Key"}])
        return answer

    def product(self, n):
        """One on sale, or now and then any."""
        return nth(self.model.product_list() if n < 8 else self.model.products.values(), n)

    @precondition(lambda self: self.registrations < 3)
    @rule(email=EMAIL)
    def register(self, email):
        self.registrations += 1
        answer = self.ask(self.model.register, self.anyone, "POST", "/register", {"email": email, "password": PASSWORD})
        if answer.status == 201:
            self.buyers[answer.json()["id"]] = self.world.login(email.swapcase())

    @precondition(lambda self: len(self.model.products) < 5)
    @rule(name=NAME, price=PRICE, stock=STOCK, key=KEY)
    def create(self, name, price, stock, key):
        body = {"name": name, "price": price, "stock": stock}
        self.ask(partial(self.model.create, self.boss), self.admin, "POST", "/create_product", body, key)

    @rule(n=N, changes=maybe(name=NAME, price=PRICE), stock=NEW_STOCK, stock_off=OFF, version_off=OFF, key=KEY)
    def edit(self, n, changes, stock, stock_off, version_off, key):
        product, body = self.product(n), changes | stock or {"name": "Bowl"}
        if stock and stock_off is not None:
            body |= {"expected_stock": product["stock"] + stock_off}
        if version_off is not None:
            body |= {"version": product["version"] + version_off}
        judge = partial(self.model.edit, self.boss, product["id"])
        self.ask(judge, self.admin, "PATCH", f"/modify_product?id={product['id']}", body, key)

    @precondition(lambda self: len(self.model.product_list()) > 1)
    @rule(n=N, off=OFF)
    def delete(self, n, off):
        product = self.product(n)
        version = None if off is None else product["version"] + off
        answer = self.admin.delete(f"/delete_product?id={product['id']}{'' if off is None else f'&version={version}'}")
        assert said(answer) == self.model.delete(product["id"], version)

    @rule(who=N, basket=BASKET, key=KEY)
    def buy(self, who, basket, key):
        lines, user_id = [], nth(self.buyers, who)
        for n, quantity, off in basket:
            product = self.product(n)
            consent = {} if off is None else {"expected_price": usd(cents(product["price"]) + off)}
            lines.append({"product_id": product["id"], "quantity": quantity} | consent)
        self.ask(partial(self.model.buy, user_id), self.buyers[user_id], "POST", "/purchase_product", {"products": lines}, key)

    @rule(n=N, status=st.sampled_from(list(NEXT)), reason=REASON, restock=RESTOCK)
    def change(self, n, status, reason, restock):
        invoice_id = nth(self.model.invoices, n)
        body = {"status": status} | reason | (restock if status == "refunded" else {})
        self.ask(partial(self.model.change, self.boss, invoice_id), self.admin, "PATCH", f"/admin/invoices/{invoice_id}", body)

    @rule(n=N, which=N, reason=REASON, restock=RESTOCK)
    def change_as_is_allowed(self, n, which, reason, restock):
        status = nth(self.model.invoices.values(), n)["status"]
        self.change(n, nth(NEXT[status] or [status], which), reason, restock)

    @rule(n=N, who=N, body=REASON)
    def cancel(self, n, who, body):
        invoice_id, user_id = nth(self.model.invoices, n), nth(self.buyers, who)
        judge, path = partial(self.model.cancel, user_id, invoice_id), f"/invoices/{invoice_id}/cancel"
        self.ask(judge, self.buyers[user_id], "POST", path, body)

    @rule(n=N, returns=RETURNS, reason=REASON, key=KEY)
    def credit(self, n, returns, reason, key):
        invoice = nth(self.model.invoices.values(), n)
        ids = [detail["product_id"] for detail in invoice["details"]]
        lines = [{"product_id": nth(ids, which), "quantity": quantity} | restock for which, quantity, restock in returns]
        judge, path = partial(self.model.credit, self.boss, invoice["id"]), f"/admin/invoices/{invoice['id']}/credit_notes"
        self.ask(judge, self.admin, "POST", path, {"lines": lines} | reason, key)

    @rule(n=st.integers(0, 50), other=st.sampled_from([None, None, "body", "product"]))
    def use_an_old_key(self, n, other):
        client, method, _, key = slot = nth(self.keys, n)
        judge, path, body, first = self.keys[slot]
        if other is None:
            body = dict(reversed(body.items()))
        elif other == "product" and method == "PATCH" and first:
            path = f"/modify_product?id={self.product(n)['id']}"
        elif "products" in body:
            body = {"products": body["products"] * 2}
        else:
            body = body | {"reason" if "lines" in body else "name": "Another"}
        self.ask(judge, client, method, path, body, key)

    @rule(n=N, who=N)
    def look(self, n, who):
        user_id, invoice_id, product_id = nth(self.buyers, who), nth(self.model.invoices, n), self.product(n)["id"]
        assert said(self.buyers[user_id].get(f"/invoices/{invoice_id}")) == self.model.invoice(user_id, invoice_id)
        assert said(self.admin.get(f"/invoices/{invoice_id}")) == (200, self.model.invoices[invoice_id])
        ledger = self.admin.get(f"/admin/products/movements?id={product_id}&limit=100").json()
        assert ledger == {"items": self.model.ledger(product_id), "next": None}

    @invariant()
    def both_show_the_same(self):
        model, self.steps = self.model, self.steps + 1
        if self.steps in self.outage:
            self.outage[self.steps]()
        assert self.anyone.get("/products").json() == {"items": model.product_list(), "next": None}
        for product_id in model.products:
            assert said(self.anyone.get(f"/products?id={product_id}")) == model.product(product_id)
        for user_id, client in self.buyers.items():
            assert client.get("/invoices").json() == {"items": model.invoice_list(user_id), "next": None}
        invoice = nth(model.invoices.values(), self.steps)
        assert said(self.buyers[invoice["user_id"]].get(f"/invoices/{invoice['id']}")) == (200, invoice)
        sums = "SELECT product_id, sum(delta)::int AS sum FROM stock_movements GROUP BY 1"
        table = self.world.make.rows(f"SELECT id, stock, sum FROM products JOIN ({sums}) AS m ON id = product_id ORDER BY id")
        assert table == [(product_id, one["stock"], one["stock"]) for product_id, one in sorted(model.products.items())]


@pytest.fixture
def world(make, with_settings, own_redis, tmp_path):
    with with_settings(redis_url=f"unix://{tmp_path / 'address'}", read_seconds=60) as (services, server):
        one = World(make, services, server, own_redis, tmp_path / "address")
        services.db.check()
        yield one


STEADY = settings(deadline=None, database=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
BOTH = settings(STEADY, phases=[Phase.generate, Phase.shrink])
QUICK = settings(BOTH, max_examples=12, stateful_step_count=25, derandomize=True)
LONG = settings(BOTH, max_examples=50, stateful_step_count=40)  # others each time


@pytest.mark.parametrize("size", [pytest.param(QUICK, id="quick"), pytest.param(LONG, id="long", marks=pytest.mark.deep)])
def test_the_shop_and_its_model_say_the_same_whatever_is_asked(world, size):
    stateful.run_state_machine_as_test(lambda: Shop(world), settings=size)
