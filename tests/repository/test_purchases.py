"""Purchases that meet: what each of them locks, and what it finds when it is let in."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from petstore import db
from petstore.repository import purchases
from petstore.repository.reports import run_report
from tests.client import Client
from tests.waiting import eventually


@pytest.fixture
def meeting(cluster, database, make):
    """meeting(wanted, change): what a purchase finds that began while `change` was not committed yet; in the plan's worst order."""

    def buy(conn, wanted):
        with conn.transaction():
            conn.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")
            return purchases.buy_products(
                conn,
                user_id=user_id,
                product_ids=list(wanted),
                quantities=list(wanted.values()),
                expected_ids=[],
                expected_prices=[],
            )

    def meet(wanted, change, meanwhile=lambda: None):
        with db.connect(url) as buyer, ThreadPoolExecutor(1) as thread:
            buyer.execute("SET statement_timeout = 0; SET lock_timeout = 0")  # it waits as long as this test takes
            with make.conn.transaction():
                make.conn.execute(change)
                found = thread.submit(buy, buyer, wanted)
                eventually(
                    lambda: make.scalar("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", buyer.info.backend_pid)
                )
                meanwhile()
            return found.result(10)

    url, user_id = cluster.url("petstore_app", database), make.user().id
    return meet


@pytest.fixture
def goods(make):
    """Three products, of which the first lies behind the others in the table."""
    ids = [make.product(price="1.50", stock=10) for _ in range(3)]
    make.conn.execute("UPDATE products SET name = 'First' WHERE id = %s", (ids[0],))
    return ids


def test_products_are_locked_in_the_order_of_their_ids(make, meeting, goods):
    first, second, third = goods
    free = []

    def look():
        rows = make.rows("SELECT id FROM products WHERE id <> %s ORDER BY id FOR UPDATE SKIP LOCKED", second)
        free.extend(product_id for (product_id,) in rows)

    found = meeting({third: 1, second: 1, first: 1}, f"SELECT FROM products WHERE id = {second} FOR UPDATE", look)
    assert free == [third]
    assert [line.product_id for line in found] == goods


def test_who_has_waited_buys_what_the_other_one_left(make, meeting, goods):
    change = f"UPDATE products SET stock = stock - 7, price = 2, name = 'Now' WHERE id = {goods[0]}"
    line, other = meeting({goods[0]: 3, goods[1]: 1}, change)
    assert (line.name, line.unit_price, line.stock, line.line_total, line.total) == ("Now", 2, 3, 6, Decimal("7.50"))
    assert (other.stock, other.invoice_id) == (10, line.invoice_id)
    assert [make.stock(product_id) for product_id in goods] == [0, 9, 10]
    assert run_report(make.conn, "ledger_proof") == []


def test_who_has_waited_buys_what_the_other_one_brought(make, meeting, goods):
    make.conn.execute("UPDATE products SET stock = 0 WHERE id = %s", (goods[0],))
    (line,) = meeting({goods[0]: 3}, f"UPDATE products SET stock = stock + 5 WHERE id = {goods[0]}")
    assert (line.stock, line.quantity, make.stock(goods[0])) == (5, 3, 2)
    assert run_report(make.conn, "ledger_proof") == []


def test_who_has_waited_gets_nothing_where_the_other_one_left_too_little(make, meeting, goods):
    line, other = meeting({goods[0]: 3, goods[1]: 1}, f"UPDATE products SET stock = stock - 8 WHERE id = {goods[0]}")
    assert (line.stock, line.invoice_id, other.stock, other.invoice_id) == (2, None, 10, None)
    assert [make.stock(product_id) for product_id in goods] == [2, 10, 10]
    assert make.scalar("SELECT count(*) FROM invoices") == 0


def test_what_was_taken_off_sale_meanwhile_is_not_found(make, meeting, goods):
    (line,) = meeting({goods[0]: 1, goods[1]: 1}, f"UPDATE products SET deleted_at = now() WHERE id = {goods[0]}")
    assert (line.product_id, line.invoice_id) == (goods[1], None)
    assert make.stock(goods[1]) == 10


def test_a_purchase_is_planned_once_for_all_that_is_bought_and_refused_on_a_connection(make, with_settings):
    ids, ana = [make.product(stock=10) for _ in range(20)], make.user()
    with with_settings(pool_size=1) as (services, server), Client(server.address, services.tokens.issue(ana)) as client:

        def buy(quantity, *product_ids):
            lines = [{"product_id": product_id, "quantity": quantity} for product_id in product_ids]
            return client.post("/purchase_product", {"products": lines}).status

        assert [buy(1, *ids[:count]) for count in (1, 20, 2, 3, 4, 5, 6, 7)] == [201] * 8
        assert [buy(quantity, ids[0]) for quantity in (11, 1, 12, 1)] == [409, 201, 409, 201]
        plans = services.db.read(
            lambda conn: conn.execute(
                "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%buy_products%'"
            ).fetchall()
        )
    assert plans == [(12, 0)]
