import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest


def line(product_id, quantity=1, **more):
    return {"product_id": product_id, "quantity": quantity, **more}


def buy(client, *lines):
    return client.post("/purchase_product", {"products": list(lines)})


def test_a_purchase_is_an_invoice_and_takes_the_pieces_out_of_stock(make, ana, buyer):
    tree, bowl, other = make.product("Tree", "89.90", 5), make.product("Bowl", "0.05", 100), make.product(stock=7)
    answer = buy(buyer, line(bowl, 3), line(tree, 2))
    invoice = answer.json()
    assert (answer.status, answer["Location"]) == (201, f"/invoices/{invoice['id']}")
    assert invoice.pop("created_at").endswith("Z")
    untouched = {"credited": 0, "restocked": 0}
    assert invoice == {
        "id": 1,
        "number": None,
        "user_id": ana.id,
        "status": "pending",
        "total": "179.95",
        "currency": "USD",
        "details": [
            {"product_id": tree, "name": "Tree", "unit_price": "89.90", "quantity": 2, "line_total": "179.80", **untouched},
            {"product_id": bowl, "name": "Bowl", "unit_price": "0.05", "quantity": 3, "line_total": "0.15", **untouched},
        ],
        "events": [],
        "credit_notes": [],
    }
    assert [make.stock(product_id) for product_id in (tree, bowl, other)] == [3, 97, 7]
    assert make.rows("SELECT user_id, total, status FROM invoices") == [(ana.id, Decimal("179.95"), "pending")]
    assert make.scalar("SELECT count(*) FROM invoice_details") == 2


def test_lines_of_one_product_are_summed(make, buyer):
    product_id = make.product(stock=10, price="1.10")
    invoice = buy(buyer, line(product_id, 3), line(product_id, 4)).json()
    assert [(detail["quantity"], detail["line_total"]) for detail in invoice["details"]] == [(7, "7.70")]
    assert make.stock(product_id) == 3


def test_the_last_piece_can_be_bought_and_no_more(make, buyer):
    product_id = make.product(stock=2)
    assert buy(buyer, line(product_id, 2)).status == 201
    answer = buy(buyer, line(product_id, 1))
    assert answer.status == 409
    assert answer.json()["errors"][0]["available"] == 0


def test_too_little_stock_names_every_short_line_and_takes_nothing(make, buyer):
    plenty, short, none = make.product(stock=10), make.product(stock=3), make.product(stock=0)
    answer = buy(buyer, line(short, 2), line(plenty, 1), line(none, 1), line(short, 2))
    assert (answer.status, answer.json()["type"]) == (409, "/problems/not-enough-stock")
    assert [
        (fault["pointer"], fault["product_id"], fault["requested"], fault["available"]) for fault in answer.json()["errors"]
    ] == [
        ("/products/0/quantity", short, 4, 3),
        ("/products/2/quantity", none, 1, 0),
        ("/products/3/quantity", short, 4, 3),
    ]
    assert [make.stock(product_id) for product_id in (plenty, short, none)] == [10, 3, 0]
    assert make.scalar("SELECT count(*) FROM invoices") == 0


def test_an_unknown_or_deleted_product_is_invalid_and_nothing_is_bought(make, buyer):
    known, gone = make.product(), make.product(deleted=True)
    answer = buy(buyer, line(known), line(gone), line(999), line(2**63 - 1))
    assert answer.status == 422
    assert answer.pointers() == [f"/products/{number}/product_id" for number in (1, 2, 3)]
    assert make.stock(known) == 10
    assert make.scalar("SELECT count(*) FROM invoices") == 0


@pytest.mark.parametrize(
    ("products", "pointer"),
    [
        ([], "/products"),
        ({}, "/products"),
        (None, "/products"),
        ("1", "/products"),
        ([line(1)] * 101, "/products"),
        ([line(1)] * 5000, "/products"),
        ([[1, 1]], "/products/0"),
        ([{"product_id": 1}], "/products/0/quantity"),
        ([{"quantity": 1}], "/products/0/product_id"),
        *[([line(1, quantity)], "/products/0/quantity") for quantity in (0, -1, 10001, 10**40, 1.5, "1", True, None)],
        *[([line(product_id)], "/products/0/product_id") for product_id in (0, -1, 2**63, 10**30, 1.5, "1", True, None)],
        ([line(1, price="0.01")], "/products/0/price"),
        ([line(1, unit_price="0.01")], "/products/0/unit_price"),
    ],
)
def test_a_purchase_out_of_bounds_is_refused_with_the_place(make, buyer, products, pointer):
    product_id = make.product()
    answer = buyer.post("/purchase_product", {"products": products})
    assert answer.status == 422
    assert pointer in answer.pointers()
    assert make.stock(product_id) == 10


def test_a_list_that_is_too_long_is_not_walked_through(buyer):
    answer = buyer.post("/purchase_product", {"products": [{}] * 20_000})
    assert (answer.status, answer.pointers()) == (422, ["/products"])


@pytest.mark.parametrize("member", ["user_id", "total", "status", "id"])
def test_a_buyer_cannot_say_who_pays_or_what(make, ana, buyer, member):
    answer = buyer.post("/purchase_product", {"products": [line(make.product())], member: 1})
    assert (answer.status, answer.pointers()) == (422, [f"/{member}"])


def test_a_hundred_lines_of_ten_thousand_pieces_at_the_highest_price_are_exact(make, buyer):
    product_id = make.product(price="999999999", stock=1_000_000_000)
    invoice = buy(buyer, *[line(product_id, 10_000)] * 100).json()
    assert invoice["total"] == "999999999000000.00"
    assert invoice["details"][0]["quantity"] == 1_000_000


def test_a_hundred_different_products_can_be_bought_at_once(make, buyer):
    ids = [make.product(price="0.01") for _ in range(100)]
    random.shuffle(ids)
    invoice = buy(buyer, *[line(product_id) for product_id in ids]).json()
    assert [detail["product_id"] for detail in invoice["details"]] == sorted(ids)
    assert invoice["total"] == "1.00"


def test_name_and_price_stay_as_they_were_at_the_purchase(make, ana, buyer, admin):
    product_id = make.product("Tree", "10.00")
    invoice = buy(buyer, line(product_id)).json()
    admin.patch(f"/modify_product?id={product_id}", {"name": "Bush", "price": "99.00"})
    assert buyer.get(f"/invoices/{invoice['id']}").json() == invoice
    admin.delete(f"/delete_product?id={product_id}")
    assert buyer.get(f"/invoices/{invoice['id']}").json() == invoice


def test_a_purchase_does_not_raise_the_version(make, buyer):
    product_id = make.product()
    before = buyer.get(f"/products?id={product_id}").json()
    buy(buyer, line(product_id, 4))
    assert buyer.get(f"/products?id={product_id}").json() == before | {"stock": 6}


def test_the_cache_goes_miss_hit_miss_around_a_purchase(make, buyer, anyone):
    product_id = make.product()
    for reader, path in ((anyone, "/products"), (anyone, f"/products?id={product_id}"), (buyer, "/invoices")):
        reads = [reader.get(path)["X-Cache"], reader.get(path)["X-Cache"]]
        assert buy(buyer, line(product_id)).status == 201
        assert [*reads, reader.get(path)["X-Cache"]] == ["MISS", "HIT", "MISS"]


def test_a_purchase_leaves_the_invoice_lists_of_others_cached(make, buyer, clients):
    bob = clients(make.user())
    bob.get("/invoices")
    buy(buyer, line(make.product()))
    assert bob.get("/invoices")["X-Cache"] == "HIT"


def test_a_hundred_buyers_of_fifty_pieces_buy_exactly_fifty(make, clients):
    """In mixed order, with repeated lines: no overselling, no dead-lock, no 5xx."""
    first, second = make.product(stock=50), make.product(stock=1000)
    users = [make.user() for _ in range(100)]

    def purchase(user):
        lines = [line(first), line(second), line(second)]
        random.shuffle(lines)
        return buy(clients(user), *lines)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(purchase, users))
    assert sorted(answer.status for answer in answers) == [201] * 50 + [409] * 50
    assert {answer.json()["type"] for answer in answers if answer.status == 409} == {"/problems/not-enough-stock"}
    assert (make.stock(first), make.stock(second)) == (0, 900)
    assert make.rows("SELECT product_id, sum(quantity)::int FROM invoice_details GROUP BY 1 ORDER BY 1") == [
        (first, 50),
        (second, 100),
    ]
    assert make.scalar("SELECT count(DISTINCT user_id) FROM invoices") == 50


def test_buyers_of_crossed_products_do_not_lock_each_other_out(make, clients):
    ids = [make.product(stock=100_000) for _ in range(6)]
    users = [make.user() for _ in range(16)]

    def purchases(user):
        client = clients(user)
        return [buy(client, *[line(n, random.randint(1, 3)) for n in random.sample(ids, 4)]).status for _ in range(15)]

    with ThreadPoolExecutor(16) as pool:
        assert {status for statuses in pool.map(purchases, users) for status in statuses} == {201}
    sold = make.scalar("SELECT sum(quantity)::int FROM invoice_details")
    assert sum(make.stock(product_id) for product_id in ids) == 600_000 - sold
    assert make.scalar(
        "SELECT bool_and(total = (SELECT sum(line_total) FROM invoice_details WHERE invoice_id = invoices.id)) FROM invoices"
    )


# ── the price that the buyer knows ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("price", ["12.50", "12.5", "012.5000", 12.5])
def test_a_purchase_at_the_price_that_the_buyer_knows_is_made(make, buyer, price):
    product_id, other = make.product(price="12.50"), make.product(price="1.00")
    assert buy(buyer, line(product_id, expected_price=price), line(other)).json()["total"] == "13.50"
    assert buy(buyer, line(product_id, expected_price=price), line(product_id, expected_price="12.50")).status == 201


def test_another_price_now_names_every_such_line_and_nothing_is_bought(make, buyer, admin):
    right, dear, cheap = make.product(price="5.00"), make.product(price="5.00"), make.product(price="0.00")
    admin.patch(f"/modify_product?id={dear}", {"price": "6.50"})
    answer = buy(
        buyer,
        line(right, expected_price="5.00"),
        line(dear, expected_price=5),
        line(cheap),
        line(dear, expected_price="6.50"),
        line(cheap, expected_price=0.01),
        line(dear, expected_price="999999999"),
    )
    assert (answer.status, answer.json()["type"]) == (409, "/problems/price-changed")
    members = ("pointer", "product_id", "expected_price", "price")
    assert [tuple(fault[name] for name in members) for fault in answer.json()["errors"]] == [
        ("/products/1/expected_price", dear, "5.00", "6.50"),
        ("/products/4/expected_price", cheap, "0.01", "0.00"),
        ("/products/5/expected_price", dear, "999999999.00", "6.50"),
    ]
    assert [make.stock(product_id) for product_id in (right, dear, cheap)] == [10, 10, 10]
    assert make.scalar("SELECT count(*) FROM invoices") == 0


@pytest.mark.parametrize("price", ["12.501", 0.001, "-1", -0.01, "1e1", "1000000000", 999999999.01, "NaN", "", None, True, []])
def test_an_expected_price_that_is_none_is_refused_with_the_place(make, buyer, price):
    product_id, other = make.product(price="12.50"), make.product()
    answer = buy(buyer, line(other), line(product_id, expected_price=price))
    assert (answer.status, answer.pointers()) == (422, ["/products/1/expected_price"])
    assert [make.stock(one) for one in (product_id, other)] == [10, 10]


def test_unknown_products_come_before_other_prices_and_those_before_too_little_stock(make, buyer):
    product_id = make.product(price="1.00", stock=3)
    short, dear, unknown = line(product_id, 4), line(product_id, expected_price="0.99"), line(999)
    assert buy(buyer, short, dear, unknown).json()["type"] == "/problems/invalid"
    assert buy(buyer, short, dear).json()["type"] == "/problems/price-changed"
    assert buy(buyer, short).json()["type"] == "/problems/not-enough-stock"
    assert make.stock(product_id) == 3
