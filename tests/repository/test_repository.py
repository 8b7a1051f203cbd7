"""Every query, on a real database, beside a second row that must not match."""

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from petstore.db import Connection
from petstore.db.describe import describe
from petstore.db.migrations import newest_version
from petstore.db.queries import load_queries
from petstore.repository import credit_notes, idempotency, invoices, products, purchases, system, users
from petstore.repository.reports import run_report
from petstore.repository.startup_check import compare, functions
from tests.factories import product_columns

LATEST = 2**63 - 1
PHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"


def test_every_query_has_one_function_of_its_name_and_every_function_a_query():
    assert set(functions()) == set(load_queries())


@pytest.mark.parametrize("name", sorted(load_queries()))
def test_parameters_and_columns_of_a_query_are_those_of_its_function(conn, name):
    assert compare(functions()[name], describe(conn, load_queries()[name])) == []


@dataclass
class Named:
    name: str


def other_parameter(conn: Connection, *, product_id: str) -> products.Product | None: ...
def other_columns(conn: Connection, *, actor_id: int, **columns: Any) -> Named | None: ...
def other_everything(conn: Connection, *, id: int) -> users.User | None: ...


def test_a_difference_between_query_and_function_is_named(conn):
    described = describe(conn, load_queries()["products/get_product"])
    (fault,) = compare(other_parameter, described)
    assert fault.startswith("parameter product_id is")
    faults = compare(other_everything, described)
    for name in ("parameter id", "parameter product_id", "column email", "column stock"):
        assert any(fault.startswith(f"{name} is in the ") for fault in faults)
    faults = compare(other_columns, describe(conn, load_queries()["products/create_product"]))
    for name in ("price", "stock"):
        assert f"parameter {name} is in the file only" in faults
    assert not any(fault.startswith(("parameter name", "parameter actor_id")) for fault in faults)


def test_the_shop_says_what_it_is(conn):
    shop = system.get_shop(conn)
    assert (shop.version, shop.currency, shop.minor_digits) == (newest_version(), "USD", 2)
    assert shop.identity.count("-") == 4


def test_users_are_found_by_id_and_by_email_in_any_case(conn):
    ana = users.create_user(conn, email="Ana@example.com", password=PHC)
    bob = users.create_user(conn, email="bob@example.com", password=PHC)
    assert users.get_user(conn, user_id=ana.id) == ana
    assert users.get_user(conn, user_id=bob.id + 1) is None
    assert users.get_credentials(conn, email="ANA@EXAMPLE.COM") == users.Credentials(ana.id, "Ana@example.com", PHC)
    assert users.get_credentials(conn, email="ana") is None
    assert users.get_credentials(conn, email="an_@example.com") is None


def test_saving_an_admin_makes_one_or_promotes_one(conn):
    bob = users.create_user(conn, email="bob@example.com", password=PHC)
    ana = users.create_user(conn, email="Ana@example.com", password=PHC)
    assert users.save_admin(conn, email="ana@EXAMPLE.com", password=PHC + "2").id == ana.id
    assert users.get_credentials(conn, email="ana@example.com") == users.Credentials(ana.id, "Ana@example.com", PHC + "2")
    assert users.get_user(conn, user_id=ana.id).role == "admin"
    assert users.save_admin(conn, email="new@example.com", password=PHC).role == "admin"
    assert users.get_user(conn, user_id=bob.id).role == "user"


def test_a_password_is_replaced_only_if_it_is_still_the_one_that_was_read(conn):
    ana = users.create_user(conn, email="ana@example.com", password=PHC)
    bob = users.create_user(conn, email="bob@example.com", password=PHC)
    assert users.rehash_password(conn, user_id=ana.id, old_password=PHC + "x", password=PHC + "2") is None
    assert users.rehash_password(conn, user_id=ana.id, old_password=PHC, password=PHC + "2") == ana.id
    assert users.get_credentials(conn, email="ana@example.com").password == PHC + "2"
    assert users.get_credentials(conn, email="bob@example.com") == users.Credentials(bob.id, "bob@example.com", PHC)


def year(conn):
    return conn.execute("SELECT extract(year FROM now() AT TIME ZONE 'UTC')::int").fetchone()[0]


def create(conn, actor_id, name, stock=5):
    columns = product_columns(name=name, price=Decimal("1.50"), stock=stock)
    return products.create_product(conn, **columns, actor_id=actor_id)


def update(conn, actor_id, product_id, **changes):
    columns = product_columns(reason=None) | changes
    return products.update_product(conn, product_id=product_id, **columns, actor_id=actor_id)


def test_products_come_change_and_go(conn):
    boss = users.save_admin(conn, email="boss@example.com", password=PHC).id
    one, two = (create(conn, boss, name) for name in ("One", "Two"))
    assert products.get_product(conn, product_id=one.id) == one
    assert products.lock_product(conn, product_id=one.id) == one
    changed = update(conn, boss, one.id, name="New")
    assert (changed.name, changed.price, changed.stock, changed.version) == ("New", Decimal("1.50"), 5, 2)
    same = {"name": "New", "price": Decimal("1.5"), "stock": 5}
    for values in ({}, same, *({name: value} for name, value in same.items())):
        assert update(conn, boss, one.id, **values) is None
    assert products.get_product(conn, product_id=one.id) == changed
    assert products.list_products(conn, after=0, limit=10) == [changed, two]
    assert products.list_products(conn, after=one.id, limit=10) == [two]
    assert products.list_products(conn, after=0, limit=1) == [changed]
    assert products.delete_product(conn, product_id=one.id) == one.id
    assert products.delete_product(conn, product_id=one.id) is None
    assert update(conn, boss, one.id, name="X") is None
    assert products.lock_product(conn, product_id=one.id) is None
    assert products.get_product(conn, product_id=one.id) is None
    assert products.list_products(conn, after=0, limit=10) == [two]


def buy(conn, user_id, wanted, *expected):
    return purchases.buy_products(
        conn,
        user_id=user_id,
        product_ids=list(wanted),
        quantities=list(wanted.values()),
        expected_ids=[product_id for product_id, _ in expected],
        expected_prices=[Decimal(price) for _, price in expected],
    )


def test_a_purchase_takes_and_writes_only_what_it_names(conn):
    _, ana = (users.create_user(conn, email=f"{name}@example.com", password=PHC) for name in ("bob", "ana"))
    one, two, three = (create(conn, ana.id, name) for name in ("One", "Two", "Three"))
    update(conn, ana.id, one.id, stock=4)  # its row moves behind the others
    conn.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")  # nor does an index order them
    found = buy(conn, ana.id, {three.id: 5, one.id: 2}, (one.id, "1.50"), (one.id, "1.5"))
    assert [(line.product_id, line.stock, line.quantity, line.line_total) for line in found] == [
        (one.id, 4, 2, Decimal("3.00")),
        (three.id, 5, 5, Decimal("7.50")),
    ]
    invoice = invoices.get_invoice(conn, invoice_id=found[0].invoice_id)
    assert (invoice.user_id, invoice.status, invoice.total) == (ana.id, "pending", Decimal("10.50"))
    assert all(getattr(line, name) == value for line in found for name, value in vars(invoice).items() if name != "id")
    details = invoices.list_invoice_details(conn, invoice_ids=[invoice.id])
    assert [vars(detail) for detail in details] == [{name: getattr(line, name) for name in vars(details[0])} for line in found]
    assert [product.stock for product in products.list_products(conn, after=0, limit=9)] == [2, 5, 0]
    (sale,) = [one for one in products.list_movements(conn, product_id=three.id, before=LATEST, limit=9) if one.kind == "sale"]
    assert (sale.delta, sale.stock, sale.invoice_id, sale.actor_id) == (-5, 0, invoice.id, ana.id)
    assert run_report(conn, "ledger_proof") == []
    other = buy(conn, ana.id, {two.id: 1})[0].invoice_id
    assert invoices.list_invoice_details(conn, invoice_ids=[other, invoice.id])[: len(details)] == details
    assert [line.product_id for line in invoices.list_invoice_details(conn, invoice_ids=[other])] == [two.id]
    assert invoices.get_invoice(conn, invoice_id=LATEST) is None


def test_what_cannot_all_be_had_is_not_bought_and_is_told_as_it_is(conn):
    ana = users.create_user(conn, email="ana@example.com", password=PHC)
    one, two, gone = (create(conn, ana.id, name) for name in ("One", "Two", "Gone"))
    products.delete_product(conn, product_id=gone.id)
    for wanted, expected in (
        ({one.id: 1, two.id: 6}, []),
        ({one.id: 1, gone.id: 1}, []),
        ({one.id: 1, LATEST: 1}, []),
        ({one.id: 1, two.id: 1}, [(two.id, "1.50"), (one.id, "1.49"), (one.id, "1.50")]),
        ({gone.id: 1}, []),
    ):
        found = buy(conn, ana.id, wanted, *expected)
        there = [product for product in (one, two) if product.id in wanted]
        assert [(line.product_id, line.name, line.unit_price, line.stock) for line in found] == [
            (product.id, product.name, Decimal("1.50"), 5) for product in there
        ]
        assert {line.invoice_id for line in found} <= {None}
    assert invoices.list_invoices(conn, user_id=ana.id, before=0, limit=9) == []
    assert [product.stock for product in products.list_products(conn, after=0, limit=9)] == [5, 5]


def test_invoices_of_one_customer_newest_first(conn, make):
    ana, bob = make.user(), make.user()
    mine = [invoices.get_invoice(conn, invoice_id=make.invoice(ana.id)) for _ in range(3)]
    make.invoice(bob.id)
    assert invoices.list_invoices(conn, user_id=ana.id, before=0, limit=9) == mine[::-1]
    assert invoices.list_invoices(conn, user_id=ana.id, before=mine[2].id, limit=1) == [mine[1]]


def test_another_customers_invoice_is_no_place_in_a_list(conn, make):
    ana, bob = make.user(), make.user()
    mine, his = make.invoice(ana.id), make.invoice(bob.id)
    make.conn.execute("UPDATE invoices SET created_at = '2020-01-01' WHERE id = %s", (his,))
    assert [one.id for one in invoices.list_invoices(conn, user_id=ana.id, before=his, limit=9)] == [mine]


def test_all_invoices_are_found_by_status_customer_and_time(conn, make):
    ana, bob = make.user(), make.user()
    old, paid, bobs = make.invoice(ana.id), make.invoice(ana.id, status="paid"), make.invoice(bob.id)
    make.conn.execute("UPDATE invoices SET created_at = '2020-01-02' WHERE id = %s", (old,))
    make.conn.execute("UPDATE invoices SET created_at = '2020-01-03' WHERE id <> %s", (old,))

    def found(search=invoices.search_invoices, **filters):
        nothing = {"since": None, "until": None, "before": 0, "limit": 9}
        return [invoice.id for invoice in search(conn, **nothing | filters)]

    of_status = partial(found, invoices.search_invoices_by_status)
    of_user = partial(found, invoices.search_invoices_by_user, status=None)
    own = partial(found, invoices.list_invoices)
    first, second = (datetime(2020, 1, day, tzinfo=timezone.utc) for day in (2, 3))
    assert found() == [bobs, paid, old]
    assert (of_status(status="paid"), of_status(status="pending")) == ([paid], [bobs, old])
    assert (of_user(user_id=ana.id), of_user(user_id=LATEST)) == ([paid, old], [])
    assert of_user(user_id=ana.id, status="pending") == own(user_id=ana.id, status="pending") == [old]
    of_ana = {"user_id": ana.id}
    for search in (found, partial(of_status, status="pending"), partial(of_user, **of_ana), partial(own, **of_ana)):
        every = search()
        assert len(every) > 1
        assert (search(since=first), search(since=second)) == (
            every,
            [one for one in every if one != old],
        )  # at this time or later
        assert (search(until=first), search(until=second)) == ([], [old])  # and before this one
        assert search(since=first, until=second) == [old]
        assert (search(limit=1), search(before=every[0])) == (every[:1], every[1:])
        assert search(before=every[0], until=datetime(2020, 1, 4, tzinfo=timezone.utc), limit=1) == every[1:2]
    period = {"since": None, "until": None, "before": 0, "limit": 9}
    whole = [invoices.InvoiceWithEmail(**vars(invoices.get_invoice(conn, invoice_id=paid)), email=ana.email)]
    assert invoices.search_invoices_by_status(conn, status="paid", **period) == whole
    assert invoices.search_invoices_by_user(conn, user_id=ana.id, status="paid", **period) == whole
    assert invoices.search_invoices(conn, **period | {"before": bobs, "limit": 1}) == whole
    anything = {"number": whole[0].number, "user_id": None, "status": None, "since": None, "until": None}
    assert invoices.search_invoices_by_number(conn, **anything) == whole
    fitting = {"user_id": ana.id, "status": "paid", "since": second, "until": datetime(2020, 1, 4, tzinfo=timezone.utc)}
    assert invoices.search_invoices_by_number(conn, **anything | fitting) == whole
    other = {"number": "1999-000001", "user_id": bob.id, "status": "pending", "since": fitting["until"], "until": second}
    for name, value in other.items():
        assert invoices.search_invoices_by_number(conn, **anything | fitting | {name: value}) == []


def test_only_a_customers_own_words_are_erased(conn, make):
    ana, bob, boss = make.user(), make.user(), make.user(role="admin")
    cancelled = {"from_status": "pending", "to_status": "cancelled", "restocked": True}
    written = [(ana, ana, "hers"), (ana, ana, None), (ana, boss, "the shop's"), (bob, bob, "his"), (bob, ana, "hers of his")]
    for owner, actor, reason in written:
        invoice_id = make.invoice(owner.id)
        invoices.create_event(conn, invoice_id=invoice_id, **cancelled, actor_id=actor.id, reason=reason)
    assert invoices.erase_reasons(conn, user_id=ana.id) == 1
    left = conn.execute("SELECT reason FROM invoice_events ORDER BY id").fetchall()
    assert left == [(None,), (None,), ("the shop's",), ("his",), ("hers of his",)]
    assert invoices.erase_reasons(conn, user_id=ana.id) == 0


def test_a_change_of_status_and_its_goods(conn):
    ana = users.create_user(conn, email="ana@example.com", password=PHC)
    one, two = (create(conn, ana.id, name) for name in ("One", "Two"))
    first, second = (buy(conn, ana.id, wanted)[0].invoice_id for wanted in ({one.id: 2}, {two.id: 4}))
    assert invoices.lock_invoice(conn, invoice_id=first) == invoices.LockedInvoice("pending", ["cancelled", "paid"])
    assert invoices.lock_invoice(conn, invoice_id=LATEST) is None
    step = {"invoice_id": first, "from_status": "pending", "to_status": "cancelled"}
    assert invoices.update_status(conn, **step | {"from_status": "paid"}) == 0
    assert invoices.update_status(conn, **step) == 1
    assert invoices.create_event(conn, **step, actor_id=ana.id, restocked=True, reason=None) == 1
    assert invoices.lock_stock(conn, product_ids=[one.id]) == [invoices.LockedStock(one.id, 3)]
    back = {"product_ids": [one.id], "quantities": [2], "kind": "cancel_restock", "actor_id": ana.id}
    assert invoices.return_stock(conn, **back, invoice_id=first) == 1
    assert [line.restocked for line in invoices.list_invoice_details(conn, invoice_ids=[first, second])] == [2, 0]
    assert [product.stock for product in products.list_products(conn, after=0, limit=9)] == [5, 1]
    assert invoices.get_invoice(conn, invoice_id=second).status == "pending"
    assert invoices.lock_invoice(conn, invoice_id=first).allowed == []
    paid = {"invoice_id": second, "from_status": "pending", "to_status": "paid"}
    assert invoices.create_event(conn, **paid, actor_id=ana.id, restocked=False, reason="why") == 1
    assert invoices.get_invoice(conn, invoice_id=second).number is None
    assert invoices.update_status(conn, **paid) == 1
    assert invoices.get_invoice(conn, invoice_id=second).number == f"{year(conn)}-000001"
    assert invoices.get_invoice(conn, invoice_id=first).number is None
    assert [event.to_status for event in invoices.list_events(conn, invoice_ids=[first])] == ["cancelled"]
    assert [event.invoice_id for event in invoices.list_events(conn, invoice_ids=[second, first])] == [first, second]
    (event,) = invoices.list_events(conn, invoice_ids=[second])
    assert (event.from_status, event.actor_id, event.restocked, event.reason) == ("pending", ana.id, False, "why")
    assert invoices.get_references(conn, invoice_id=second) == invoices.InvoiceReferences(second, ana.id, [two.id])
    assert invoices.get_references(conn, invoice_id=LATEST) is None


def test_credit_notes_and_their_lines_belong_to_one_invoice(conn, make):
    ana, cat, dog = make.user(), make.product(price="1.50"), make.product(price="2.00")
    mine, other = (make.invoice(ana.id, {cat: 2, dog: 4}, status="paid") for _ in range(2))
    notes = [
        credit_notes.create_credit_note(conn, invoice_id=invoice_id, actor_id=ana.id, reason=reason)
        for invoice_id, reason in ((mine, "why"), (mine, None), (other, None))
    ]
    for note, invoice_id, quantity in zip(notes, (mine, mine, other), (1, 2, 3), strict=True):
        lines = {"product_ids": [dog], "quantities": [quantity], "restocks": [quantity == 1]}
        assert credit_notes.create_credit_note_lines(conn, credit_note_id=note, invoice_id=invoice_id, **lines) == 1
    first, second = credit_notes.list_credit_notes(conn, invoice_ids=[mine])
    assert (first.id, first.number, first.total, first.reason) == (notes[0], f"C{year(conn)}-000001", Decimal("2.00"), "why")
    assert (second.id, second.number, second.total) == (notes[1], f"C{year(conn)}-000002", Decimal("4.00"))
    name = make.scalar("SELECT name FROM products WHERE id = %s", dog)
    assert credit_notes.list_credit_note_lines(conn, invoice_ids=[mine]) == [
        credit_notes.CreditNoteLine(notes[0], dog, name, Decimal("2.00"), 1, Decimal("2.00"), True),
        credit_notes.CreditNoteLine(notes[1], dog, name, Decimal("2.00"), 2, Decimal("4.00"), False),
    ]
    both = {"invoice_ids": [other, mine]}
    assert [(note.id, note.invoice_id) for note in credit_notes.list_credit_notes(conn, **both)] == [
        *((notes[0], mine), (notes[1], mine), (notes[2], other))
    ]
    assert [line.credit_note_id for line in credit_notes.list_credit_note_lines(conn, **both)] == notes
    credited = [(line.invoice_id, line.credited) for line in invoices.list_invoice_details(conn, **both)]
    assert credited == [(mine, 0), (mine, 3), (other, 0), (other, 3)]


def test_numbers_count_by_the_year_in_utc(conn, make):
    ana = make.user().id
    make.conn.execute("INSERT INTO number_series VALUES ('invoice', 2000, 7), ('invoice', %s, 999998)", (year(conn),))
    conn.execute("SET LOCAL timezone = 'Pacific/Kiritimati'")  # where the new year begins 14 hours earlier
    for number in ("999999", "1000000"):
        paid = {"invoice_id": make.invoice(ana), "from_status": "pending", "to_status": "paid"}
        assert invoices.update_status(conn, **paid) == 1
        assert invoices.get_invoice(conn, invoice_id=paid["invoice_id"]).number == f"{year(conn)}-{number}"


def test_the_ledger_has_every_movement_newest_first_and_its_faults_are_found(conn):
    ana = users.create_user(conn, email="ana@example.com", password=PHC).id
    one, other = create(conn, ana, "One"), create(conn, ana, "Other", 0)
    update(conn, ana, one.id, stock=9, reason="counted")
    update(conn, ana, one.id, name="New")  # moves nothing
    rows = products.list_movements(conn, product_id=one.id, before=LATEST, limit=9)
    assert [(m.kind, m.delta, m.stock, m.actor_id, m.reason) for m in rows] == [
        ("adjust", 4, 9, ana, "counted"),
        ("initial", 5, 5, ana, None),
    ]
    assert products.list_movements(conn, product_id=one.id, before=rows[0].id, limit=9) == rows[1:]
    assert products.list_movements(conn, product_id=one.id, before=LATEST, limit=1) == rows[:1]
    assert [m.delta for m in products.list_movements(conn, product_id=other.id, before=LATEST, limit=9)] == [0]
    assert run_report(conn, "ledger_proof") == []


def test_a_key_is_taken_once_and_answers_after_that_for_a_day(conn, make):
    ana, bob = make.user().id, make.user().id
    mine = {"user_id": ana, "route": "POST /x", "key": "k"}
    assert idempotency.claim_key(conn, **mine, fingerprint=b"1" * 32) == ana
    assert idempotency.claim_key(conn, **mine, fingerprint=b"2" * 32) is None
    for other in ({"user_id": bob}, {"route": "POST /y"}, {"key": "K"}):
        assert idempotency.claim_key(conn, **mine | other, fingerprint=b"3" * 32) is not None
    assert idempotency.get_answer(conn, **mine) == idempotency.SavedAnswer(b"1" * 32, None, None, None)
    assert idempotency.save_answer(conn, **mine, status=201, location="/x/1", body=b"{}\n") == 1
    assert idempotency.get_answer(conn, **mine) == idempotency.SavedAnswer(b"1" * 32, 201, "/x/1", b"{}\n")
    assert idempotency.get_answer(conn, **mine | {"key": "K"}).status is None
    assert idempotency.get_answer(conn, **mine | {"key": "none"}) is None
    conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '23:59' WHERE user_id = %s", (ana,))
    assert idempotency.claim_key(conn, **mine, fingerprint=b"4" * 32) is None
    assert idempotency.purge_keys(conn) == 0
    conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '24:01' WHERE user_id = %s", (ana,))
    assert idempotency.claim_key(conn, **mine, fingerprint=b"4" * 32) == ana
    assert idempotency.get_answer(conn, **mine) == idempotency.SavedAnswer(b"4" * 32, None, None, None)
    assert idempotency.purge_keys(conn) == 2  # the new one stays, and bob's
    assert idempotency.get_answer(conn, **mine) is not None
    assert idempotency.get_answer(conn, **mine | {"user_id": bob}) is not None


def test_who_has_too_many_keys_waits_until_as_many_have_ended(conn, make):
    ana, bob = make.user().id, make.user().id
    for user_id, key, age in ((ana, "1", 25), (ana, "2", 23), (ana, "3", 22), (ana, "4", 1), (ana, '"4"', 1), (bob, "5", 1)):
        idempotency.claim_key(conn, user_id=user_id, route=f"POST /{key}", key=key, fingerprint=b"1" * 32)
        conn.execute("UPDATE idempotency_keys SET created_at = now() - %s * interval '1 h' WHERE key = %s", (age, key))
    waits = {most: idempotency.get_wait(conn, user_id=ana, most=most) for most in (1, 2, 3, 4)}
    assert waits == {1: 2 * 3600, 2: 3600, 3: None, 4: None}
    assert idempotency.get_wait(conn, user_id=bob, most=1) is None


def test_a_refusal_is_saved_in_short_from_schema_version_13_on(conn, make):
    mine = {"user_id": make.user().id, "route": "POST /x", "key": "k"}
    idempotency.claim_key(conn, **mine, fingerprint=b"1" * 32)
    assert idempotency.save_refusal(conn, **mine, status=409, short=b"[]", body=b"{}\n") == 1
    assert idempotency.get_answer(conn, **mine) == idempotency.SavedAnswer(b"1" * 32, 409, None, b"[]")


def test_the_keys_of_one_account_are_shown_oldest_first_and_removed_together(conn, make):
    ana, bob = make.user().id, make.user().id
    for user_id, key, age in ((ana, "new", 1), (bob, "his", 2), (ana, "old", 3)):
        idempotency.claim_key(conn, user_id=user_id, route="POST /x", key=key, fingerprint=b"1" * 32)
        conn.execute("UPDATE idempotency_keys SET created_at = now() - %s * interval '1 h' WHERE key = %s", (age, key))
    idempotency.save_answer(conn, user_id=ana, route="POST /x", key="old", status=201, location="/x/1", body=b"{}")
    old, new = idempotency.list_keys(conn, user_id=ana)
    assert (old.route, old.key, old.status, old.location) == ("POST /x", "old", 201, "/x/1")
    assert (new.key, new.status, new.location) == ("new", None, None)
    assert idempotency.delete_keys(conn, user_id=ana) == 2
    assert list(idempotency.list_keys(conn, user_id=ana)) == []
    assert [key.key for key in idempotency.list_keys(conn, user_id=bob)] == ["his"]
