"""What is in the books stays: invoices, numbers, credit notes and the audit log, whoever writes."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from petstore import db
from tests.waiting import eventually


@pytest.fixture
def books(make, ana, pair):
    """A pending and a paid invoice of 3 × 12.50, an event and a credit note of the second one; a new admin, of whom the log tells."""
    make.user(role="admin")
    make.invoice(ana.id, {pair[0]: 3})
    paid = make.invoice(ana.id, {pair[0]: 3}, status="paid")
    with make.conn.transaction():
        make.conn.execute(
            "INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (%s, 'C2001-000001', %s)", (paid, ana.id)
        )
        make.conn.execute("INSERT INTO credit_note_lines VALUES (1, %s, %s, 1, false)", (paid, pair[0]))
    event = "INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (%s, 'paid', 'shipped', %s, false)"
    make.conn.execute(event, (paid, ana.id))
    tables = (
        "stock_movements",
        "credit_notes",
        "credit_note_lines",
        "invoice_events",
        "invoices",
        "invoice_details",
        "users",
        "audit_log",
    )
    return lambda: [make.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]


@pytest.mark.parametrize(
    "statement",
    [
        *[
            "UPDATE stock_movements SET reason = 'x'",
            "UPDATE credit_notes SET reason = 'x'",
            "UPDATE credit_note_lines SET restock = true",
        ],
        *["UPDATE invoice_events SET reason = 'x'", "UPDATE stock_movements SET delta = delta WHERE false"],
        *[f"DELETE FROM {table}" for table in ("stock_movements", "credit_notes", "credit_note_lines", "invoice_events")],
        *["DELETE FROM invoices", "DELETE FROM invoice_details", "DELETE FROM invoices WHERE status = 'pending'"],
        *["DELETE FROM users", "DELETE FROM users WHERE false", "DELETE FROM audit_log", "UPDATE audit_log SET fields = '{}'"],
        *[
            f"UPDATE invoice_events SET {column} = {column}"
            for column in ("invoice_id", "from_status", "to_status", "actor_id", "restocked", "created_at")
        ],
        *[
            f"UPDATE invoice_details SET {column} = {column}"
            for column in ("invoice_id", "product_id", "name", "unit_price", "quantity")
        ],
        *["UPDATE invoices SET total = total + 1 WHERE id = 1", "UPDATE invoices SET total = 0"],
        *[
            "UPDATE invoices SET number = '2001-999999' WHERE id = 2",
            "UPDATE invoices SET number = NULL, status = 'pending' WHERE id = 2",
        ],
    ],
)
def test_what_is_in_the_books_stays_for_the_owner_too(make, books, statement):
    before = books()
    with pytest.raises(psycopg.errors.RestrictViolation):
        make.conn.execute(statement)
    assert books() == before


def test_words_about_an_invoice_can_be_erased_and_not_altered(make, ana, books):
    words = "INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason) VALUES (1, %s, %s, %s, false, %s)"
    make.conn.execute(words, ("pending", "paid", ana.id, "hers"))
    make.conn.execute(words, ("paid", "shipped", ana.id, "others"))
    for changed in ("'mine'", "reason", "reason || ''"):
        with pytest.raises(psycopg.errors.RestrictViolation):
            make.conn.execute(f"UPDATE invoice_events SET reason = {changed} WHERE reason = 'hers'")
    make.conn.execute("UPDATE invoice_events SET reason = NULL WHERE reason = 'hers'")
    assert make.rows("SELECT from_status, reason FROM invoice_events WHERE invoice_id = 1 ORDER BY id") == [
        ("pending", None),
        ("paid", "others"),
    ]


def begin(conn, request):
    conn.execute("SELECT begin_request(%s)", (json.dumps(request),))


def test_nobody_acts_who_is_disabled_erased_or_unknown(make, ana, conn):
    bob = make.user()
    for actor in (ana.id, bob.id, None):
        begin(conn, {"actor_id": actor, "address": None})
    conn.execute("UPDATE users SET active = false WHERE id = %s", (ana.id,))
    for actor in (ana.id, 2**63 - 1):
        with pytest.raises(psycopg.errors.CheckViolation) as refusal, conn.transaction():
            begin(conn, {"actor_id": actor, "address": None})
        assert refusal.value.diag.constraint_name == "users_actor_active"
    begin(conn, {"actor_id": bob.id, "address": None})


def test_who_acts_cannot_be_erased_before_the_transaction_ends(make, ana, conn):
    bob = make.user()
    begin(conn, {"actor_id": ana.id, "address": None})
    assert make.rows("SELECT id FROM users FOR UPDATE SKIP LOCKED") == [(bob.id,)]
    assert make.rows("SELECT id FROM users ORDER BY id FOR NO KEY UPDATE SKIP LOCKED") == [(ana.id,), (bob.id,)]  # logs in, say


def test_a_number_is_given_once_and_what_does_not_change_may_be_written_again(make, books):
    make.conn.execute("UPDATE invoices SET number = '2001-000009', status = 'paid' WHERE id = 1")
    before = books()
    make.conn.execute("UPDATE invoices SET total = total, number = number")
    assert books() == before


LINE = "INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (currval('invoices_id_seq'), {}, 'x', {}, {})"


@pytest.mark.parametrize(
    ("total", "lines", "broken"),
    [
        ("0", [], None),
        ("37.60", [(1, "12.50", 3), (2, "0.05", 2)], None),
        ("0", [(1, "0", 3)], None),
        ("0.01", [], "invoices_total_is_sum"),
        ("37.51", [(1, "12.50", 3)], "invoices_total_is_sum"),
        ("12.50", [(1, "12.50", 3)], "invoices_total_is_sum"),
        ("37.50", [(1, "12.50", 3), (2, "0.05", 2)], "invoices_total_is_sum"),
    ],
)
def test_a_total_is_the_sum_of_its_lines_when_the_transaction_ends(make, ana, pair, total, lines, broken):
    def write():
        with make.conn.transaction():
            make.conn.execute("INSERT INTO invoices (user_id, total) VALUES (%s, %s::text::numeric)", (ana.id, total))
            for line in lines:
                make.conn.execute(LINE.format(*line))

    if broken is None:
        write()
    else:
        with pytest.raises(psycopg.errors.CheckViolation) as refusal:
            write()
        assert refusal.value.diag.constraint_name == broken
    assert make.scalar("SELECT count(*) FROM invoices") == (broken is None)


def test_no_line_is_added_to_an_invoice_later(make, books):
    before = books()
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        make.conn.execute(LINE.format(2, "0.01", 1))
    assert refusal.value.diag.constraint_name == "invoice_details_total_is_sum"
    assert books() == before


def test_a_line_total_is_price_times_quantity_and_nothing_else(make, books):
    assert make.rows("SELECT DISTINCT unit_price::text, quantity, line_total::text FROM invoice_details") == [
        ("12.50", 3, "37.50")
    ]
    given = (
        "INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity, line_total) VALUES (1, 2, 'x', 1, 1, 2)"
    )
    for statement in (given, "UPDATE invoice_details SET line_total = 0"):
        with pytest.raises(psycopg.errors.GeneratedAlways):
            make.conn.execute(statement)


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize(("end", "given"), [("COMMIT", 2), ("ROLLBACK", 1)])
def test_of_two_who_take_a_number_at_once_the_second_waits_and_there_is_no_gap(make, cluster, database, before, end, given):
    url = cluster.url("petstore_owner", database)

    def take(conn, series):
        return conn.execute("SELECT next_number(%s)", (series,)).fetchone()[0]

    for _ in range(before):
        take(make.conn, series="invoice")
    with db.connect(url) as first, db.connect(url) as second, ThreadPoolExecutor(1) as pool:
        first.execute("BEGIN")
        assert take(first, series="invoice").endswith(f"-{before + 1:06}")
        waiting = pool.submit(take, second, series="invoice")
        eventually(
            lambda: make.scalar("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", second.info.backend_pid) == 1
        )
        assert take(make.conn, series="credit_note").endswith("-000001")  # which waits for nobody
        first.execute(end)
        assert waiting.result().endswith(f"-{before + given:06}")
    assert make.rows("SELECT series, last FROM number_series ORDER BY series") == [
        ("credit_note", 1),
        ("invoice", before + given),
    ]


def test_a_status_changed_in_sql_follows_the_transitions_and_gives_the_number(make, ana):
    year = make.scalar("SELECT extract(year FROM now() AT TIME ZONE 'UTC')::int")
    first, second = make.invoice(ana.id), make.invoice(ana.id)
    for statement in ("UPDATE invoices SET status = 'shipped'", "UPDATE invoices SET status = 'refunded' WHERE id = 1"):
        with pytest.raises(psycopg.errors.CheckViolation, match="cannot become"):
            make.conn.execute(statement)
    make.conn.execute("UPDATE invoices SET status = 'paid' WHERE id = %s", (second,))
    make.conn.execute("UPDATE invoices SET status = 'shipped' WHERE id = %s", (second,))
    assert make.rows("SELECT id, status, number FROM invoices ORDER BY id") == [
        (first, "pending", None),
        (second, "shipped", f"{year}-000001"),
    ]


def test_a_credit_note_without_lines_is_none(make, ana):
    paid = make.invoice(ana.id, {make.product(): 1}, status="paid")
    with pytest.raises(psycopg.errors.CheckViolation, match="has no lines"):
        make.conn.execute("INSERT INTO credit_notes (invoice_id, actor_id) VALUES (%s, %s)", (paid, ana.id))
    assert make.rows("SELECT * FROM credit_notes") == make.rows("SELECT * FROM number_series") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE ended_at IS NOT NULL",
        "UPDATE sessions SET ended_at = now() WHERE ended_at IS NOT NULL",
        "UPDATE users SET token_version = 1 WHERE token_version = 2",
        "UPDATE users SET erased_at = NULL, email = 'x@example.com', password = 'x' WHERE erased_at IS NOT NULL",
        "UPDATE users SET role = 'admin' WHERE erased_at IS NOT NULL",
    ],
)
def test_what_has_ended_is_not_revived_by_the_owner_either(make, ana, statement):
    make.conn.execute("UPDATE users SET token_version = 2 WHERE id = %s", (ana.id,))
    make.conn.execute("UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE id = %s", (ana.session_id,))
    gone = make.user()
    erased = "email = NULL, password = NULL, active = false, erased_at = now()"
    make.conn.execute(f"UPDATE users SET {erased} WHERE id = %s", (gone.id,))
    with pytest.raises(psycopg.errors.RestrictViolation):
        make.conn.execute(statement)


def test_every_way_to_change_a_product_in_sql_is_in_the_audit_log(make):
    product_id = make.product()
    for change in ("price = 1", "deleted_at = now()", "price = 2", "deleted_at = NULL", "stock = 3"):
        make.conn.execute(f"UPDATE products SET {change} WHERE id = %s", (product_id,))
    assert make.rows("SELECT action, subject_id, fields, actor_id FROM audit_log ORDER BY id") == [
        ("product.update", product_id, ["price"], None),
        ("product.delete", product_id, ["deleted_at"], None),
        ("product.update", product_id, ["price"], None),
        ("product.update", product_id, ["deleted_at"], None),
    ]


def test_what_was_credited_or_restocked_never_gets_less(make, ana):
    make.invoice(ana.id, {make.product(): 2}, status="paid")
    make.conn.execute("UPDATE invoice_details SET credited = 2, restocked = 1")
    for statement in ("UPDATE invoice_details SET credited = 1", "UPDATE invoice_details SET restocked = 0"):
        with pytest.raises(psycopg.errors.RestrictViolation):
            make.conn.execute(statement)
