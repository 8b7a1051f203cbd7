"""Every report, on rows whose sums are known, beside rows that must not count."""

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from petstore.db.describe import Description, describe
from petstore.db.queries import load_reports, parse_query
from petstore.repository.reports import run_report
from petstore.repository.startup_check import check_report

NOTHING = {"since": None, "until": None, "limit": 100}
FIRST, SECOND, THIRD = (datetime(2020, 1, day, tzinfo=timezone.utc) for day in (1, 2, 3))


@pytest.fixture
def bought(make, conn):
    """Makes an invoice: bought(user, lines, at, status, credited pieces by product), the id of it."""

    def buy(user, lines, at=None, status="paid", credited=None):
        invoice_id = make.invoice(user.id, lines, status)
        if at is not None:
            make.conn.execute("UPDATE invoices SET created_at = %s WHERE id = %s", (at, invoice_id))
        for product_id, pieces in (credited or {}).items():
            with make.conn.transaction():
                note = "INSERT INTO credit_notes (invoice_id, actor_id) VALUES (%s, %s) RETURNING id"
                note_id = make.scalar(note, invoice_id, user.id)
                make.conn.execute(
                    "INSERT INTO credit_note_lines VALUES (%s, %s, %s, %s, false)", (note_id, invoice_id, product_id, pieces)
                )
        return invoice_id

    return buy


def report(conn, name, **parameters):
    return [tuple(row.values()) for row in run_report(conn, name, **parameters)]


def test_revenue_counts_what_was_paid_by_utc_day_and_product_less_what_was_credited(conn, make, bought):
    ana, bob = make.user(), make.user()
    tree, bowl = make.product("Tree", "19.99"), make.product("Bowl", "0.10")
    bought(ana, {tree: 2, bowl: 3}, FIRST, credited={tree: 1})
    bought(bob, {tree: 1}, FIRST + timedelta(hours=23, minutes=59), status="delivered")
    bought(bob, {bowl: 7}, SECOND, status="refunded", credited={bowl: 7})
    make.conn.execute("UPDATE products SET name = 'Oak', price = '20.00', deleted_at = now() WHERE id = %s", (tree,))
    bought(bob, {tree: 4}, FIRST + timedelta(hours=12), status="shipped", credited={})
    for status in ("pending", "cancelled"):
        bought(ana, {tree: 5, bowl: 5}, FIRST, status)
    bought(ana, {bowl: 9}, FIRST - timedelta(microseconds=1))
    bought(ana, {bowl: 9}, THIRD)
    period = {"since": FIRST, "until": THIRD, "limit": 100}
    expected = [
        (date(2020, 1, 2), bowl, "Bowl", "USD", 7, Decimal("0.70"), Decimal("0.70"), Decimal("0.00")),
        (date(2020, 1, 1), tree, "Oak", "USD", 4, Decimal("80.00"), Decimal("0.00"), Decimal("80.00")),
        (date(2020, 1, 1), tree, "Tree", "USD", 3, Decimal("59.97"), Decimal("19.99"), Decimal("39.98")),
        (date(2020, 1, 1), bowl, "Bowl", "USD", 3, Decimal("0.30"), Decimal("0.00"), Decimal("0.30")),
    ]
    assert report(conn, "revenue_by_day_and_product", **period) == expected
    assert report(conn, "revenue_by_day_and_product", **period | {"limit": 2}) == expected[:2]
    conn.execute("SET LOCAL timezone = 'Pacific/Kiritimati'")  # whose day begins 14 hours earlier
    assert report(conn, "revenue_by_day_and_product", **period) == expected


def test_without_a_beginning_the_last_30_days_count(conn, make, bought):
    ana, bowl = make.user(), make.product("Bowl", "1.00")
    today = make.scalar("SELECT date_trunc('day', now(), 'UTC')")
    first = today - timedelta(days=29)
    bought(ana, {bowl: 1})
    bought(ana, {bowl: 2}, first)
    bought(ana, {bowl: 4}, first - timedelta(microseconds=1))
    conn.execute("SET LOCAL timezone = 'Pacific/Kiritimati'")
    assert [row[0::4] for row in report(conn, "revenue_by_day_and_product", **NOTHING)] == [(today.date(), 1), (first.date(), 2)]
    assert [row[0::4] for row in report(conn, "revenue_by_day_and_product", **NOTHING | {"until": today})] == [(first.date(), 2)]
    assert [row[2:4] for row in report(conn, "best_customers", **NOTHING)] == [(2, Decimal("3.00"))]
    assert [row[2:4] for row in report(conn, "best_customers", **NOTHING | {"until": today})] == [(1, Decimal("2.00"))]


def test_the_best_customers_are_those_of_whose_money_most_was_kept(conn, make, bought):
    ana, bob, cat, dan = (make.user(f"{name}@example.com") for name in ("Ana", "bob", "cat", "dan"))
    tree, bowl = make.product("Tree", "19.99"), make.product("Bowl", "0.10")
    bought(ana, {tree: 2, bowl: 1}, FIRST, credited={tree: 1, bowl: 1})
    bought(ana, {bowl: 1}, SECOND)
    bought(bob, {tree: 1, bowl: 1}, FIRST)
    bought(cat, {tree: 3}, FIRST, status="refunded", credited={tree: 3})
    bought(dan, {tree: 9}, FIRST, status="pending")
    bought(dan, {tree: 9}, FIRST, status="cancelled")
    bought(dan, {tree: 9}, THIRD)
    bought(dan, {tree: 9}, FIRST - timedelta(microseconds=1))
    erased = "UPDATE users SET email = NULL, password = NULL, active = false, erased_at = now() WHERE id = %s"
    make.conn.execute(erased, (bob.id,))
    period = {"since": FIRST, "until": THIRD, "limit": 100}
    expected = [
        (ana.id, "Ana@example.com", 2, Decimal("20.09"), "USD"),
        (bob.id, None, 1, Decimal("20.09"), "USD"),
        (cat.id, "cat@example.com", 1, Decimal("0.00"), "USD"),
    ]
    assert report(conn, "best_customers", **period) == expected
    bought(bob, {bowl: 1}, FIRST)
    assert report(conn, "best_customers", **period | {"limit": 1}) == [(bob.id, None, 2, Decimal("20.19"), "USD")]


def test_the_value_of_stock_is_that_of_what_is_on_sale_at_todays_prices(conn, make):
    assert report(conn, "stock_value") == [(0, 0, Decimal(0), "USD")]
    make.product(price="999999999.00", stock=1_000_000_000)
    make.product(price="999999999.00", stock=1_000_000_000)
    make.product(price="0.01", stock=3)
    make.product(price="5.00", stock=0)
    make.product(price="7.00", stock=7, deleted=True)
    assert report(conn, "stock_value") == [(4, 2_000_000_003, Decimal("1999999998000000000.03"), "USD")]


def test_low_stock_shows_the_fewest_first_of_what_is_on_sale(conn, make):
    ten, none, eleven, two = (make.product(f"P{stock}", stock=stock) for stock in (10, 0, 11, 2))
    also_two = make.product("P2 too", stock=2)
    make.product(stock=1, deleted=True)
    few = [(none, "P0", 0), (two, "P2", 2), (also_two, "P2 too", 2)]
    assert report(conn, "low_stock", stock=None, limit=100) == [*few, (ten, "P10", 10)]
    assert report(conn, "low_stock", stock=11, limit=100) == [*few, (ten, "P10", 10), (eleven, "P11", 11)]
    assert report(conn, "low_stock", stock=9, limit=100) == few
    assert report(conn, "low_stock", stock=0, limit=100) == few[:1]
    assert report(conn, "low_stock", stock=9, limit=2) == few[:2]


def test_unpaid_invoices_are_the_pending_ones_oldest_first(conn, make, bought):
    ana, bob = make.user("Ana@example.com"), make.user()
    tree = make.product(price="19.99")
    (now,) = conn.execute("SELECT now()").fetchone()
    ages = {"new": timedelta(0), "old": timedelta(days=14, seconds=1), "young": timedelta(days=13, hours=23)}
    ids = {name: bought(ana, {tree: 2}, now - age, "pending") for name, age in ages.items()}
    for status in ("paid", "shipped", "delivered", "cancelled", "refunded"):
        bought(ana, {tree: 1}, now - timedelta(days=99), status)
    make.conn.execute(
        "UPDATE users SET email = NULL, password = NULL, active = false, erased_at = now() WHERE id = %s", (bob.id,)
    )
    oldest = bought(bob, {tree: 1}, now - timedelta(days=400), "pending")
    rows = report(conn, "unpaid_invoices", older_than_days=None, limit=100)
    assert rows == [
        (oldest, bob.id, None, Decimal("19.99"), "USD", now - timedelta(days=400), 400),
        (ids["old"], ana.id, "Ana@example.com", Decimal("39.98"), "USD", now - ages["old"], 14),
        (ids["young"], ana.id, "Ana@example.com", Decimal("39.98"), "USD", now - ages["young"], 13),
        (ids["new"], ana.id, "Ana@example.com", Decimal("39.98"), "USD", now, 0),
    ]
    assert report(conn, "unpaid_invoices", older_than_days=14, limit=100) == rows[:2]
    assert report(conn, "unpaid_invoices", older_than_days=13, limit=100) == rows[:3]
    assert report(conn, "unpaid_invoices", older_than_days=0, limit=1) == rows[:1]
    assert report(conn, "unpaid_invoices", older_than_days=2**31 - 1, limit=100) == []


@pytest.mark.parametrize("name", sorted(load_reports()))
def test_a_report_can_be_answered(conn, name):
    assert check_report(load_reports()[name], describe(conn, load_reports()[name])) == []


HEADER = """-- What.
--
--   day  date     the day
--   id   bigint   an id
--   max  integer  the most; NULL (empty in psql) for any
--
"""


@pytest.mark.parametrize(
    ("sql", "faults"),
    [
        ("SELECT 1 AS x WHERE :'id'::bigint > nullif(:'max'::text, '')::int", ["parameter day is in the header only"]),
        (
            "SELECT 1 AS x WHERE :'id'::integer > :'max'::int AND :'day'::date < now()",
            [
                "parameter day is date in the header and date in PostgreSQL",
                "parameter id is bigint in the header and integer in PostgreSQL",
                "parameter max is integer in the header and integer in PostgreSQL",
            ],
        ),
        (
            "SELECT 1::float8 AS x, now()::timestamp AS y, '{}'::jsonb AS z, 1.0 AS n",
            [
                *("column x is double precision", "column y is timestamp without time zone", "column z is jsonb"),
                *(f"parameter {name} is in the header only" for name in ("day", "id", "max")),
            ],
        ),
    ],
)
def test_a_report_that_cannot_be_answered_says_why(conn, sql, faults):
    query = parse_query("reports/x", HEADER + sql + ";\n")
    assert check_report(query, describe(conn, query)) == faults


def test_a_column_of_any_kind_that_json_can_show_will_do():
    kinds = ("bigint", "integer", "text", "numeric", "boolean", "date", "timestamp with time zone", "bigint[]", "text[]")
    query = parse_query("reports/x", "-- What.\nSELECT 1;\n")
    assert check_report(query, Description({}, {kind: kind for kind in kinds})) == []
