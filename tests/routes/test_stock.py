"""Stock: changes by pieces, edits that depend on what was seen, and the ledger that has them all."""

import random
from functools import partial

import pytest

from petstore.repository.reports import run_report
from tests.waiting import at_once


def modify(client, product_id, **changes):
    return client.patch(f"/modify_product?id={product_id}", changes)


def movements(client, product_id, query=""):
    return client.get(f"/admin/products/movements?id={product_id}{query}")


def row(make, product_id):
    return make.rows("SELECT name, stock, version, deleted_at IS NULL FROM products WHERE id = %s", product_id)[0]


def ledger(make, product_id):
    return make.rows("SELECT kind, delta, stock FROM stock_movements WHERE product_id = %s ORDER BY id", product_id)


@pytest.fixture
def pair(make):
    """Two products of ten pieces."""
    return make.product("One"), make.product("Other")


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("delta", "stock"), [(5, 15), (-3, 7), (-10, 0), (999_999_990, 1_000_000_000)])
def test_stock_changes_by_pieces_and_the_ledger_has_it(make, pair, admin, delta, stock):
    answer = modify(admin, pair[0], stock_delta=delta)
    assert (answer.status, answer.json()["stock"], answer.json()["version"]) == (200, stock, 2)
    assert row(make, pair[0]) == ("One", stock, 2, True)
    assert row(make, pair[1]) == ("Other", 10, 1, True)
    assert ledger(make, pair[0])[1:] == [("adjust", delta, stock)]
    assert ledger(make, pair[1]) == [("initial", 10, 10)]


@pytest.mark.parametrize(
    ("stock", "changes", "slug", "members"),
    [
        (10, {"stock_delta": -11}, "not-enough-stock", {}),
        (10, {"stock_delta": -1_000_000_000}, "not-enough-stock", {}),
        (10, {"stock_delta": 999_999_991}, "stock-limit", {"product_ids": [3]}),
        (10, {"stock": 5, "expected_stock": 9}, "stock-changed", {"current_stock": 10}),
        (10, {"stock": 5, "expected_stock": 0}, "stock-changed", {"current_stock": 10}),
        (0, {"stock_delta": -1, "expected_stock": 1}, "stock-changed", {"current_stock": 0}),
        (10, {"stock_delta": 1, "expected_stock": 11}, "stock-changed", {"current_stock": 10}),
        (10, {"stock": 5, "version": 2}, "edit-conflict", {"current_version": 1}),
        (10, {"name": "New", "version": 2_147_483_647}, "edit-conflict", {"current_version": 1}),
        (10, {"stock": 5, "expected_stock": 9, "version": 2}, "edit-conflict", {"current_version": 1}),
        (10, {"stock": 5, "expected_stock": 10, "version": 2}, "edit-conflict", {"current_version": 1}),
        (10, {"stock": 5, "expected_stock": 9, "version": 1}, "stock-changed", {"current_stock": 10}),
        (10, {"name": "New", "stock_delta": -11, "version": 1}, "not-enough-stock", {}),
    ],
)
def test_a_change_that_does_not_fit_is_a_conflict_and_changes_nothing(make, pair, admin, stock, changes, slug, members):
    product_id = make.product("New", stock=stock)
    answer = modify(admin, product_id, **changes)
    problem = answer.json()
    assert (answer.status, problem["type"]) == (409, f"/problems/{slug}")
    assert {name: problem[name] for name in ("product_ids", "current_stock", "current_version") if name in problem} == members
    if slug == "not-enough-stock":
        (fault,) = problem["errors"]
        assert (fault["pointer"], fault["product_id"]) == ("/stock_delta", product_id)
        assert (fault["requested"], fault["available"]) == (-changes["stock_delta"], stock)
    assert row(make, product_id) == ("New", stock, 1, True)
    assert ledger(make, product_id) == [("initial", stock, stock)]


@pytest.mark.parametrize(
    "changes",
    [
        {"stock": 5, "expected_stock": 10},
        {"stock_delta": -5, "expected_stock": 10},
        {"stock": 5, "version": 1},
        {"stock_delta": -5, "version": 1, "expected_stock": 10, "reason": "counted", "name": "One", "price": "1.00"},
    ],
)
def test_a_change_that_fits_what_was_seen_is_made(make, pair, admin, changes):
    assert modify(admin, pair[0], **changes).status == 200
    assert row(make, pair[0]) == ("One", 5, 2, True)
    assert row(make, pair[1]) == ("Other", 10, 1, True)
    again = modify(admin, pair[0], **changes)
    assert again.status == 409
    assert row(make, pair[0]) == ("One", 5, 2, True)


def test_a_purchase_is_an_edit_of_stock_but_not_of_the_version(make, pair, admin, buyer):
    buyer.post("/purchase_product", {"products": [{"product_id": pair[0], "quantity": 1}]})
    answer = modify(admin, pair[0], stock_delta=1, expected_stock=10, version=1)
    assert (answer.status, answer.json()["current_stock"]) == (409, 9)
    assert modify(admin, pair[0], stock_delta=1, expected_stock=9, version=1).status == 200


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"stock": 5, "stock_delta": 5}, "/stock_delta"),
        ({"expected_stock": 10}, "/expected_stock"),
        ({"name": "New", "expected_stock": 10, "version": 1}, "/expected_stock"),
        ({"name": "New", "expected_stock": 10}, "/expected_stock"),
        ({"reason": "Why"}, "/reason"),
        ({"price": "1.00", "reason": "Why"}, "/reason"),
        ({"version": 1}, "/version"),
        *[({"stock_delta": delta}, "/stock_delta") for delta in (-1_000_000_001, 1_000_000_001, 1.5, "1", None, True)],
        *[({"stock": 1, "expected_stock": stock}, "/expected_stock") for stock in (-1, 1_000_000_001, 1.5, "1", None)],
        *[({"stock": 1, "reason": reason}, "/reason") for reason in ("", "x" * 501, 7, None, "a\x00")],
    ],
)
def test_members_that_do_not_go_together_are_refused_with_the_place(make, pair, admin, changes, pointer):
    answer = modify(admin, pair[0], **changes)
    assert (answer.status, answer.pointers()) == (422, [pointer])
    assert row(make, pair[0]) == ("One", 10, 1, True)
    assert ledger(make, pair[0]) == [("initial", 10, 10)]


def test_a_product_is_deleted_only_as_the_version_that_was_seen(make, pair, admin):
    modify(admin, pair[0], name="New")
    answer = admin.delete(f"/delete_product?id={pair[0]}&version=1")
    assert (answer.status, answer.json()["type"], answer.json()["current_version"]) == (409, "/problems/edit-conflict", 2)
    for version in ("0", "-1", "x", "", "1.0", "2&version=2"):
        assert admin.delete(f"/delete_product?id={pair[0]}&version={version}").status == 400
    assert row(make, pair[0]) == ("New", 10, 2, True)
    assert admin.delete(f"/delete_product?id={pair[0]}&version=2").status == 204
    assert [row(make, product_id)[3] for product_id in pair] == [False, True]
    for version in (2, 3):
        assert admin.delete(f"/delete_product?id={pair[0]}&version={version}").status == 404


# ── at the same time ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_many_who_change_by_pieces_are_all_counted(make, pair, boss, clients):
    team = [clients(boss) for _ in range(8)]

    def work(client):
        return [modify(client, pair[0], stock_delta=delta) for delta in (5, -2, 1, -3, 4)]

    answers = [answer for some in at_once(*(partial(work, client) for client in team)) for answer in some]
    assert {answer.status for answer in answers} == {200}
    assert row(make, pair[0]) == ("One", 10 + 8 * 5, 41, True)
    assert {answer.json()["version"] for answer in answers} == set(range(2, 42))
    steps = ledger(make, pair[0])
    assert [stock for _, _, stock in steps] == [sum(delta for _, delta, _ in steps[: n + 1]) for n in range(41)]


@pytest.mark.parametrize("seen", [{"expected_stock": 10}, {"version": 1}])
def test_of_many_who_saw_the_same_one_may_edit(make, pair, boss, clients, seen):
    team = [clients(boss) for _ in range(8)]
    answers = at_once(*(partial(modify, client, pair[0], stock=20 + n, **seen) for n, client in enumerate(team)))
    (winner,) = [answer for answer in answers if answer.status == 200]
    assert {answer.status for answer in answers if answer is not winner} == {409}
    assert row(make, pair[0]) == ("One", winner.json()["stock"], 2, True)
    assert len(ledger(make, pair[0])) == 2


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_ledger_tells_what_changed_stock_and_who_and_why(make, ana, boss, admin, buyer):
    product = admin.post("/create_product", {"name": "Tree", "price": "1.00", "stock": 10}).json()["id"]
    other = make.product()
    for _ in range(2):
        buyer.post("/purchase_product", {"products": [{"product_id": one, "quantity": 3} for one in (product, other)]})
    modify(admin, product, stock_delta=-1, reason="Lost 🐈")
    modify(admin, product, name="Oak")  # moves nothing
    modify(admin, product, stock=20)
    buyer.post("/invoices/1/cancel", {"reason": "Changed her mind"})
    admin.patch("/admin/invoices/2", {"status": "paid"})
    line = {"product_id": product, "quantity": 1}
    admin.post("/admin/invoices/2/credit_notes", {"lines": [line], "reason": "Torn"})
    admin.patch("/admin/invoices/2", {"status": "refunded"})
    make.conn.execute("UPDATE products SET stock = stock + 1")
    admin.delete(f"/delete_product?id={product}")
    page = movements(admin, product)
    assert (page.status, page["Cache-Control"], page.json()["next"]) == (200, "private, no-cache", None)
    members = ("kind", "delta", "stock", "invoice_id", "actor_id", "reason")
    assert [tuple(item[name] for name in members) for item in reversed(page.json()["items"])] == [
        ("initial", 10, 10, None, boss.id, None),
        ("sale", -3, 7, 1, ana.id, None),
        ("sale", -3, 4, 2, ana.id, None),
        ("adjust", -1, 3, None, boss.id, "Lost 🐈"),
        ("adjust", 17, 20, None, boss.id, None),
        ("cancel_restock", 3, 23, 1, ana.id, None),  # why, the invoice tells
        ("return_restock", 1, 24, 2, boss.id, None),
        ("return_restock", 2, 26, 2, boss.id, None),
        ("adjust", 1, 27, None, None, f"in SQL, as {make.scalar('SELECT session_user')}"),
    ]
    assert set(page.json()["items"][0]) == {"id", "product_id", *members, "created_at"}
    assert {item["product_id"] for item in page.json()["items"]} == {product}
    assert all(item["created_at"].endswith("Z") for item in page.json()["items"])


def test_pages_of_the_ledger_join_while_it_grows_and_belong_to_one_product(make, pair, admin):
    for number in range(1, 6):
        modify(admin, pair[0], stock=number)
        modify(admin, pair[1], stock=number)
    page = movements(admin, pair[0], "&limit=2").json()
    cursor, seen = page["next"], page["items"]
    modify(admin, pair[0], stock=99)
    while page["next"]:
        page = movements(admin, pair[0], f"&limit=2&after={page['next']}").json()
        seen += page["items"]
    assert [item["stock"] for item in seen] == [5, 4, 3, 2, 1, 10]
    assert {item["product_id"] for item in seen} == {pair[0]}
    of_products = admin.get("/products?limit=1").json()["next"]
    for product_id, after in ((pair[1], cursor), (pair[0], of_products), (pair[0], "x"), (pair[0], "")):
        assert movements(admin, product_id, f"&after={after}").status == 400
    assert admin.get(f"/products?after={cursor}").status == 400


def test_the_ledger_is_for_admins_and_products_that_there_were(make, pair, admin, buyer, anyone):
    gone = make.product(stock=0, deleted=True)
    assert [movements(client, pair[0]).status for client in (admin, buyer, anyone)] == [200, 403, 401]
    assert [item["stock"] for item in movements(admin, gone).json()["items"]] == [0]
    assert movements(admin, 999).status == 404
    for query in ("", "?id=0", "?id=x", "?limit=1", f"?id={pair[0]}&limit=101", f"?id={pair[0]}&kind=sale"):
        assert admin.get(f"/admin/products/movements{query}").status == 400


def test_after_a_busy_hour_every_stock_is_the_sum_of_its_movements(make, boss, clients):
    ids = [make.product(price="1.00", stock=50) for _ in range(4)]
    teams = [(clients(make.user()), clients(boss)) for _ in range(8)]

    def work(buyer, admin):
        statuses = set()
        for turn in range(8):
            lines = [{"product_id": product_id, "quantity": random.randint(1, 8)} for product_id in random.sample(ids, 3)]
            bought = buyer.post("/purchase_product", {"products": lines})
            acts = [
                partial(modify, admin, random.choice(ids), stock_delta=random.randint(-9, 15)),
                partial(modify, admin, random.choice(ids), stock=random.randint(0, 60)),
            ]
            if bought.status == 201:
                path = f"/admin{bought['Location']}"
                some = {"lines": [lines[0] | {"restock": random.random() < 0.7, "quantity": random.randint(1, 8)}]}
                acts += [
                    partial(buyer.post, f"{bought['Location']}/cancel", {}),
                    *[partial(admin.patch, path, {"status": status}) for status in ("paid", "refunded", "cancelled")],
                    *[partial(admin.post, f"{path}/credit_notes", some)] * 2,
                ]
            if turn == 6:
                acts.append(partial(admin.delete, f"/delete_product?id={ids[3]}"))
            statuses |= {bought.status} | {act().status for act in random.sample(acts, len(acts))}
        return statuses

    found = set().union(*at_once(*(partial(work, *team) for team in teams)))
    assert {200, 201, 204, 404, 409} <= found <= {200, 201, 204, 404, 409, 422}
    assert run_report(make.conn, "ledger_proof") == []
    kinds = make.rows("SELECT DISTINCT kind FROM stock_movements ORDER BY kind")
    assert kinds == [("adjust",), ("cancel_restock",), ("initial",), ("return_restock",), ("sale",)]
    moved = "SELECT sum(delta) FROM stock_movements AS m WHERE (m.invoice_id, m.product_id) = (d.invoice_id, d.product_id)"
    assert make.rows(f"SELECT * FROM invoice_details AS d WHERE restocked - quantity <> ({moved})") == []
