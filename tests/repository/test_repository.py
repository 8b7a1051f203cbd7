"""Every query, on a real database, beside a second row that must not match."""

from datetime import datetime, timezone
from decimal import Decimal
from functools import partial

import psycopg
import pytest

from petstore.db import Connection
from petstore.db.describe import describe
from petstore.db.queries import load_queries
from petstore.repository import idempotency, invoices, products, purchases, system, users
from petstore.repository.reports import run_report
from petstore.repository.startup_check import compare, functions

LATEST = 2**63 - 1
PHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"


def test_every_query_has_one_function_of_its_name_and_every_function_a_query():
    assert set(functions()) == set(load_queries())


@pytest.mark.parametrize("name", sorted(load_queries()))
def test_parameters_and_columns_of_a_query_are_those_of_its_function(conn, name):
    assert compare(functions()[name], describe(conn, load_queries()[name])) == []


def other_parameter(conn: Connection, *, product_id: str) -> products.Product | None: ...
def other_everything(conn: Connection, *, id: int) -> users.User | None: ...


def test_a_difference_between_query_and_function_is_named(conn):
    described = describe(conn, load_queries()["products/get_product"])
    (fault,) = compare(other_parameter, described)
    assert fault.startswith("parameter product_id is")
    faults = compare(other_everything, described)
    for name in ("parameter id", "parameter product_id", "column email", "column stock"):
        assert any(fault.startswith(f"{name} is in the ") for fault in faults)


def test_the_shop_says_what_it_is(conn):
    shop = system.get_shop(conn)
    assert (shop.version, shop.currency, shop.minor_digits) == (5, "USD", 2)
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
    return products.create_product(conn, name=name, price=Decimal("1.50"), stock=stock, actor_id=actor_id)


def update(conn, actor_id, product_id, **changes):
    columns = {"name": None, "price": None, "stock": None, "reason": None} | changes
    return products.update_product(conn, product_id=product_id, **columns, actor_id=actor_id)


def test_products_come_change_and_go(conn):
    boss = users.save_admin(conn, email="boss@example.com", password=PHC).id
    one, two = (create(conn, boss, name) for name in ("One", "Two"))
    assert products.get_product(conn, product_id=one.id) == one
    assert products.lock_product(conn, product_id=one.id) == products.EditedProduct(5, 1)
    changed = update(conn, boss, one.id, name="New")
    assert (changed.name, changed.price, changed.stock, changed.version) == ("New", Decimal("1.50"), 5, 2)
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
    first, second = (datetime(2020, 1, day, tzinfo=timezone.utc) for day in (2, 3))
    assert found() == [bobs, paid, old]
    assert (of_status(status="paid"), of_status(status="pending")) == ([paid], [bobs, old])
    assert (of_user(user_id=ana.id), of_user(user_id=LATEST)) == ([paid, old], [])
    assert of_user(user_id=ana.id, status="pending") == [old]
    for search in (found, partial(of_status, status="pending"), partial(of_user, user_id=ana.id)):
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
    whole = [invoices.get_invoice(conn, invoice_id=paid)]
    assert invoices.search_invoices_by_status(conn, status="paid", **period) == whole
    assert invoices.search_invoices_by_user(conn, user_id=ana.id, status="paid", **period) == whole
    assert invoices.search_invoices(conn, **period | {"before": bobs, "limit": 1}) == whole


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
        invoices.create_credit_note(conn, invoice_id=invoice_id, actor_id=ana.id, reason=reason)
        for invoice_id, reason in ((mine, "why"), (mine, None), (other, None))
    ]
    for note, invoice_id, quantity in zip(notes, (mine, mine, other), (1, 2, 3), strict=True):
        lines = {"product_ids": [dog], "quantities": [quantity], "restocks": [quantity == 1]}
        assert invoices.create_credit_note_lines(conn, credit_note_id=note, invoice_id=invoice_id, **lines) == 1
    first, second = invoices.list_credit_notes(conn, invoice_ids=[mine])
    assert (first.id, first.number, first.total, first.reason) == (notes[0], f"C{year(conn)}-000001", Decimal("2.00"), "why")
    assert (second.id, second.number, second.total) == (notes[1], f"C{year(conn)}-000002", Decimal("4.00"))
    name = make.scalar("SELECT name FROM products WHERE id = %s", dog)
    assert invoices.list_credit_note_lines(conn, invoice_ids=[mine]) == [
        invoices.CreditNoteLine(notes[0], dog, name, Decimal("2.00"), 1, Decimal("2.00"), True),
        invoices.CreditNoteLine(notes[1], dog, name, Decimal("2.00"), 2, Decimal("4.00"), False),
    ]
    both = {"invoice_ids": [other, mine]}
    assert [(note.id, note.invoice_id) for note in invoices.list_credit_notes(conn, **both)] == [
        *((notes[0], mine), (notes[1], mine), (notes[2], other))
    ]
    assert [line.credit_note_id for line in invoices.list_credit_note_lines(conn, **both)] == notes
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
    assert idempotency.list_keys(conn, user_id=ana) == []
    assert [key.key for key in idempotency.list_keys(conn, user_id=bob)] == ["his"]


BROKEN = [
    ("INSERT INTO users (email, password) VALUES ('x', '{phc}')", "users_email_form"),
    ("INSERT INTO users (email, password) VALUES (repeat('a', 250) || '@b.cd', '{phc}')", "users_email_form"),
    ("INSERT INTO users (email, password) VALUES ('a@b.c', 'plain text')", "users_password_is_a_hash"),
    ("INSERT INTO users (email, password, role) VALUES ('a@b.c', '{phc}', 'root')", "users_role_known"),
    ("INSERT INTO users (email, password) VALUES ('A@b.c', '{phc}'), ('a@B.c', '{phc}')", "users_email_key"),
    ("INSERT INTO users (email, password) VALUES (U&'\\00e9@b.c', '{phc}'), (U&'E\\0301@b.c', '{phc}')", "users_email_key"),
    ("INSERT INTO users (email, password, token_version) VALUES ('v@example.com', '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA', 0)", "users_token_version_positive"),
    *[
        (f"UPDATE users SET {columns}", "users_whole_or_erased")
        for columns in ("email = NULL", "password = NULL", "erased_at = now()", "email = NULL, password = NULL, active = false",
                        "password = NULL, active = false, erased_at = now()", "email = NULL, active = false, erased_at = now()",
                        "email = NULL, password = NULL, erased_at = now()",
                        "email = NULL, password = NULL, active = false, erased_at = now(), role = 'admin'")
    ],
    ("INSERT INTO sessions (user_id, token_version, expires_at) VALUES (9, 1, now() + interval '1 s')", "sessions_user_id_fkey"),
    ("INSERT INTO sessions (user_id, token_version, expires_at) VALUES (1, 1, now())", "sessions_ends_later"),
    ("UPDATE sessions SET ended_at = now(), end_reason = 'theft'", "sessions_end_reason_known"),
    ("UPDATE sessions SET ended_at = now()", "sessions_ended_whole"),
    ("UPDATE sessions SET end_reason = 'logout'", "sessions_ended_whole"),
    ("INSERT INTO refresh_tokens (token_hash, session_id) VALUES (sha256(''), 9)", "refresh_tokens_session_id_fkey"),
    ("INSERT INTO refresh_tokens (token_hash, session_id) VALUES ('the token itself', 1)", "refresh_tokens_hash_sha256"),
    *[
        (f"INSERT INTO audit_log (action, subject_id, fields) VALUES ('{action}', 1, '{{}}')", "audit_log_action_form")
        for action in ("user", "User.update", "user.update password", "user.update\n")
    ],
    ("INSERT INTO audit_addresses (audit_id, address) VALUES (9, '192.0.2.7')", "audit_addresses_audit_id_fkey"),
    ("INSERT INTO products (name, price, stock) VALUES ('', 1, 1)", "products_name_length"),
    ("INSERT INTO products (name, price, stock) VALUES (repeat('x', 201), 1, 1)", "products_name_length"),
    ("INSERT INTO products (name, price, stock) VALUES (' x', 1, 1)", "products_name_trimmed"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', -0.01, 1)", "amount_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 'NaN', 1)", "amount_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 'Infinity', 1)", "amount_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 19.999, 1)", "amount_minor_digits"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 999999999.01, 1)", "products_price_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 1, -1)", "products_stock_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 1, 1000000001)", "products_stock_range"),
    ("UPDATE products SET version = 0", "products_version_positive"),
    ("INSERT INTO invoices (user_id, total) VALUES (999, 1)", "invoices_user_id_fkey"),
    ("INSERT INTO invoices (user_id, total, status, number) VALUES (1, 1, 'sold', '2001-000001')", "invoices_status_fkey"),
    ("INSERT INTO invoices (user_id, total, status, number) VALUES (1, 1, 'paid', '2001-1')", "invoices_number_form"),
    ("INSERT INTO invoices (user_id, total, status, number) SELECT 1, 1, 'paid', number FROM invoices", "invoices_number_key"),
    ("INSERT INTO invoices (user_id, total, status) VALUES (1, 1, 'paid')", "invoices_number_since_paid"),
    ("INSERT INTO invoices (user_id, total, number) VALUES (1, 1, '2001-000001')", "invoices_number_since_paid"),
    ("UPDATE invoice_details SET credited = 2", "invoice_details_credited_range"),
    ("UPDATE invoice_details SET restocked = 2", "invoice_details_restocked_range"),
    ("UPDATE invoices SET status = 'delivered'", "invoices_enter_status"),
    ("INSERT INTO number_series VALUES ('other', 2026, 1)", "number_series_known"),
    ("INSERT INTO number_series VALUES ('invoice', 26, 1)", "number_series_year_range"),
    ("INSERT INTO number_series VALUES ('invoice', 2026, 0)", "number_series_positive"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (9, 'C2001-000002', 1)", "credit_notes_invoice_id_fkey"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, 'C2001-000002', 9)", "credit_notes_actor_id_fkey"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, 'C2001-000001', 1)", "credit_notes_number_key"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, '2001-000001', 1)", "credit_notes_number_form"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id, reason) VALUES (1, 'C2001-000002', 1, '')", "credit_notes_reason_length"),
    ("INSERT INTO credit_note_lines VALUES (9, 1, 1, 1, true)", "credit_note_lines_credit_note_fkey"),
    ("INSERT INTO credit_note_lines VALUES (1, 1, 2, 1, true)", "credit_note_lines_invoice_detail_fkey"),
    ("INSERT INTO credit_note_lines VALUES (1, 1, 1, 0, true)", "credit_note_lines_quantity_positive"),
    ("INSERT INTO credit_note_lines VALUES (1, 1, 1, 2, true)", "invoice_details_credited_range"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES (9, 'adjust', 1, 1)", "stock_movements_product_id_fkey"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id) VALUES (2, 'sale', -1, 1, 1)",
     "stock_movements_invoice_detail_fkey"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, actor_id) VALUES (1, 'adjust', 1, 1, 9)", "stock_movements_actor_id_fkey"),
    *[
        (f"INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id) VALUES (1, {values})", "stock_movements_sign")
        for values in ("'sale', 1, 1, 1", "'cancel_restock', -1, 1, 1", "'return_restock', -1, 1, 1", "'adjust', 0, 1, NULL",
                       "'initial', 2, 1, NULL", "'other', 1, 1, 1")
    ],
    ("INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES (1, 'sale', -1, 1)", "stock_movements_invoice_of_kind"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id) VALUES (1, 'adjust', 1, 1, 1)",
     "stock_movements_invoice_of_kind"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, reason) VALUES (1, 'adjust', 1, 1, '')", "stock_movements_reason_length"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint) VALUES (9, 'x', 'k', sha256(''))", "idempotency_keys_user_id_fkey"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint) VALUES (1, 'x', 'ü', sha256(''))", "idempotency_keys_key_form"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint) VALUES (1, 'x', 'k', '')", "idempotency_keys_fingerprint_sha256"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, body) VALUES (1, 'x', 'k', sha256(''), 500, '')",
     "idempotency_keys_status_range"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status) VALUES (1, 'x', 'k', sha256(''), 200)",
     "idempotency_keys_whole"),
    ("INSERT INTO invoices (user_id, total) VALUES (1, 1.001)", "amount_minor_digits"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 1, 'x', 1, 0)",
     "invoice_details_quantity_range"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 1, 'x', 1, 1)",
     "invoice_details_one_line_per_product"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (9, 1, 'x', 1, 1)",
     "invoice_details_invoice_id_fkey"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 9, 'x', 1, 1)",
     "invoice_details_product_id_fkey"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 2, '', 1, 1)",
     "invoice_details_name_length"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 2, 'x', 1000000000, 1)",
     "invoice_details_unit_price_range"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (1, 'delivered', 'pending', 1, false)",
     "invoice_events_transition_fkey"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (1, 'paid', 'refunded', 1, true)",
     "invoice_events_once"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (9, 'paid', 'shipped', 1, false)",
     "invoice_events_invoice_id_fkey"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (1, 'shipped', 'refunded', 9, true)",
     "invoice_events_actor_id_fkey"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason)"
     " VALUES (1, 'shipped', 'refunded', 1, true, repeat('x', 501))", "invoice_events_reason_length"),
    ("INSERT INTO invoice_statuses VALUES ('In Between')", "invoice_statuses_form"),
    ("INSERT INTO users (email, password) VALUES ('a@b.c', '$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdA$aGFzaA')",
     "users_password_is_a_hash"),
    ("INSERT INTO shop (id, currency, minor_digits) VALUES (2, 'USD', 2)", "shop_single_row"),
    ("UPDATE shop SET currency = 'usd'", "shop_currency_iso_4217"),
    ("UPDATE shop SET minor_digits = 5", "shop_minor_digits_range"),
    ("UPDATE schema_version SET version = 0", "schema_version_positive"),
    ("UPDATE invoice_transitions SET to_status = from_status", "invoice_transitions_moves"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "constraint"), BROKEN)
def test_the_database_itself_refuses_what_is_out_of_bounds(make, ana, statement, constraint):
    product_id, _ = make.product(), make.product()
    invoice_id = make.invoice(ana.id, {product_id: 1}, status="paid")
    make.conn.execute(
        "INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (%s, 'paid', 'shipped', %s, false)",
        (invoice_id, ana.id),
    )
    with make.conn.transaction():
        make.conn.execute(
            "INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (%s, 'C2001-000001', %s)", (invoice_id, ana.id)
        )
        make.conn.execute("INSERT INTO credit_note_lines VALUES (1, %s, %s, 1, false)", (invoice_id, product_id))
    with pytest.raises(psycopg.errors.IntegrityError) as refusal, make.conn.transaction(force_rollback=True):
        make.conn.execute(statement.replace("{phc}", PHC))
    assert refusal.value.diag.constraint_name == constraint


def test_every_constraint_has_a_name_of_ours_and_one_of_the_tests_above_breaks_it(make):
    named = {
        name
        for (name,) in make.rows(
            "SELECT conname FROM pg_constraint WHERE connamespace = 'm2_be_project'::regnamespace AND contype IN ('c', 'f', 'u')"
        )
        if not name.endswith("_not_null")
    }
    assert named - {constraint for _, constraint in BROKEN} == {
        "invoice_transitions_from_status_fkey",  # rows that schema.sql itself writes, and nobody else may
        "invoice_transitions_to_status_fkey",
        "credit_notes_of_invoice_key",  # follows from the primary key; there for the lines to refer to
    }


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM invoice_statuses",  # which petstore_report may
        "DELETE FROM users", "DELETE FROM products", "DELETE FROM invoices", "DELETE FROM invoice_details",
        "DELETE FROM invoice_events", "UPDATE invoice_events SET actor_id = 1", "UPDATE invoice_details SET quantity = 1",
        "UPDATE invoices SET total = 0", "UPDATE invoices SET user_id = 1", "UPDATE users SET created_at = now()",
        "UPDATE users SET id = DEFAULT", "INSERT INTO users (email, password, active) VALUES ('x@y.z', '', true)",
        "INSERT INTO users (email, password, token_version) VALUES ('x@y.z', '', 9)",
        "UPDATE sessions SET user_id = 1", "UPDATE sessions SET token_version = 1", "UPDATE sessions SET address = NULL",
        "UPDATE sessions SET created_at = now()",
        "INSERT INTO sessions (user_id, token_version, expires_at, created_at) VALUES (1, 1, now(), now())",
        "INSERT INTO sessions (user_id, token_version, expires_at, ended_at) VALUES (1, 1, now(), now())",
        "UPDATE refresh_tokens SET token_hash = sha256('')", "UPDATE refresh_tokens SET session_id = 1",
        "INSERT INTO refresh_tokens (token_hash, session_id, created_at) VALUES (sha256(''), 1, now())",
        "INSERT INTO refresh_tokens (token_hash, session_id, used_at) VALUES (sha256(''), 1, now())",
        "INSERT INTO audit_log (action, subject_id, fields) VALUES ('user.update', 1, '{}')",
        "UPDATE audit_log SET actor_id = NULL", "DELETE FROM audit_log", "TRUNCATE audit_log CASCADE", "SELECT record_audit()",
        "INSERT INTO audit_addresses (audit_id, address) VALUES (1, '::1')", "UPDATE audit_addresses SET address = '::1'",
        "TRUNCATE sessions CASCADE",
        "UPDATE products SET created_at = now()", "UPDATE shop SET currency = 'EUR'", "INSERT INTO schema_version VALUES (3)",
        "UPDATE products SET id = DEFAULT", "INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES (1, 'adjust', 1, 1)",
        "UPDATE stock_movements SET delta = 1", "DELETE FROM stock_movements", "UPDATE invoice_details SET credited = 0",
        "UPDATE invoice_details SET restocked = 0", "DELETE FROM credit_notes", "UPDATE credit_note_lines SET quantity = 1",
        "UPDATE number_series SET last = 1", "UPDATE invoices SET number = '2001-000001'", "SELECT next_number('invoice')",
        "INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, 'C2001-000001', 1)",
        "DELETE FROM invoice_transitions", "TRUNCATE users CASCADE", "CREATE TABLE x ()", "CREATE TABLE public.x ()",
        "CREATE TEMPORARY TABLE x ()",
        "INSERT INTO invoices (user_id, total, status) VALUES (1, 5, 'refunded')",
        "INSERT INTO invoices (user_id, total, created_at) VALUES (1, 5, '2001-01-01')",
        "INSERT INTO products (name, price, stock, version) VALUES ('x', 1, 1, 9)",
        "INSERT INTO users (email, password, created_at) VALUES ('x@y.z', '', '2001-01-01')",
        "INSERT INTO invoice_events (invoice_id, created_at) VALUES (1, '2001-01-01')",
    ],
)  # fmt: skip
def test_the_application_role_may_do_no_more_than_its_queries_need(conn, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
        conn.execute(statement)
