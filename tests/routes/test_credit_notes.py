"""Credit notes: what comes back of an invoice, never more than was bought, under numbers without gaps."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial

import pytest

from tests.waiting import at_once


def line(product_id, quantity=1, **more):
    return {"product_id": product_id, "quantity": quantity, **more}


def credit(client, invoice_id, *lines, **more):
    return client.post(f"/admin/invoices/{invoice_id}/credit_notes", {"lines": list(lines), **more})


def number(count):
    return f"C{datetime.now(timezone.utc).year}-{count:06}"


def books(make):
    """All that a credit note writes."""
    tables = ("credit_notes", "credit_note_lines", "number_series", "stock_movements", "invoice_details", "invoices", "products")
    return [make.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]


def counts(make, invoice_id):
    """Pieces credited and restocked, by line."""
    return make.rows("SELECT credited, restocked FROM invoice_details WHERE invoice_id = %s ORDER BY product_id", invoice_id)


@pytest.fixture
def goods(make):
    """A cat tree and a bowl, ten pieces of each."""
    return make.product("Cat tree", "12.50"), make.product("Bowl 🐈", "0.05")


@pytest.fixture
def paid(make, ana, goods):
    """Two paid invoices with three cat trees and two bowls."""
    return [make.invoice(ana.id, dict(zip(goods, (3, 2), strict=True)), status="paid") for _ in range(2)]


def test_a_credit_note_says_what_comes_back_at_the_price_of_the_invoice(make, goods, paid, boss, admin):
    (tree, bowl), (invoice_id, other) = goods, paid
    make.conn.execute("UPDATE products SET name = 'New', price = 99")
    answer = credit(admin, invoice_id, line(bowl, 2, restock=False), line(tree, 2), reason="Torn 🐈")
    note = answer.json()
    assert (answer.status, answer["Location"], answer["Cache-Control"]) == (201, None, "no-store")
    assert answer.body == json.dumps(note, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    assert note.pop("created_at").endswith("Z")
    assert note == {
        "id": 1,
        "number": number(1),
        "invoice_id": invoice_id,
        "total": "25.10",
        "currency": "USD",
        "actor_id": boss.id,
        "reason": "Torn 🐈",
        "lines": [
            {
                "product_id": tree,
                "name": "Cat tree",
                "unit_price": "12.50",
                "quantity": 2,
                "line_total": "25.00",
                "restock": True,
            },
            {"product_id": bowl, "name": "Bowl 🐈", "unit_price": "0.05", "quantity": 2, "line_total": "0.10", "restock": False},
        ],
    }
    assert make.rows("SELECT invoice_id, number, actor_id, reason FROM credit_notes") == [
        (invoice_id, number(1), boss.id, "Torn 🐈")
    ]
    assert make.rows("SELECT * FROM credit_note_lines ORDER BY product_id") == [
        (1, invoice_id, tree, 2, True),
        (1, invoice_id, bowl, 2, False),
    ]
    assert (make.stock(tree), make.stock(bowl)) == (12, 10)
    assert (counts(make, invoice_id), counts(make, other)) == ([(2, 2), (2, 0)], [(0, 0), (0, 0)])
    assert make.rows(
        "SELECT product_id, delta, stock, invoice_id, actor_id, reason FROM stock_movements WHERE kind = 'return_restock'"
    ) == [(tree, 2, 12, invoice_id, boss.id, None)]  # the note has the reason


def test_the_invoice_shows_its_credit_notes_and_keeps_its_amounts(make, goods, paid, admin, buyer):
    (tree, bowl), (invoice_id, other) = goods, paid
    before, untouched = (buyer.get(f"/invoices/{one}").json() for one in paid)
    notes = [credit(admin, invoice_id, *lines).json() for lines in ([line(tree, 2)], [line(tree), line(bowl, restock=False)])]
    after = buyer.get(f"/invoices/{invoice_id}").json()
    for detail, credited, restocked in zip(before["details"], (3, 1), (3, 0), strict=True):
        detail |= {"credited": credited, "restocked": restocked}
    assert after == before | {"credit_notes": notes}
    assert [note["number"] for note in notes] == [number(1), number(2)]
    assert buyer.get(f"/invoices/{other}").json() == untouched | {"credit_notes": []}
    admin.patch(f"/admin/invoices/{invoice_id}", {"status": "refunded", "reason": "All of it"})
    refunded = buyer.get(f"/invoices/{invoice_id}").json()
    assert [refunded[name] for name in ("number", "total")] == [before[name] for name in ("number", "total")]
    assert [(event["from_status"], event["to_status"], event["restocked"], event["reason"]) for event in refunded["events"]] == [
        ("paid", "refunded", True, "All of it")
    ]
    assert refunded["credit_notes"][:2] == notes
    assert (refunded["credit_notes"][2]["reason"], refunded["credit_notes"][2]["total"]) == ("All of it", "0.05")


def test_what_is_left_can_be_credited_and_no_more(make, goods, paid, admin):
    (tree, bowl), (invoice_id, other) = goods, paid
    credit(admin, other, line(tree, 3))
    assert credit(admin, invoice_id, line(tree, 2)).status == 201
    before = books(make)
    answer = credit(admin, invoice_id, line(bowl, 1), line(tree, 1, restock=False), line(tree, 1))
    assert (answer.status, answer.json()["type"]) == (409, "/problems/credit-exceeds-invoice")
    members = ("pointer", "product_id", "requested", "available")
    assert [tuple(fault[name] for name in members) for fault in answer.json()["errors"]] == [
        ("/lines/1/quantity", tree, 2, 1),
        ("/lines/2/quantity", tree, 2, 1),
    ]
    assert credit(admin, invoice_id, line(tree, 1_000_000)).status == 409
    assert books(make) == before
    assert credit(admin, invoice_id, line(bowl, 2), line(tree)).status == 201
    answer = credit(admin, invoice_id, line(bowl), line(tree))
    assert [fault["available"] for fault in answer.json()["errors"]] == [0, 0]
    assert counts(make, invoice_id) == [(3, 3), (2, 2)]
    assert (make.stock(tree), make.stock(bowl)) == (10 + 6, 10 + 2)


@pytest.mark.parametrize("status", ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"])
def test_only_what_is_paid_and_not_refunded_can_be_credited(make, ana, goods, admin, status):
    invoice_id = make.invoice(ana.id, {goods[0]: 3}, status=status)
    before = books(make)
    answer = credit(admin, invoice_id, line(goods[0]))
    if status in ("paid", "shipped", "delivered"):
        assert (answer.status, answer.json()["number"]) == (201, number(1))
        assert make.rows("SELECT status FROM invoices") == [(status,)]
    else:
        assert (answer.status, answer.json()["type"], answer.json()["current"]) == (409, "/problems/not-creditable", status)
        assert books(make) == before


@pytest.mark.parametrize(
    ("restocks", "lines", "returned"),
    [
        ([None, None], [(3, True)], 3),
        ([False, False], [(3, False)], 0),
        ([True, None], [(3, True)], 3),
        ([True, False], [(1, True), (2, False)], 1),
        ([False, None], [(2, True), (1, False)], 2),
    ],
)
def test_lines_of_one_product_are_summed_by_whether_they_go_into_stock(make, goods, paid, admin, restocks, lines, returned):
    (tree, bowl), (invoice_id, _) = goods, paid
    given = [
        line(tree, quantity, **({} if restock is None else {"restock": restock}))
        for quantity, restock in zip((1, 2), restocks, strict=True)
    ]
    note = credit(admin, invoice_id, *given).json()
    assert [(shown["quantity"], shown["restock"]) for shown in note["lines"]] == lines
    assert note["total"] == "37.50"
    assert (make.stock(tree), make.stock(bowl)) == (10 + returned, 10)
    assert counts(make, invoice_id) == [(3, returned), (0, 0)]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/lines"]),
        ({"lines": []}, ["/lines"]),
        ({"lines": [line(1)] * 101}, ["/lines"]),
        ({"lines": [line(1, 0)]}, ["/lines/0/quantity"]),
        ({"lines": [line(1, 1_000_001)]}, ["/lines/0/quantity"]),
        ({"lines": [line(1, restock=1)]}, ["/lines/0/restock"]),
        ({"lines": [line(1, price="1.00")]}, ["/lines/0/price"]),
        ({"lines": [line(1)], "reason": ""}, ["/reason"]),
        ({"lines": [line(1)], "reason": "x" * 501}, ["/reason"]),
        ({"lines": [line(1)], "number": "C2000-000001"}, ["/number"]),
        ({"lines": [line(3), line(1), line(9)]}, ["/lines/0/product_id", "/lines/2/product_id"]),
    ],
)
def test_lines_out_of_bounds_or_not_on_the_invoice_are_refused_with_the_place(make, ana, paid, admin, body, pointers):
    make.invoice(ana.id, {make.product(): 1}, status="paid")  # product 3
    before = books(make)
    answer = admin.post(f"/admin/invoices/{paid[0]}/credit_notes", body)
    assert (answer.status, answer.pointers()) == (422, pointers)
    assert books(make) == before


def test_credit_notes_are_for_admins_and_invoices_that_there_are(make, goods, paid, admin, buyer, anyone):
    before = books(make)
    assert [credit(client, paid[0], line(goods[0])).status for client in (buyer, anyone)] == [403, 401]
    assert [credit(admin, invoice_id, line(goods[0])).status for invoice_id in (999, 0, "x")] == [404, 400, 400]
    assert books(make) == before


def test_goods_of_a_deleted_product_come_back_and_goods_that_do_not_fit_do_not(make, goods, paid, admin):
    (tree, bowl), (invoice_id, _) = goods, paid
    make.conn.execute("UPDATE products SET stock = 999999999, deleted_at = CASE WHEN id = %s THEN now() END", (tree,))
    assert credit(admin, invoice_id, line(tree)).status == 201
    assert (make.stock(tree), make.stock(bowl)) == (1_000_000_000, 999_999_999)
    before = books(make)
    answer = credit(admin, invoice_id, line(bowl), line(tree))
    assert (answer.status, answer.json()["type"]) == (409, "/problems/stock-limit")
    assert answer.json()["product_ids"] == [tree]
    assert books(make) == before
    assert credit(admin, invoice_id, line(bowl), line(tree, restock=False)).status == 201


@pytest.mark.parametrize("restock", [True, False])
def test_a_refund_is_a_credit_note_for_what_remains(make, goods, paid, boss, admin, restock):
    (tree, bowl), (invoice_id, other) = goods, paid
    credit(admin, invoice_id, line(tree, 1), line(tree, 1, restock=False))
    refund = {"status": "refunded", "restock": restock, "reason": "Why"}
    answers = [admin.patch(f"/admin/invoices/{invoice_id}", refund) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    (_, rest) = answers[0].json()["credit_notes"]
    assert (rest["number"], rest["total"], rest["actor_id"], rest["reason"]) == (number(2), "12.60", boss.id, "Why")
    assert [(shown["product_id"], shown["quantity"], shown["restock"]) for shown in rest["lines"]] == [
        (tree, 1, restock),
        (bowl, 2, restock),
    ]
    back = [(3, 1 + restock), (2, 2 * restock)]
    assert (counts(make, invoice_id), counts(make, other)) == (back, [(0, 0), (0, 0)])
    assert (make.stock(tree), make.stock(bowl)) == (11 + restock, 10 + 2 * restock)
    assert make.scalar("SELECT restocked FROM invoice_events") is restock


def test_a_refund_of_nothing_makes_no_credit_note(make, goods, paid, admin):
    (tree, bowl), (invoice_id, _) = goods, paid
    credit(admin, invoice_id, line(tree, 3), line(bowl, 2))
    invoice = admin.patch(f"/admin/invoices/{invoice_id}", {"status": "refunded"}).json()
    assert (invoice["status"], len(invoice["credit_notes"]), invoice["events"][0]["restocked"]) == ("refunded", 1, False)
    assert make.rows("SELECT series, last FROM number_series") == [("credit_note", 1)]
    assert (make.stock(tree), make.stock(bowl)) == (13, 12)


def test_a_credit_note_shows_in_the_next_reads_and_leaves_the_others_cached(make, goods, paid, admin, buyer, clients):
    (tree, _), (invoice_id, _), other, bob = goods, paid, make.product(), clients(make.user())
    reads = [(buyer, f"/products?id={tree}"), (buyer, "/products"), (buyer, "/invoices"), (buyer, f"/products?id={other}")]
    reads += [(bob, "/invoices"), (admin, "/invoices")]

    def cached():
        return [reader.get(path)["X-Cache"] for reader, path in reads]

    assert (cached(), cached()) == (["MISS"] * 6, ["HIT"] * 6)
    credit(admin, invoice_id, line(tree))
    assert cached() == ["MISS", "MISS", "MISS", "HIT", "HIT", "HIT"]
    assert [buyer.get(f"/products?id={product_id}").json()["stock"] for product_id in (tree, other)] == [11, 10]
    credit(admin, invoice_id, line(tree, restock=False))
    assert cached() == ["HIT", "HIT", "MISS", "HIT", "HIT", "HIT"]
    credit(admin, invoice_id, line(tree, 2))  # refused
    assert cached() == ["HIT"] * 6


# ── at the same time ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("restock", [True, False])
def test_of_two_who_credit_the_last_piece_one_does(make, ana, goods, boss, clients, restock):
    team = [clients(boss) for _ in range(2)]
    for turn in range(1, 9):
        invoice_id = make.invoice(ana.id, {goods[0]: 1}, status="paid")
        answers = at_once(*(partial(credit, client, invoice_id, line(goods[0], restock=restock)) for client in team))
        assert sorted(answer.status for answer in answers) == [201, 409]
        assert (counts(make, invoice_id), make.stock(goods[0])) == ([(1, int(restock))], 10 + turn * restock)


def test_of_two_pieces_for_which_there_is_room_for_one_one_comes_back(make, goods, paid, boss, clients):
    make.conn.execute("UPDATE products SET stock = 999999999")
    team = [clients(boss) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        with make.conn.transaction():
            make.conn.execute("SELECT FROM products FOR UPDATE")
            sent = [pool.submit(credit, client, one, line(goods[0])) for client, one in zip(team, paid, strict=True)]
            time.sleep(0.2)
        answers = sorted((one.result() for one in sent), key=lambda answer: answer.status)
    assert [answer.status for answer in answers] == [201, 409]
    assert answers[1].json()["type"] == "/problems/stock-limit"
    assert [make.stock(product_id) for product_id in goods] == [1_000_000_000, 999_999_999]


def test_a_refund_and_credit_notes_at_once_take_back_each_piece_once(make, ana, goods, boss, clients):
    team = [clients(boss) for _ in range(5)]
    for turn in range(1, 6):
        invoice_id = make.invoice(ana.id, dict.fromkeys(goods, 3), status="shipped")
        refund = partial(team[0].patch, f"/admin/invoices/{invoice_id}", {"status": "refunded"})
        answers = at_once(refund, *(partial(credit, client, invoice_id, *map(line, goods)) for client in team[1:]))
        assert answers[0].status == 200
        assert {answer.status for answer in answers[1:]} <= {201, 409}
        assert counts(make, invoice_id) == [(3, 3)] * 2
        assert [make.stock(product_id) for product_id in goods] == [10 + 3 * turn] * 2


def test_numbers_have_no_gaps_when_many_are_made_refused_and_broken_at_once(make, ana, goods, boss, clients):
    """Of 3 pieces on each of 6 invoices, 8 admins credit one each; and 2 each, which fails after its number is taken."""
    made = [make.invoice(ana.id, {goods[0]: 3}, status="paid") for _ in range(6)]
    team = [clients(boss) for _ in range(8)]

    def work(client):
        wanted = [(invoice_id, quantity) for invoice_id in made for quantity in (1, 2)]
        random.shuffle(wanted)
        return [credit(client, invoice_id, line(goods[0], quantity)) for invoice_id, quantity in wanted]

    make.conn.execute("ALTER TABLE credit_note_lines ADD CONSTRAINT broken CHECK (quantity <> 2)")
    try:
        answers = [answer for some in at_once(*(partial(work, client) for client in team)) for answer in some]
    finally:
        make.conn.execute("ALTER TABLE credit_note_lines DROP CONSTRAINT broken")
    assert {answer.status for answer in answers} == {201, 409, 500}
    numbers = [answer.json()["number"] for answer in answers if answer.status == 201]
    assert sorted(numbers) == [number(count) for count in range(1, 19)]
    assert make.rows("SELECT number FROM credit_notes ORDER BY number") == [(one,) for one in sorted(numbers)]
    assert make.rows("SELECT series, last FROM number_series") == [("credit_note", 18)]
    assert {pair for invoice_id in made for pair in counts(make, invoice_id)} == {(3, 3)}
    assert make.stock(goods[0]) == 10 + 18


def test_whoever_reads_an_invoice_meanwhile_sees_it_as_it_was_at_one_moment(make, ana, admin, clients):
    invoice_id = make.invoice(ana.id, {make.product(): 100}, status="paid")
    done = threading.Event()

    def look(_):
        client, seen = clients(ana), 0
        while not done.is_set():
            answer = client.get(f"/invoices/{invoice_id}")
            assert answer.status == 200
            notes = [line["quantity"] for note in answer.json()["credit_notes"] for line in note["lines"]]
            assert answer.json()["details"][0]["credited"] == sum(notes)
            seen += 1
        return seen

    with ThreadPoolExecutor(3) as pool:
        looking = pool.map(look, range(3))
        try:
            for _ in range(60):
                lines = [{"product_id": 1, "quantity": 1, "restock": False}]
                assert admin.post(f"/admin/invoices/{invoice_id}/credit_notes", {"lines": lines}).status == 201
        finally:
            done.set()
        assert min(looking) > 10
