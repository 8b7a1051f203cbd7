"""Refusals with an Idempotency-Key: stored in short, and answered again with the bytes of the first answer, whatever happened since."""

from __future__ import annotations

import json
import random
import zlib

import pytest

from tests.routes.test_idempotency import BUY, CHANGE, CREDIT, MODIFY, Shop, is_replay, turned

IDS = range(1, 101)
LONGEST = {"key": "k" * 255, "request_id": "r" * 64}
GONE = "UPDATE products SET stock = 0, price = 99, name = 'Sold', version = version + 1"
BACK = "UPDATE products SET stock = 1000, price = 12.5"


def lines(quantity, **members):
    return [{"product_id": product_id, "quantity": quantity, **members} for product_id in IDS]


def various():
    """A hundred lines: products twice, once and not short at all, prices that are spelled in several ways."""
    prices = ["12.5", 12.5, "12.51", 1, "13.00"]
    found = []
    for number in range(100):
        line = {"product_id": 1 + number * 7 % 60, "quantity": 1 + number % 9}
        found.append(line | ({"expected_price": prices[number % 5]} if number % 3 else {}))
    return found


SHORT = [{"product_id": line["product_id"], "quantity": line["quantity"]} for line in various()]
REFUSED = {  # the type, the request, and what makes the database refuse it
    "stock": ("not-enough-stock", BUY, "/purchase_product", {"products": lines(9_999)}, "UPDATE products SET stock = 9000 + id"),
    "stock of some": (
        *("not-enough-stock", BUY, "/purchase_product", {"products": SHORT}),
        "UPDATE products SET stock = CASE WHEN id % 4 = 0 THEN 1000 ELSE id % 5 END",
    ),
    "one product a hundred times": (
        *("not-enough-stock", BUY, "/purchase_product", {"products": [{"product_id": 3, "quantity": 10_000}] * 100}),
        "UPDATE products SET stock = 999999",
    ),
    "prices": (
        *("price-changed", BUY, "/purchase_product", {"products": lines(1, expected_price="1.00")}),
        "UPDATE products SET price = 999999900 - id - 0.07",
    ),
    "prices of some": ("price-changed", BUY, "/purchase_product", {"products": various()}, BACK),
    "a price": (
        *("price-changed", BUY, "/purchase_product", {"products": [{"product_id": 1, "quantity": 1, "expected_price": 1}]}),
        "UPDATE products SET price = 0",
    ),
    "version": ("edit-conflict", MODIFY, "/modify_product?id=1", {"version": 2**31 - 1, "stock_delta": 1}, "SELECT"),
    "expected stock": (
        *("stock-changed", MODIFY, "/modify_product?id=1", {"expected_stock": 7, "stock": 1_000_000_000}),
        "UPDATE products SET stock = 1000000000",
    ),
    "delta": (
        *("not-enough-stock", MODIFY, "/modify_product?id=1", {"stock_delta": -1_000_000_000}),
        "UPDATE products SET stock = 999999999",
    ),
    "full": (
        *("stock-limit", MODIFY, "/modify_product?id=1", {"stock_delta": 1_000_000_000}),
        "UPDATE products SET stock = 1000000000",
    ),
    "pending": ("not-creditable", CREDIT, "/admin/invoices/2/credit_notes", {"lines": lines(1)}, "SELECT"),
    "credited": (
        *("credit-exceeds-invoice", CREDIT, "/admin/invoices/1/credit_notes", {"lines": lines(1_000_000)}),
        "UPDATE invoice_details SET credited = 0",
    ),
    "credited in part": (
        *("credit-exceeds-invoice", CREDIT, "/admin/invoices/1/credit_notes"),
        {"lines": [{**line, "restock": bool(line["quantity"] % 2)} for line in SHORT]},
        "SELECT",
    ),
    "another status": (
        "transition-not-allowed",
        CHANGE,
        "/admin/invoices/2",
        {"status": "shipped", "reason": "x" * 500},
        "SELECT",
    ),
    "nothing to add": (
        *("transition-not-allowed", CHANGE, "/admin/invoices/1", {"status": "paid", "reason": "x" * 500}),
        "SELECT",
    ),
    "no room to put back": (
        *("stock-limit", CHANGE, "/admin/invoices/1", {"status": "refunded", "reason": "x" * 500}),
        "UPDATE products SET stock = 1000000000",
    ),
    "all full": (
        *("stock-limit", CREDIT, "/admin/invoices/1/credit_notes", {"lines": lines(1), "reason": "x" * 500}),
        "UPDATE products SET stock = 1000000000",
    ),
}
WITH_FACTS = {"stock", "stock of some", "one product a hundred times", "prices", "prices of some", "a price", "credited"}
WITH_FACTS |= {"credited in part"}


@pytest.fixture
def shop(make, clients):
    """A hundred products, a paid invoice with pieces of each of them, and a pending one."""
    shop = Shop.__new__(Shop)
    shop.make, shop.clients, shop.boss = make, clients, make.user(role="admin")
    for _ in IDS:
        make.product(stock=1000)
    for status in ("paid", "pending"):
        make.invoice(shop.boss.id, {product_id: 11 + product_id % 5 for product_id in IDS}, status)
    shop.client = clients(shop.boss)
    return shop


def stored(shop, key="k"):
    return shop.make.scalar("SELECT body FROM idempotency_keys WHERE key = %s", key)


def text_of(body):
    return zlib.decompress(body) if body[:1] == b"x" else body


def refuse(shop, name, key="k", **options):
    slug, route, path, body, reason = REFUSED[name]
    shop.make.conn.execute(reason)
    answer = shop.send(route, key, path, body, **options)
    assert (answer.status, answer.json()["type"]) == (409, f"/problems/{slug}")
    return answer


@pytest.mark.parametrize("name", REFUSED)
def test_a_replay_has_the_bytes_of_the_first_answer_whatever_happened_since(shop, name):
    _, route, path, body, _ = REFUSED[name]
    first = refuse(shop, name)
    other_spelling = json.dumps(turned(body), indent=2).replace("12.5,", "12.50,").encode()
    for change in ("SELECT", GONE, BACK, "UPDATE products SET deleted_at = now()"):
        shop.make.conn.execute(change)
        before = shop.state()
        assert is_replay(shop.send(route, "k", path, body), first), change
        assert is_replay(shop.send(route, "k", raw=other_spelling, path=path), first), change
        assert shop.state() == before


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_takes_at_most_a_kibibyte(shop, name):
    raw = json.dumps(REFUSED[name][3]).encode()
    headers = {"X-Request-ID": LONGEST["request_id"]}
    first = refuse(shop, name, LONGEST["key"], raw=raw, headers=headers)
    body = stored(shop, LONGEST["key"])
    print(f"{name}: the answer has {len(first.body)} bytes, {len(body)} are stored")
    assert len(body) <= 1024
    assert text_of(body).startswith(b"[" if name in WITH_FACTS else b"{")


@pytest.mark.parametrize("seed", range(3))
def test_prices_of_many_digits_take_no_more_than_a_kibibyte_either(shop, seed):
    picked = random.Random(seed)
    for product_id in IDS:
        price = f"{picked.randrange(10**8, 999_999_999)}.{picked.randrange(100) if product_id > 1 else 0:02}"
        shop.make.conn.execute("UPDATE products SET price = %s WHERE id = %s", (price, product_id))
    body = {"products": lines(1, expected_price="1.00")}
    first = shop.send(BUY, "k", "/purchase_product", body)
    assert first.json()["type"] == "/problems/price-changed"
    assert stored(shop)[:1] == b"x"
    assert len(stored(shop)) <= 1024
    shop.make.conn.execute(BACK)
    assert is_replay(shop.send(BUY, "k", "/purchase_product", body), first)


GOLDEN = {  # a change of wording is a decision: what is stored is answered in the words of the release that answers
    "stock": (
        {"products": [{"product_id": 2, "quantity": 3}, {"product_id": 4, "quantity": 1}, {"product_id": 2, "quantity": 4}]},
        b'["not-enough-stock","golden",[5,null,5]]',
        b'{"type":"/problems/not-enough-stock","title":"There is not enough stock of at least one product","status":409,'
        b'"detail":"There is not enough stock of at least one product.","request_id":"golden","errors":['
        b'{"pointer":"/products/0/quantity","detail":"only 5 in stock","product_id":2,"requested":7,"available":5},'
        b'{"pointer":"/products/2/quantity","detail":"only 5 in stock","product_id":2,"requested":7,"available":5}]}\n',
    ),
    "price": (
        {
            "products": [
                {"product_id": 1, "quantity": 1},
                {"product_id": 2, "quantity": 1, "expected_price": "8.25"},
                {"product_id": 3, "quantity": 1, "expected_price": 0.5},
            ]
        },
        b'["price-changed","golden",[null,5]]',
        b'{"type":"/problems/price-changed","title":"The price of at least one product is not the expected one","status":409,'
        b'"detail":"The price of at least one product is not the expected one.","request_id":"golden","errors":['
        b'{"pointer":"/products/2/expected_price","detail":"the price is 0.05 now","product_id":3,"expected_price":"0.50",'
        b'"price":"0.05"}]}\n',
    ),
    "credit": (
        {"lines": [{"product_id": 1, "quantity": 1}, {"product_id": 2, "quantity": 14}]},
        b'["credit-exceeds-invoice","golden",[null,13]]',
        b'{"type":"/problems/credit-exceeds-invoice","title":"More would be credited than was bought and is not credited yet",'
        b'"status":409,"detail":"More would be credited than was bought and is not credited yet.","request_id":"golden",'
        b'"errors":[{"pointer":"/lines/1/quantity","detail":"only 13 bought and not credited yet","product_id":2,"requested":14,'
        b'"available":13}]}\n',
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_what_is_stored_and_the_words_that_come_of_it(shop, name):
    body, facts, answer = GOLDEN[name]
    shop.make.conn.execute("UPDATE products SET stock = 5, price = CASE id WHEN 2 THEN 8.25 ELSE 0.05 END")
    route, path = (CREDIT, "/admin/invoices/1/credit_notes") if name == "credit" else (BUY, "/purchase_product")
    sent = {"raw": json.dumps(body).encode(), "path": path}
    first = shop.send(route, "k", headers={"X-Request-ID": "golden"}, **sent)
    assert (first.body, stored(shop)) == (answer, facts)
    assert is_replay(shop.send(route, "k", headers={"X-Request-ID": "another"}, **sent), first)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_that_was_stored_whole_is_answered_as_before(shop, name):
    """As an older release, or this one on an older schema, has stored it."""
    _, route, path, body, _ = REFUSED[name]
    first = refuse(shop, name)
    shop.make.conn.execute("UPDATE idempotency_keys SET body = %s", (first.body,))
    assert is_replay(shop.send(route, "k", path, body), first)


def test_a_refusal_without_a_key_is_the_same_and_stores_nothing(shop):
    for name in ("stock of some", "prices of some", "credited in part"):
        _, route, path, body, reason = REFUSED[name]
        first = refuse(shop, name, name)
        shop.make.conn.execute(reason)
        bare = shop.client.request(route.split()[0], path, body)
        assert (bare.status, bare.json() | {"request_id": first.json()["request_id"]}) == (409, first.json())
    assert len(shop.keys()) == 3
