import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial

import pytest

from tests.routes.lists import assert_cursors_go_with_their_filters, ids, walk
from tests.waiting import at_once

STATUSES = ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"]
ALLOWED = {
    ("pending", "paid"),
    ("pending", "cancelled"),
    ("paid", "shipped"),
    ("paid", "refunded"),
    ("shipped", "delivered"),
    ("shipped", "refunded"),
    ("delivered", "refunded"),
}


def change(client, invoice_id, status, **more):
    return client.patch(f"/admin/invoices/{invoice_id}", {"status": status, **more})


def test_a_customer_sees_the_own_invoices_newest_first_without_details(make, ana, buyer):
    ids = [make.invoice(ana.id) for _ in range(3)]
    make.invoice(make.user().id)
    answer = buyer.get("/invoices")
    assert [item["id"] for item in answer.json()["items"]] == ids[::-1]
    assert answer.json()["next"] is None
    assert set(answer.json()["items"][0]) == {"id", "number", "user_id", "status", "total", "currency", "created_at"}
    assert answer["Cache-Control"] == "private, no-cache"


def test_invoice_pages_are_stable_while_new_ones_arrive(make, ana, buyer):
    ids = [make.invoice(ana.id) for _ in range(5)]
    page = buyer.get("/invoices?limit=2").json()
    seen = [item["id"] for item in page["items"]]
    make.invoice(ana.id)
    while page["next"]:
        page = buyer.get(f"/invoices?limit=2&after={page['next']}").json()
        seen += [item["id"] for item in page["items"]]
    assert seen == ids[::-1]


def test_a_cursor_of_another_list_or_another_customer_is_refused(make, ana, buyer, clients):
    for _ in range(2):
        make.product()
        make.invoice(ana.id)
    of_products = buyer.get("/products?limit=1").json()["next"]
    of_ana = buyer.get("/invoices?limit=1").json()["next"]
    assert buyer.get(f"/invoices?after={of_products}").status == 400
    assert buyer.get(f"/products?after={of_ana}").status == 400
    assert clients(make.user()).get(f"/invoices?after={of_ana}").status == 400
    assert buyer.get(f"/invoices?after={of_ana}").status == 200


def test_the_list_is_cached_for_each_customer_alone(make, ana, buyer, clients):
    bob = make.user()
    make.invoice(ana.id)
    assert [buyer.get("/invoices")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    answer = clients(bob).get("/invoices")
    assert (answer["X-Cache"], answer.json()["items"]) == ("MISS", [])


def test_a_customer_filters_the_own_invoices_by_state_and_time(make, ana, buyer):
    """Six invoices, a day apart, of which each third is paid, beside one of somebody else on each day."""
    days = [datetime(2026, 3, day, tzinfo=timezone.utc) for day in range(1, 7)]
    rows = []
    for number, day in enumerate(days):
        status = ("pending", "pending", "paid")[number % 3]
        for owner in (make.user().id, ana.id):
            invoice_id = make.invoice(owner, status=status)
            make.conn.execute("UPDATE invoices SET created_at = %s WHERE id = %s", (day, invoice_id))
        rows.insert(0, (invoice_id, status, day))
    counts = set()
    for status, since, until in itertools.product((None, "pending", "paid", "shipped"), (None, days[1]), (None, days[5])):
        path = "/invoices?limit=2" + (f"&status={status}" if status else "")
        path += (f"&from={since:%Y-%m-%d}" if since else "") + (f"&to={until:%Y-%m-%d}" if until else "")
        expected = [
            row[0]
            for row in rows
            if status in (None, row[1]) and (since is None or row[2] >= since) and (until is None or row[2] < until)
        ]
        assert [invoice_id for page in walk(buyer, path) for invoice_id in page] == expected, path
        assert buyer.get(path)["X-Cache"] == "HIT"
        counts.add(len(expected))
    assert (max(counts), min(counts)) == (6, 0)


def test_a_filtered_list_is_cached_by_its_filters_and_a_change_shows_in_it(make, ana, buyer, admin):
    invoice_id = make.invoice(ana.id)
    paths = [
        "/invoices",
        "/invoices?status=pending",
        "/invoices?status=paid",
        "/invoices?from=2020-01-01",
        "/invoices?to=2020-01-01",
    ]
    assert [len(ids(buyer.get(path))) for path in paths] == [1, 1, 0, 1, 0]
    assert [buyer.get(path)["X-Cache"] for path in paths] == ["HIT"] * 5
    # The same moment is the same filter, however it is written.
    assert buyer.get("/invoices?from=2020-01-01T01:00:00%2B01:00")["X-Cache"] == "HIT"
    change(admin, invoice_id, "paid")
    answers = [buyer.get(path) for path in paths]
    assert [(answer["X-Cache"], len(ids(answer))) for answer in answers] == [("MISS", n) for n in (1, 0, 1, 1, 0)]


def test_a_cursor_of_the_own_invoices_is_good_with_its_own_filters_alone(make, ana, buyer):
    for _ in range(2):
        make.invoice(ana.id)
        make.invoice(ana.id, status="paid")
    filters = ["", "&status=paid", "&status=pending", "&from=2020-01-01", "&from=2020-01-02", "&to=2100-01-01"]
    filters += ["&status=paid&from=2020-01-01", "&from=2020-01-01&to=2100-01-01"]
    assert_cursors_go_with_their_filters(buyer, "/invoices", filters)


@pytest.mark.parametrize(
    "query",
    [
        "id=1",
        "status=sold",
        "status=",
        "from=x",
        "to=",
        "email=a@b.de",
        "number=2000-000001",
        "limit=0",
        "limit=101",
        "after=",
        "after=x",
        "limit=5&limit=5",
    ],
)
def test_a_query_of_the_invoice_list_that_cannot_be_read_is_refused(buyer, query):
    assert buyer.get(f"/invoices?{query}").status == 400


def test_an_invoice_is_for_its_owner_and_admins_and_nobody_else(make, ana, buyer, admin, clients, anyone):
    invoice_id = make.invoice(ana.id, {make.product("Tree", "3.00"): 2})
    own = buyer.get(f"/invoices/{invoice_id}")
    assert (own.status, own.json()["total"], own["Cache-Control"]) == (200, "6.00", "private, no-cache")
    assert [detail["name"] for detail in own.json()["details"]] == ["Tree"]
    assert admin.get(f"/invoices/{invoice_id}").body == own.body
    stranger = clients(make.user())
    hidden, missing = stranger.get(f"/invoices/{invoice_id}"), stranger.get("/invoices/999")
    assert hidden.status == missing.status == 404
    assert hidden.json() | {"request_id": ""} == missing.json() | {"request_id": ""}
    assert anyone.get(f"/invoices/{invoice_id}").status == 401


def test_an_invoice_has_an_etag_that_follows_its_status(make, ana, buyer, admin):
    invoice_id = make.invoice(ana.id)
    etag = buyer.get(f"/invoices/{invoice_id}")["ETag"]
    assert buyer.get(f"/invoices/{invoice_id}", headers={"If-None-Match": etag}).status == 304
    change(admin, invoice_id, "paid")
    assert buyer.get(f"/invoices/{invoice_id}", headers={"If-None-Match": etag}).status == 200


@pytest.mark.parametrize("invoice_id", ["0", "-1", "+4", "4.0", "x", "%D9%A4", "9" * 30, str(2**63), "1%00", "04"])
def test_an_invoice_id_must_be_a_positive_number(buyer, admin, invoice_id):
    assert buyer.get(f"/invoices/{invoice_id}").status == 400
    assert change(admin, invoice_id, "paid").status == 400


@pytest.mark.parametrize("wanted", STATUSES)
@pytest.mark.parametrize("current", STATUSES)
def test_an_invoice_moves_only_where_it_may(make, ana, admin, current, wanted):
    invoice_id, other = make.invoice(ana.id, status=current), make.invoice(ana.id, status=current)
    answer = change(admin, invoice_id, wanted)
    status = make.scalar("SELECT status FROM invoices WHERE id = %s", invoice_id)
    events = make.rows("SELECT invoice_id, from_status, to_status FROM invoice_events")
    if current == wanted:
        assert (answer.status, status, events) == (200, current, [])
    elif (current, wanted) in ALLOWED:
        assert (answer.status, answer.json()["status"], status) == (200, wanted, wanted)
        assert events == [(invoice_id, current, wanted)]
    else:
        assert (answer.status, status, events) == (409, current, [])
        assert answer.json()["type"] == "/problems/transition-not-allowed"
        assert answer.json()["current"] == current
        assert answer.json()["allowed"] == sorted(to for origin, to in ALLOWED if origin == current)
    assert make.scalar("SELECT status FROM invoices WHERE id = %s", other) == current


@pytest.mark.parametrize(
    ("start", "status", "more", "returned"),
    [
        ("pending", "cancelled", {}, 3),
        ("paid", "refunded", {}, 3),
        ("shipped", "refunded", {"restock": True}, 3),
        ("delivered", "refunded", {"restock": False}, 0),
        ("pending", "paid", {}, 0),
        ("paid", "shipped", {}, 0),
    ],
)
def test_cancelling_and_refunding_put_the_goods_back_once(make, ana, admin, start, status, more, returned):
    product_id, other = make.product(stock=10), make.product(stock=10)
    invoice_id = make.invoice(ana.id, {product_id: 3}, status=start)
    make.invoice(ana.id, {other: 2}, status=start)
    for _ in range(2):
        assert change(admin, invoice_id, status, **more).status == 200
    assert (make.stock(product_id), make.stock(other)) == (10 + returned, 10)
    assert make.rows("SELECT restocked FROM invoice_events") == [(returned > 0,)]


def test_of_many_who_cancel_at_once_one_puts_the_goods_back(make, ana, admin, clients):
    product_id = make.product(stock=10)
    invoice_id = make.invoice(ana.id, {product_id: 3})
    token = admin.token

    def cancel(_):
        client = clients()
        client.token = token
        return change(client, invoice_id, "cancelled").status

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(cancel, range(12))) == {200}
    assert make.stock(product_id) == 13


def test_cancelling_and_buying_the_same_products_do_not_lock_each_other_out(make, ana, admin, clients):
    ids = [make.product(stock=10_000) for _ in range(8)]
    pending = [make.invoice(ana.id, dict.fromkeys(ids, 1)) for _ in range(60)]
    token = admin.token

    def work(number):
        client = clients(ana)
        if number % 2:
            client.token = token
            return [change(client, invoice_id, "cancelled").status for invoice_id in pending[number // 2 :: 4]]
        lines = [{"product_id": product_id, "quantity": 1} for product_id in ids]
        return [client.post("/purchase_product", {"products": lines}).status for _ in range(15)]

    with ThreadPoolExecutor(8) as pool:
        assert {status for statuses in pool.map(work, range(8)) for status in statuses} == {200, 201}
    assert {make.stock(product_id) for product_id in ids} == {10_000 - 60 + 60}


def test_goods_of_a_deleted_product_go_back_too(make, ana, admin):
    product_id = make.product(stock=0)
    invoice_id = make.invoice(ana.id, {product_id: 3})
    admin.delete(f"/delete_product?id={product_id}")
    assert change(admin, invoice_id, "cancelled").status == 200
    assert make.stock(product_id) == 3


def test_goods_that_do_not_fit_into_stock_are_a_conflict_and_nothing_changes(make, ana, admin, buyer):
    product_id = make.product(stock=1_000_000_000)
    invoice_id = make.invoice(ana.id, {product_id: 1})
    for answer in (change(admin, invoice_id, "cancelled"), buyer.post(f"/invoices/{invoice_id}/cancel")):
        assert (answer.status, answer.json()["type"]) == (409, "/problems/stock-limit")
    assert make.rows("SELECT status FROM invoices") == [("pending",)]
    assert make.rows("SELECT * FROM invoice_events") == []


def test_the_reason_and_who_gave_it_are_kept_with_the_change(make, ana, admin):
    invoice_id = make.invoice(ana.id)
    change(admin, invoice_id, "cancelled", reason="Changed her mind 🐈")
    boss = make.scalar("SELECT id FROM users WHERE role = 'admin'")
    assert make.rows("SELECT actor_id, reason FROM invoice_events") == [(boss, "Changed her mind 🐈")]


@pytest.mark.parametrize("kept", [{}, {"reason": "SEPA A"}])
@pytest.mark.parametrize("status", ["paid", "cancelled", "refunded"])
def test_nothing_is_added_to_a_change_by_asking_for_it_again(make, ana, admin, status, kept):
    invoice_id = make.invoice(ana.id, {make.product(): 1}, status="paid" if status == "refunded" else "pending")
    first = change(admin, invoice_id, status, **kept)
    assert first.status == 200
    for same in ({}, kept):
        assert change(admin, invoice_id, status, **same).body == first.body
    answer = change(admin, invoice_id, status, reason="SEPA B")
    assert (answer.status, answer.json()["type"]) == (409, "/problems/transition-not-allowed")
    assert answer.pointers() == ["/reason"]
    assert answer.json()["current"] == status
    assert b"SEPA" not in answer.body
    assert make.rows("SELECT to_status, reason FROM invoice_events") == [(status, kept.get("reason"))]
    assert make.scalar("SELECT count(*) FROM stock_movements") == 1 + (status != "paid")


@pytest.mark.parametrize(("goods", "kept"), [(1, True), (1, False), (0, True), (0, False)])
def test_a_refund_that_is_asked_for_again_says_the_same_of_its_goods(make, ana, admin, goods, kept):
    invoice_id = make.invoice(ana.id, {make.product(): 1} if goods else {}, status="paid")
    first = change(admin, invoice_id, "refunded", restock=kept)
    assert change(admin, invoice_id, "refunded").body == change(admin, invoice_id, "refunded", restock=kept).body == first.body
    answer = change(admin, invoice_id, "refunded", restock=not kept)
    if goods:
        assert (answer.status, answer.pointers()) == (409, ["/restock"])
    else:  # nothing was left to credit, so what was said of it is not kept
        assert answer.body == first.body


def test_a_status_without_an_event_has_no_reason_that_could_be_the_same(make, ana, admin, buyer):
    pending, paid = make.invoice(ana.id), make.invoice(ana.id, status="paid")
    for invoice_id, status in ((pending, "pending"), (paid, "paid")):
        assert change(admin, invoice_id, status).status == 200
        assert change(admin, invoice_id, status, reason="Because").status == 409
    assert make.rows("SELECT FROM invoice_events") == []


def test_a_customer_does_not_learn_the_reason_of_an_admin_from_a_conflict(make, ana, admin, buyer):
    invoice_id = make.invoice(ana.id)
    change(admin, invoice_id, "cancelled", reason="Fraud")
    assert cancel(buyer, invoice_id).status == 200
    answer = cancel(buyer, invoice_id, reason="Ordered twice")
    assert (answer.status, answer.pointers()) == (409, ["/reason"])
    assert b"Fraud" not in answer.body
    assert make.rows("SELECT reason FROM invoice_events") == [("Fraud",)]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/status"),
        ({"status": "sold"}, "/status"),
        ({"status": None}, "/status"),
        ({"status": ["paid"]}, "/status"),
        ({"status": "paid\n"}, "/status"),
        ({"status": "paid", "reason": "x" * 501}, "/reason"),
        ({"status": "paid", "reason": ""}, "/reason"),
        ({"status": "paid", "reason": "a\x00b"}, "/reason"),
        ({"status": "paid", "restock": False}, "/restock"),
        ({"status": "cancelled", "restock": False}, "/restock"),
        ({"status": "refunded", "restock": 0}, "/restock"),
        ({"status": "paid", "total": "0.01"}, "/total"),
    ],
)
def test_a_change_out_of_bounds_is_refused_with_the_place(make, ana, admin, body, pointer):
    invoice_id = make.invoice(ana.id, status="pending")
    answer = admin.patch(f"/admin/invoices/{invoice_id}", body)
    assert (answer.status, answer.pointers()) == (422, [pointer])


def test_an_unknown_invoice_is_not_found(admin):
    assert change(admin, 999, "paid").status == 404


def test_a_change_shows_in_the_owners_next_list_and_restocking_in_the_catalogue(make, ana, buyer, admin):
    product_id = make.product(stock=1)
    invoice_id, other = make.invoice(ana.id, {product_id: 1}), make.invoice(ana.id)
    reads = ("/invoices", "/products")
    for path in reads:
        buyer.get(path)
    change(admin, other, "paid")
    assert [buyer.get(path)["X-Cache"] for path in reads] == ["MISS", "HIT"]
    change(admin, invoice_id, "cancelled")
    assert [buyer.get(path)["X-Cache"] for path in reads] == ["MISS", "MISS"]
    assert buyer.get("/products").json()["items"][0]["stock"] == 2


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(count):
    return f"{datetime.now(timezone.utc).year}-{count:06}"


def test_an_invoice_gets_the_next_number_when_it_is_paid_and_keeps_it(make, ana, admin, buyer):
    first, never, second, pending = (make.invoice(ana.id) for _ in range(4))
    assert change(admin, first, "paid").json()["number"] == number(1)
    assert change(admin, never, "cancelled").json()["number"] is None
    assert [change(admin, second, "paid").json()["number"] for _ in range(2)] == [number(2)] * 2
    for status in ("shipped", "delivered", "refunded"):
        assert change(admin, first, status).json()["number"] == number(1)
    assert make.rows("SELECT id, number FROM invoices ORDER BY id") == [
        *((first, number(1)), (never, None), (second, number(2))),
        (pending, None),
    ]
    shown = [(item["id"], item["number"]) for item in buyer.get("/invoices").json()["items"]]
    assert shown == make.rows("SELECT id, number FROM invoices ORDER BY id DESC")
    assert make.rows("SELECT series, last FROM number_series") == [("invoice", 2)]


def test_numbers_have_no_gaps_when_many_are_paid_refused_and_broken_at_once(make, ana, clients):
    """Of 20 invoices, each third cannot become paid, which fails after its number is taken."""
    ids, boss = [make.invoice(ana.id) for _ in range(20)], make.user(role="admin")
    team = [clients(boss) for _ in range(8)]

    def work(client):
        return [change(client, invoice_id, "paid") for invoice_id in random.sample(ids, len(ids))]

    make.conn.execute("ALTER TABLE invoices ADD CONSTRAINT broken CHECK (id % 3 > 0 OR status <> 'paid')")
    try:
        answers = [answer for some in at_once(*(partial(work, client) for client in team)) for answer in some]
    finally:
        make.conn.execute("ALTER TABLE invoices DROP CONSTRAINT broken")
    assert {answer.status for answer in answers} == {200, 500}
    paid = make.rows("SELECT id, number FROM invoices WHERE number IS NOT NULL ORDER BY number")
    assert [one for _, one in paid] == [number(count) for count in range(1, 15)]
    assert {(answer.json()["id"], answer.json()["number"]) for answer in answers if answer.status == 200} == set(paid)
    assert make.scalar("SELECT count(*) FROM invoice_events") == 14


# ── what was done to it ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_invoice_shows_its_changes_oldest_first(make, ana, admin, buyer):
    boss = make.scalar("SELECT id FROM users WHERE role = 'admin'")
    invoice_id, other = make.invoice(ana.id, {make.product(): 1}), make.invoice(ana.id)
    change(admin, invoice_id, "paid", reason="Wired 🐈")
    change(admin, other, "cancelled")
    change(admin, invoice_id, "cancelled")  # refused
    change(admin, invoice_id, "paid", reason="again")  # changes nothing
    change(admin, invoice_id, "refunded")
    events = buyer.get(f"/invoices/{invoice_id}").json()["events"]
    assert all(event.pop("created_at").endswith("Z") for event in events)
    assert events == [
        {"from_status": "pending", "to_status": "paid", "actor_id": boss, "restocked": False, "reason": "Wired 🐈"},
        {"from_status": "paid", "to_status": "refunded", "actor_id": boss, "restocked": True, "reason": None},
    ]


def cancel(client, invoice_id, **body):
    return client.post(f"/invoices/{invoice_id}/cancel", body)


def test_a_buyer_cancels_what_is_pending_and_the_goods_go_back_once(make, ana, buyer):
    product_id, other = make.product(stock=10), make.product(stock=10)
    invoice_id, untouched = make.invoice(ana.id, {product_id: 3}), make.invoice(ana.id, {other: 2})
    answers = [
        cancel(buyer, invoice_id, reason="Allergic 🐈"),
        cancel(buyer, invoice_id, reason="Allergic 🐈"),
        cancel(buyer, invoice_id),
    ]
    assert {answer.status for answer in answers} == {200}
    assert answers[0].json() == answers[1].json() == answers[2].json() == buyer.get(f"/invoices/{invoice_id}").json()
    assert (answers[0].json()["status"], answers[0].json()["details"][0]["restocked"]) == ("cancelled", 3)
    assert (make.stock(product_id), make.stock(other)) == (13, 10)
    assert make.rows("SELECT invoice_id, actor_id, restocked, reason FROM invoice_events") == [
        (invoice_id, ana.id, True, "Allergic 🐈")
    ]
    # The words are the event's alone: there they can be erased, the ledger stays as it is.
    moved = "SELECT kind, delta, invoice_id, actor_id, reason FROM stock_movements WHERE kind <> 'initial'"
    assert make.rows(moved) == [("cancel_restock", 3, invoice_id, ana.id, None)]
    assert make.rows("SELECT id, status FROM invoices ORDER BY id") == [(invoice_id, "cancelled"), (untouched, "pending")]


def test_an_invoice_is_cancelled_by_its_owner_and_nobody_else(make, ana, buyer, admin, clients, anyone):
    product_id = make.product(stock=10)
    invoice_id = make.invoice(ana.id, {product_id: 3})
    missing = cancel(admin, 999)
    for client in (admin, clients(make.user())):
        hidden = cancel(client, invoice_id)
        assert (hidden.status, hidden.json() | {"request_id": ""}) == (404, missing.json() | {"request_id": ""})
    assert cancel(anyone, invoice_id).status == 401
    assert cancel(buyer, invoice_id, reason="x" * 501).pointers() == ["/reason"]
    assert cancel(buyer, invoice_id, status="paid").pointers() == ["/status"]
    assert (make.rows("SELECT status FROM invoices"), make.stock(product_id)) == ([("pending",)], 10)


@pytest.mark.parametrize("status", ["paid", "shipped", "delivered", "refunded"])
def test_a_buyer_cannot_cancel_what_is_paid(make, ana, buyer, status):
    product_id = make.product(stock=10)
    invoice_id = make.invoice(ana.id, {product_id: 3}, status=status)
    problem = cancel(buyer, invoice_id).json()
    assert (problem["status"], problem["type"]) == (409, "/problems/transition-not-allowed")
    assert (problem["current"], problem["allowed"]) == (status, sorted(to for origin, to in ALLOWED if origin == status))
    assert (make.rows("SELECT status FROM invoices"), make.stock(product_id)) == ([(status,)], 10)
    assert make.rows("SELECT * FROM invoice_events") == []


def test_of_a_buyer_who_cancels_and_an_admin_who_takes_the_money_one_wins(make, ana, buyer, admin):
    product_id, paid, stock = make.product(stock=0), 0, 0
    for _ in range(15):
        invoice_id = make.invoice(ana.id, {product_id: 1})
        acts = [partial(cancel, buyer, invoice_id), partial(change, admin, invoice_id, "paid")]
        answers = at_once(*random.sample(acts, 2))
        assert sorted(answer.status for answer in answers) == [200, 409]
        (winner,) = [answer.json() for answer in answers if answer.status == 200]
        (loser,) = [answer.json() for answer in answers if answer.status == 409]
        assert loser["current"] == winner["status"]
        paid, stock = paid + (winner["status"] == "paid"), stock + (winner["status"] == "cancelled")
        found = make.rows("SELECT status, number FROM invoices WHERE id = %s", invoice_id)
        assert found == [(winner["status"], number(paid) if winner["status"] == "paid" else None)]
        assert make.stock(product_id) == stock
