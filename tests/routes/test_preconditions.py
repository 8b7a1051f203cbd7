"""If-Match: an edit or a deletion of a product goes through only if the product still is what was read."""

from __future__ import annotations

import re
import threading

import pytest

from petstore.app import create_router
from petstore.domain.preconditions import product_tag
from petstore.web import compression, response_cache

ROUTES = create_router(None).routes
TAKING = ("PATCH", "DELETE")  # /modify_product, /delete_product
EDIT = {"price": "20.00"}
BUY = {"products": [{"product_id": 1, "quantity": 1}]}


@pytest.fixture
def read(make, anyone):
    """A product of ten pieces that costs 12.50, as a client has read it."""
    make.product("Cat tree")
    return anyone.get("/products?id=1")


def send(client, method, tags, **options):
    headers = {"If-Match": tags} | options.pop("headers", {})
    if method == "PATCH":
        return client.patch("/modify_product?id=1", options.pop("body", EDIT), headers=headers, **options)
    return client.delete("/delete_product?id=1", headers=headers, **options)


def row(make):
    return make.rows("SELECT name, price::text, stock, version, deleted_at IS NULL FROM products WHERE id = 1")[0]


def refusal(answer):
    problem = answer.json()
    assert (answer.status, problem["type"]) == (412, "/problems/precondition-failed")
    assert problem["errors"][0]["parameter"] == "If-Match"
    return problem["current_version"], problem["only_stock_changed"]


def with_suffix(tag, suffix):
    return f'{tag[:-1]}{suffix}"'


# ── what matches ─────────────────────────────────────────────────────────────────────────────────────────────────────────

OURS = {
    "the tag": lambda tag: tag,
    "of the compressed answer": lambda tag: with_suffix(tag, "-gzip"),
    "of an answer that an older release has cached": lambda tag: re.sub('-10"$', '"', tag),
    "of such a one, compressed": lambda tag: re.sub('-10"$', '-gzip"', tag),
    "one of a list": lambda tag: f' , "a,b",W/"c" ,\t{tag}, ""',
    "whatever there is": lambda tag: " * ",
}
OTHERS = {
    "bogus": lambda tag: '"bogus"',
    "empty": lambda tag: '""',
    "weak": lambda tag: f"W/{tag}",
    "with another stock": lambda tag: re.sub('-10"$', '-11"', tag),
    "with another hash": lambda tag: f'"{"0" * 32}-10"',
    "with another coding": lambda tag: with_suffix(tag, "-br"),
    "twice compressed": lambda tag: with_suffix(tag, "-gzip-gzip"),
    "several": lambda tag: f'"*", W/{tag}, "x", "\xff"',
}


@pytest.mark.parametrize("method", TAKING)
@pytest.mark.parametrize("name", OURS)
def test_a_tag_of_the_product_as_it_is_lets_the_write_through(make, admin, read, method, name):
    assert read["ETag"].endswith('-10"')
    assert send(admin, method, OURS[name](read["ETag"])).status in (200, 204)
    assert row(make) == (("Cat tree", "20.00", 10, 2, True) if method == "PATCH" else ("Cat tree", "12.50", 10, 2, False))


@pytest.mark.parametrize("method", TAKING)
@pytest.mark.parametrize("name", OTHERS)
def test_no_other_tag_does_and_nothing_is_changed(make, anyone, admin, read, method, name):
    before = row(make)
    answer = send(admin, method, OTHERS[name](read["ETag"]))
    assert refusal(answer) == (1, False)
    stale = name in ("with another stock", "with another hash")  # the others were never a product's, so none has changed
    assert ("has changed" if stale else "never matches") in answer.json()["detail"]
    assert row(make) == before
    assert anyone.get("/products?id=1")["X-Cache"] == "HIT"  # a refusal costs no entry of the cache


@pytest.mark.parametrize("method", TAKING)
@pytest.mark.parametrize(
    "tags", ["", " ", ",", "abc", '"abc', 'abc"', '"a" "b"', '"a""b"', 'w/"a"', 'W/ "a"', '*, "a"', '"a", *', '"a b"']
)
def test_what_is_no_list_of_tags_is_refused_as_such(make, admin, read, method, tags):
    before = row(make)
    answer = send(admin, method, tags)
    assert (answer.status, answer.json()["type"]) == (400, "/problems/bad-request")
    assert 'such as "3f2a"' in answer.json()["detail"]
    assert row(make) == before


def test_a_header_full_of_blanks_and_commas_is_read_at_once(admin, read):
    assert send(admin, "PATCH", ", " * 1500 + "x").status == 400


@pytest.mark.parametrize("method", TAKING)
def test_a_product_that_is_not_there_is_not_found_whatever_the_tag(make, admin, read, method):
    make.conn.execute("UPDATE products SET deleted_at = now()")
    for tags in ("*", read["ETag"], '"bogus"'):
        assert send(admin, method, tags).status == 404


def test_the_tag_comes_before_the_other_guards_and_after_the_role(admin, anyone, buyer, read):
    assert send(admin, "PATCH", '"bogus"', body={"stock": 1, "version": 9, "expected_stock": 9}).status == 412
    assert send(admin, "PATCH", read["ETag"], body={"stock": 1, "version": 9}).json()["type"] == "/problems/edit-conflict"
    assert send(admin, "PATCH", read["ETag"], body={"stock": 1, "expected_stock": 9}).json()["type"] == "/problems/stock-changed"
    assert (send(anyone, "PATCH", "bogus").status, send(buyer, "PATCH", "bogus").status) == (401, 403)


# ── what has changed since ───────────────────────────────────────────────────────────────────────────────────────────────

RAISE, SELL = "UPDATE products SET price = 13", "UPDATE products SET stock = stock - 1"
EDITED = "UPDATE products SET version = version + 1"


@pytest.mark.parametrize("coding", ["", "-gzip"])
@pytest.mark.parametrize(
    ("changes", "only_stock"),
    [
        ([SELL], True),
        ([SELL, SELL, SELL], True),
        ([RAISE], False),
        ([SELL, RAISE], False),
        ([EDITED], False),
        ([EDITED, SELL], False),
    ],
)
def test_the_refusal_tells_whether_anything_but_the_stock_has_changed(make, admin, read, changes, only_stock, coding):
    for change in changes:
        make.conn.execute(change)
    version = make.scalar("SELECT version FROM products")
    tags = f'"bogus", {with_suffix(read["ETag"], coding)}'
    assert refusal(send(admin, "PATCH", tags)) == (version, only_stock)
    assert refusal(send(admin, "DELETE", tags)) == (version, only_stock)


def test_under_purchases_the_version_is_good_at_once_and_a_tag_after_reading_again(make, anyone, admin, buyer, clients, ana):
    make.product(stock=1_000_000)
    sold, stop = threading.Semaphore(0), threading.Event()
    customer = clients(ana)

    def buy():
        while not stop.is_set():
            assert customer.post("/purchase_product", BUY).status == 201
            sold.release()

    thread = threading.Thread(target=buy)
    thread.start()
    try:
        first = anyone.get("/products?id=1")
        sold.acquire()
        sold.acquire()  # so one has begun after the read
        answer = send(admin, "PATCH", first["ETag"])
        assert refusal(answer) == (1, True)
        assert send(admin, "PATCH", '"bogus"').status == 412
        for _ in range(500):
            if (answer := send(admin, "PATCH", anyone.get("/products?id=1")["ETag"])).status == 200:
                break
            assert refusal(answer) == (1, True)
        assert (answer.status, answer.json()["version"]) == (200, 2)
        sold.acquire()
        assert refusal(send(admin, "PATCH", first["ETag"], body={"price": "1.00"})) == (2, False)
        again = admin.patch("/modify_product?id=1", {"price": "30.00", "version": 2})
        assert (again.status, again.json()["version"]) == (200, 3)
    finally:
        stop.set()
        thread.join()
    assert row(make)[1] == "30.00"
    assert make.scalar("SELECT stock + (SELECT count(*) FROM invoices) FROM products") == 1_000_000


# ── the ETag of an answer to a write ─────────────────────────────────────────────────────────────────────────────────────


def test_an_edit_can_follow_an_edit_without_a_read(make, anyone, admin):
    made = admin.post("/create_product", {"name": "Tree", "price": "1.00", "stock": 5})
    assert made["ETag"] == anyone.get("/products?id=1")["ETag"] == product_tag(made.body)
    first = send(admin, "PATCH", made["ETag"], body={"stock_delta": 2})
    assert first["ETag"] == anyone.get("/products?id=1")["ETag"] != made["ETag"]
    assert refusal(send(admin, "PATCH", made["ETag"])) == (2, False)
    assert send(admin, "PATCH", first["ETag"]).status == 200
    assert row(make) == ("Tree", "20.00", 7, 3, True)


def test_the_tag_of_an_answer_in_gzip_is_as_good_of_a_read_as_of_a_write(make, anyone, admin, monkeypatch):
    for module in (compression, response_cache):  # no product is so large today
        monkeypatch.setattr(module, "LEAST_BYTES", 100)
    make.product()
    gzip = {"Accept-Encoding": "gzip"}
    tags = [anyone.request(method, "/products?id=1", headers=gzip)["ETag"] for method in ("GET", "GET", "GET", "HEAD")]
    assert set(tags) == {with_suffix(anyone.get("/products?id=1")["ETag"], "-gzip")}
    for price, stock in (("1.00", 9), ("2.00", 8)):  # the second edit has its tag from the answer to the first
        answer = send(admin, "PATCH", tags.pop(), body={"price": price, "stock": stock}, headers=gzip)
        assert (answer.status, answer["Content-Encoding"]) == (200, "gzip")
        tags.append(answer["ETag"])
        assert answer["ETag"].endswith(f'-{stock}-gzip"')
    make.conn.execute(SELL)
    assert refusal(send(admin, "PATCH", tags.pop())) == (3, True)


# ── with an Idempotency-Key ──────────────────────────────────────────────────────────────────────────────────────────────

KEY = {"Idempotency-Key": "k"}


def test_the_key_wins_a_replay_is_the_first_answer_though_the_tag_is_stale(make, admin, read):
    first = send(admin, "PATCH", read["ETag"], headers=KEY)
    for tags in (read["ETag"], '"another"', first["ETag"]):  # If-Match is no part of what the key stands for
        again = send(admin, "PATCH", tags, headers=KEY)
        assert (again.status, again.body, again["ETag"]) == (200, first.body, first["ETag"])
        assert again["Idempotent-Replayed"] == "true"
    assert row(make)[3] == 2


def test_a_refusal_for_the_tag_is_not_stored_and_the_key_is_good_for_the_next_try(make, anyone, admin, read):
    make.conn.execute(SELL)
    for _ in range(2):
        assert refusal(send(admin, "PATCH", read["ETag"], headers=KEY)) == (1, True)
    assert make.scalar("SELECT count(*) FROM idempotency_keys") == 0
    make.conn.execute("UPDATE products SET stock = 10")
    answer = send(admin, "PATCH", read["ETag"], headers=KEY)
    assert (answer.status, answer["Idempotent-Replayed"]) == (200, None)
    assert row(make) == ("Cat tree", "20.00", 10, 2, True)


# ── elsewhere ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_routes_that_take_it_are_those_of_the_contract():
    taking = {f"{route.method} {route.rule}" for route in ROUTES if route.config.get("if_match")}
    assert taking == {"PATCH /modify_product", "DELETE /delete_product"}


OTHER_ROUTES = [(route.method, route.rule) for route in ROUTES if not route.config.get("if_match")]


@pytest.mark.parametrize(("method", "rule"), OTHER_ROUTES)
def test_every_other_route_refuses_it_and_names_those_that_take_it(make, admin, method, rule):
    for tags in ('"x"', "*", "", "x"):
        answer = admin.request(method, re.sub("<.*?>", "1", rule), headers={"If-Match": tags})
        detail = "Header If-Match is for PATCH /modify_product and DELETE /delete_product only."
        assert (answer.status, answer.json()["detail"]) == (400, detail)


@pytest.mark.parametrize("path", ["/products", "/products?id=1", "/invoices"])
def test_a_read_that_is_in_memory_refuses_it_too(make, buyer, read, path):
    for _ in range(3):
        assert buyer.get(path).status == 200
    assert buyer.get(path)["X-Cache"] == "HIT"
    assert [buyer.request(method, path, headers={"If-Match": "*"}).status for method in ("GET", "HEAD")] == [400, 400]
    assert buyer.get(path, headers={"If-Unmodified-Since": "Sat, 31 Jan 2026 12:00:00 GMT"})["X-Cache"] == "HIT"
