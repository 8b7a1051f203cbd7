"""Idempotency-Key: on every route that takes one a request is done once, and answered the same for a day."""

import json

import pytest

from petstore.app import create_router
from petstore.repository import idempotency
from tests.routes.test_roles import ROUTES, VALID, scene  # noqa: F401
from tests.tables import TABLES

FACTS = {f"{route.method} {route.rule}": dict(route.config) for route in create_router(None).routes}
WITH_KEY = sorted(name for name, facts in FACTS.items() if facts.get("idempotent"))
BUY, CREATE, MODIFY = "POST /purchase_product", "POST /create_product", "PATCH /modify_product"
CREDIT, CHANGE = "POST /admin/invoices/<invoice_id>/credit_notes", "PATCH /admin/invoices/<invoice_id>"
DONE = {BUY: 201, CREATE: 201, CREDIT: 201, MODIFY: 200, CHANGE: 200}
BOUGHT = {"products": [{"product_id": 1, "quantity": 2, "expected_price": 12.5}]}
RETURNED = {"lines": [{"product_id": 1, "quantity": 1}]}
GOOD = {  # in the shop below
    BUY: ("/purchase_product", BOUGHT),
    CREATE: ("/create_product", {"name": "Tree", "price": 12.5, "stock": 3}),
    MODIFY: ("/modify_product?id=1", {"stock_delta": 5, "price": 12.5}),
    CREDIT: ("/admin/invoices/1/credit_notes", RETURNED),
    CHANGE: ("/admin/invoices/1", {"status": "shipped"}),
}
OTHERS = {
    BUY: [
        ("/purchase_product", {"products": [{"product_id": 1, "quantity": 3, "expected_price": 12.5}]}),
        ("/purchase_product", {"products": [{"product_id": 1, "quantity": 2, "expected_price": 12.51}]}),
        ("/purchase_product", {"products": BOUGHT["products"] * 2}),
        ("/purchase_product", {"products": [{"product_id": 1, "quantity": 2}]}),
    ],
    CREATE: [("/create_product", {"name": name, "price": price, "stock": 3}) for name, price in (("tree", 12.5), ("Tree", 125))],
    MODIFY: [
        ("/modify_product?id=2", GOOD[MODIFY][1]),
        ("/modify_product?id=1", {"stock_delta": -5, "price": 12.5}),
        ("/modify_product?id=1", {"stock": 5, "price": 12.5}),
    ],
    CREDIT: [
        ("/admin/invoices/2/credit_notes", RETURNED),
        ("/admin/invoices/1/credit_notes", {"lines": [{"product_id": 1, "quantity": 1, "restock": False}]}),
        ("/admin/invoices/1/credit_notes", RETURNED | {"reason": "Torn"}),
    ],
    CHANGE: [
        ("/admin/invoices/2", GOOD[CHANGE][1]),
        ("/admin/invoices/1", {"status": "shipped", "reason": "by mail"}),
        ("/admin/invoices/1", {"status": "refunded"}),
    ],
}
FULL, LEFT = "UPDATE products SET stock = 1000000000 WHERE id = 1", "UPDATE products SET stock = 9 WHERE id = 1"
DEARER, AS_BEFORE = "UPDATE products SET price = 13 WHERE id = 1", "UPDATE products SET price = 12.5 WHERE id = 1"
PENDING, PAID = "SELECT", "UPDATE invoices SET status = 'paid' WHERE id = 3"
REFUSED = [  # by which SQL there is a reason to, and by which it is gone
    (BUY, *GOOD[BUY], "UPDATE products SET stock = 1 WHERE id = 1", LEFT),
    (BUY, *GOOD[BUY], DEARER, AS_BEFORE),
    (MODIFY, *GOOD[MODIFY], FULL, LEFT),
    (MODIFY, "/modify_product?id=1", {"price": 1, "version": 2}, "SELECT", "UPDATE products SET version = 2"),
    (CREDIT, *GOOD[CREDIT], FULL, LEFT),
    (CREDIT, "/admin/invoices/3/credit_notes", RETURNED, PENDING, PAID),
    (CHANGE, "/admin/invoices/3", {"status": "shipped"}, PENDING, PAID),
]


class Shop:
    """Two products of ten pieces and three invoices with both, the third pending; an admin, who may use every route."""

    def __init__(self, make, clients):
        self.make, self.clients, self.boss = make, clients, make.user(role="admin")
        goods = {make.product(): 3, make.product(): 3}
        for status in ("paid", "paid", "pending"):
            make.invoice(make.user().id, goods, status)
        self.client = clients(self.boss)

    def send(self, route, key, path=None, body=None, client=None, **options):
        path, body = path or GOOD[route][0], body or GOOD[route][1]
        options = options or {"raw": json.dumps(body).encode()}
        headers = {"Idempotency-Key": key} | options.pop("headers", {})
        return (client or self.client).request(route.split()[0], path, headers=headers, **options)

    def state(self):
        """Every row there is, without the keys."""
        tables = [table for table in TABLES if table != "idempotency_keys"]
        return {table: self.make.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables}

    def keys(self):
        return [key for (key,) in self.make.rows("SELECT key FROM idempotency_keys ORDER BY key")]

    def is_done_once(self, route, key="k"):
        """The key is free, and good for what it was meant for."""
        before = self.state()
        first = self.send(route, key)
        assert (first.status, first["Idempotent-Replayed"]) == (DONE[route], None)
        after = self.state()
        assert after != before
        assert is_replay(self.send(route, key), first)
        assert self.state() == after


def is_replay(answer, first):
    shown = ("Location", "Content-Type", "Cache-Control")
    assert (answer.status, answer.body, [answer[name] for name in shown]) == (
        *(first.status, first.body),
        [first[name] for name in shown],
    )
    return answer["Idempotent-Replayed"] == "true" and answer["X-Request-ID"] != first["X-Request-ID"]


@pytest.fixture
def shop(make, clients):
    return Shop(make, clients)


def test_the_routes_that_take_a_key_are_those_of_the_contract():
    assert set(GOOD) == set(WITH_KEY) == set(OTHERS)


@pytest.mark.parametrize("route", WITH_KEY)
def test_a_request_that_is_sent_again_is_done_once_and_answered_the_same(shop, route):
    first = shop.send(route, "k")
    assert (first.status, first["Idempotent-Replayed"]) == (DONE[route], None)
    assert (first["Location"] is not None) == (route in (BUY, CREATE))
    after = shop.state()
    assert all(is_replay(shop.send(route, "k"), first) for _ in range(3))
    assert shop.state() == after
    assert shop.make.rows("SELECT user_id, route, key, status, location, body FROM idempotency_keys") == [
        (shop.boss.id, route, "k", first.status, first["Location"], first.body)
    ]
    other = shop.send(route, "K")
    assert (other.status, other["Idempotent-Replayed"]) == (first.status, None)
    asked_again = route == CHANGE  # for a status that it has already
    assert (other.body == first.body, shop.state() == after) == (asked_again, asked_again)


@pytest.mark.parametrize(("route", "path", "body", "reason", "remedy"), REFUSED)
def test_a_refusal_is_answered_again_even_when_its_reason_is_gone(shop, route, path, body, reason, remedy):
    shop.make.conn.execute(reason)
    before = shop.state()
    first = shop.send(route, "k", path, body)
    assert first.status == 409
    assert shop.state() == before
    shop.make.conn.execute(remedy)
    before = shop.state()
    assert is_replay(shop.send(route, "k", path, body), first)
    assert shop.state() == before
    other = shop.send(route, "new", path, body)
    assert (other.status, other["Idempotent-Replayed"]) == (DONE[route], None)


@pytest.mark.parametrize("route", WITH_KEY)
def test_another_request_with_the_key_is_refused_and_does_nothing(shop, route):
    first = shop.send(route, "k")
    after = shop.state()
    for path, body in OTHERS[route]:
        answer = shop.send(route, "k", path, body)
        assert (answer.status, answer.json()["type"]) == (422, "/problems/key-reused"), (path, body)
        assert answer["Idempotent-Replayed"] is None
    assert shop.state() == after
    assert is_replay(shop.send(route, "k"), first)


def turned(value):
    """With the members of every object in the other order."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(value)}
    return [turned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("route", WITH_KEY)
def test_the_order_of_members_and_how_a_number_is_spelled_do_not_make_another_request(shop, route):
    first = shop.send(route, "k")
    raw = json.dumps(turned(GOOD[route][1]), indent=3)
    for spelled in (raw, raw.replace("12.5", "12.50"), raw.replace("12.5", "1250e-2"), raw.replace("12.5", "0.00125E+4")):
        assert is_replay(shop.send(route, "k", raw=spelled.encode()), first), spelled


@pytest.mark.parametrize(
    "notations", [("12", "12.0", "1.2e1"), ("100", "100.00", "1E2"), ("0", "-0.0", "0e9"), ('"12.5"', '"12.5"')]
)
def test_a_number_is_the_same_with_and_without_a_point(shop, notations):
    bodies = [f'{{"name":"Tree","price":{price},"stock":3}}'.encode() for price in notations]
    first = shop.send(CREATE, "k", raw=bodies[0])
    assert first.status == 201
    assert all(is_replay(shop.send(CREATE, "k", raw=body), first) for body in bodies)
    assert shop.send(CREATE, "k", raw=bodies[0].replace(b'"stock":3', b'"stock":4')).json()["type"] == "/problems/key-reused"


def test_a_key_belongs_to_one_user_and_one_route(shop):
    other = shop.clients(shop.make.user(role="admin"))
    answers = [shop.send(route, "k", client=client) for route in WITH_KEY for client in (shop.client, other)]
    assert {(answer.status, answer["Idempotent-Replayed"]) for answer in answers} == {(201, None), (200, None)}
    assert len({answer.body for answer in answers}) == len(shop.keys()) - 1 == 2 * len(WITH_KEY) - 1  # CHANGE, see above
    assert is_replay(shop.send(BUY, "k", client=other), answers[2 * WITH_KEY.index(BUY) + 1])


@pytest.mark.parametrize("route", WITH_KEY)
def test_an_invalid_request_leaves_the_key_free(shop, route):
    path, body = GOOD[route]
    nobody, customer = shop.clients(), shop.clients(shop.make.user())
    wrong = {
        400: [{"raw": b"{"}, {"path": f"{path}{'&' if '?' in path else '?'}x=1"}],
        401: [{"client": nobody}],
        403: [{"client": customer}] if FACTS[route]["auth"] == "admin" else [],
        413: [{"raw": b" " * 262_145}],
        415: [{"raw": json.dumps(body).encode(), "headers": {"Content-Type": "text/plain"}}],
        422: [{"raw": b"{}"}],
        404: {
            MODIFY: [{"path": "/modify_product?id=9"}],
            CREDIT: [{"path": path.replace("1", "9")}],
            CHANGE: [{"path": path.replace("1", "9")}],
        }.get(route, []),
    }
    wrong[422] += {
        BUY: [{"body": {"products": [{"product_id": 1, "quantity": 2}, {"product_id": 9, "quantity": 1}]}}],
        CREATE: [{"body": {"name": " ", "price": 1, "stock": 1}}],
        MODIFY: [{"body": {"price": "1.001"}}],
        CREDIT: [{"body": {"lines": [{"product_id": 9, "quantity": 1}]}}],
        CHANGE: [{"body": {"status": "paid", "restock": True}}],
    }[route]
    before = shop.state()
    for status, requests in wrong.items():
        for request in requests:
            assert shop.send(route, "k", **request).status == status, request
    assert (shop.keys(), shop.state()) == ([], before)
    shop.is_done_once(route)


UNQUOTED = ["", "x" * 256, "ü", "\xff", "a\tb", "a\x00b", "a\x07", "a\x7fb", "\x1b"]
QUOTED = ['"', '"k', '""', '"a"b"', '"k";p=1', r'"a\b"', '"a\\"', '"ü"', f'"{"x" * 256}"', '"a", "b"']


@pytest.mark.parametrize("key", UNQUOTED + QUOTED)
def test_a_key_that_is_not_1_to_255_printable_characters_is_refused(shop, key):
    before = shop.state()
    for route in WITH_KEY:
        answer = shop.send(route, key)
        assert answer.status == 400
        assert ("between its quotes" in answer.json()["detail"]) == key.startswith('"')
    assert (shop.keys(), shop.state()) == ([], before)


@pytest.mark.parametrize("key", ["x" * 255, "a b", "~!\"'\\", "%00", "0", f'"{"x" * 255}"', '"' + r"\"" * 255 + '"'])
def test_every_other_key_is_good(shop, key):
    for route in WITH_KEY:
        shop.is_done_once(route, key)


SPELLINGS = [("k", '"k"'), ('a"b', r'"a\"b"'), ("a\\b", r'"a\\b"'), ("x" * 255, f'"{"x" * 255}"')]


@pytest.mark.parametrize(("key", "quoted"), SPELLINGS)
def test_a_key_in_quotes_is_the_same_as_without(shop, key, quoted):
    first, other = shop.send(BUY, key), shop.send(CREDIT, quoted)
    after = shop.state()
    assert is_replay(shop.send(BUY, quoted), first)
    assert is_replay(shop.send(CREDIT, key), other)
    assert shop.send(CREDIT, key, *OTHERS[CREDIT][0]).json()["type"] == "/problems/key-reused"
    assert shop.state() == after


def test_a_key_with_quotes_of_its_own_is_another_one(shop):
    answers = [shop.send(BUY, key) for key in ('"k"', r'"\"k\""', r'"\"\\\"k\\\"\""')]
    assert [(answer.status, answer["Idempotent-Replayed"]) for answer in answers] == [(201, None)] * 3
    assert is_replay(shop.send(BUY, r'"\"k\""'), answers[1])


def as_stored_by_the_release_before(shop, quoted):
    """Which knows no quotes: they were a part of the key."""
    shop.make.conn.execute("DELETE FROM idempotency_keys WHERE key <> %s", (quoted,))
    assert shop.keys() == [quoted]


@pytest.mark.parametrize(("route", "path", "body"), [*((route, *GOOD[route]) for route in WITH_KEY), (CHANGE, *REFUSED[-1][1:3])])
def test_a_write_from_before_the_upgrade_is_not_done_again(shop, route, path, body):
    first = shop.send(route, '"k"', path, body)
    as_stored_by_the_release_before(shop, '"k"')
    after = shop.state()
    assert is_replay(shop.send(route, '"k"', path, body), first)
    assert shop.send(route, '"k"', *OTHERS[route][0]).json()["type"] == "/problems/key-reused"
    assert (shop.state(), shop.keys()) == (after, ['"k"'])
    shop.make.conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '24:00:01'")
    assert shop.send(route, '"k"', path, body)["Idempotent-Replayed"] is None


def test_a_node_of_the_release_before_finds_what_was_done_with_its_spelling(shop, conn):
    for number, (route, path, body) in enumerate([(BUY, *GOOD[BUY]), (CHANGE, *REFUSED[-1][1:3])]):
        first = shop.send(route, f'"{number}"', path, body)
        key = {"user_id": shop.boss.id, "route": route, "key": f'"{number}"'}
        assert idempotency.claim_key(conn, **key, fingerprint=bytes(32)) is None
        saved = idempotency.get_answer(conn, **key)
        assert (saved.status, saved.location, saved.body) == (first.status, first["Location"], first.body)


def test_a_key_without_quotes_costs_nothing_more(shop):
    shop.send(BUY, "k")
    assert shop.keys() == ["k"]


@pytest.mark.parametrize("key", ["k", "ü", ""])
@pytest.mark.parametrize(("method", "rule", "facts"), [route for route in ROUTES if not route[2].get("idempotent")])
def test_other_routes_refuse_a_key(scene, method, rule, facts, key):  # noqa: F811
    valid = VALID[method, rule]
    who = "admin" if valid.owner == 403 else "owner"
    path, body, before = scene.fill(valid.path), scene.fill(valid.body), scene.rows()
    sent = {"raw": None if body is None else json.dumps(body).encode(), "headers": {"Idempotency-Key": key}}
    answer = scene.clients[who].request(method, path, **sent)
    assert (answer.status, answer.json()["type"]) == (400, "/problems/bad-request")
    assert [fault["parameter"] for fault in answer.json()["errors"]] == ["Idempotency-Key"]
    for other, status in (("nobody", 401 if facts["auth"] != "anyone" else 400), ("stranger", 403 if who == "admin" else 400)):
        assert scene.clients[other].request(method, path, **sent).status == status
    assert scene.rows() == before
    assert scene.clients[who].request(method, path, raw=sent["raw"]).status == getattr(valid, who)


@pytest.mark.parametrize("route", WITH_KEY)
def test_after_a_day_a_key_is_new(shop, route):
    first = shop.send(route, "k")
    shop.make.conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '23:59'")
    assert is_replay(shop.send(route, "k"), first)
    shop.make.conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '24:00:01'")
    other = shop.send(route, "k", *OTHERS[route][-1])
    assert (other.status, other["Idempotent-Replayed"]) == (first.status, None)
    assert is_replay(shop.send(route, "k", *OTHERS[route][-1]), other)
    assert shop.send(route, "k").json()["type"] == "/problems/key-reused"


def test_what_fails_in_its_transaction_leaves_the_key_free(shop):
    with shop.make.conn.transaction():
        shop.make.conn.execute("SELECT FROM products WHERE id = 1 FOR UPDATE")
        assert shop.send(BUY, "k").status == 503
    shop.make.conn.execute("UPDATE products SET deleted_at = now() WHERE id = 1")
    for route in (BUY, MODIFY):
        assert shop.send(route, "k").status == (422 if route == BUY else 404)
    assert shop.keys() == []
    shop.make.conn.execute("UPDATE products SET deleted_at = NULL WHERE id = 1")
    for route in (BUY, MODIFY):
        shop.is_done_once(route)


@pytest.mark.parametrize("route", WITH_KEY)
def test_an_answer_that_cannot_be_kept_is_no_answer_and_nothing_is_done(shop, route):
    before = shop.state()
    shop.make.conn.execute("ALTER TABLE idempotency_keys ADD CONSTRAINT broken CHECK (status IS NULL)")
    try:
        assert shop.send(route, "k").status == 500
        assert shop.send(route, "K", *OTHERS[route][0]).status == 500
    finally:
        shop.make.conn.execute("ALTER TABLE idempotency_keys DROP CONSTRAINT broken")
    assert (shop.keys(), shop.state()) == ([], before)
    shop.is_done_once(route)


def age(shop, **hours):
    for key, age in hours.items():
        shop.make.conn.execute(
            "INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, body, created_at)"
            " VALUES (%s, %s, %s, sha256(''), 201, '', now() - %s * interval '1 hour')",
            (shop.boss.id, BUY, key, age),
        )
