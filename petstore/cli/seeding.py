"""Fills a database with COPY: the demo catalogue, or any number of products, users and invoices for load tests.

The SQL of this tool is here, because sql/queries holds what the service runs.
"""

from __future__ import annotations

import csv
import random
import sys
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from importlib import resources
from typing import Any

from petstore.auth import passwords
from petstore.db import Connection


class NothingToSell(Exception):
    """Invoices cannot be loaded, as users or products are missing. The text says what to do."""


LOAD_PASSWORD = "load-test-password"  # noqa: S105 - of every user that load() makes
_BATCH = 10_000  # invoices of one COPY
_SAMPLE = 10_000  # products that the invoices are about


def lock(conn: Connection) -> None:
    """Take the advisory lock of seeding until the transaction ends."""
    conn.execute("SELECT pg_advisory_xact_lock(hashtext('petstore seeding'))")


def is_empty(conn: Connection) -> bool:
    """Whether there are neither products nor users."""
    row = conn.execute("SELECT NOT EXISTS (SELECT FROM products) AND NOT EXISTS (SELECT FROM users)").fetchone()
    return row is not None and bool(row[0])


def demo_catalogue(minor_digits: int) -> Iterator[tuple[str, Decimal, int]]:
    """Name, price and stock of every demo product, in id order. In a currency without minor digits 5.49 becomes 549."""
    text = (resources.files("petstore.cli") / "demo_catalogue.csv").read_text("utf-8")
    for row in csv.DictReader(text.splitlines()):
        price = Decimal(row["price"]).scaleb(0 if minor_digits else 2)
        yield row["name"], price.quantize(Decimal(1).scaleb(-minor_digits)), int(row["stock"])


def seed_demo(conn: Connection, minor_digits: int) -> int:
    """Add those demo products that are not on sale; how many."""
    catalogue = list(demo_catalogue(minor_digits))
    with conn.transaction():
        lock(conn)
        on_sale = "SELECT name FROM products WHERE deleted_at IS NULL AND name = ANY(%s)"
        present = set(_column(conn, on_sale, [name for name, _, _ in catalogue]))
        return _copy(conn, "products (name, price, stock)", (row for row in catalogue if row[0] not in present))


def load(conn: Connection, *, products: int, users: int, invoices: int, minor_digits: int) -> None:
    """Add products, users (password LOAD_PASSWORD) and pending invoices of 1 to 3 lines. The stock is not changed."""
    tag = f"{time.time_ns():x}"  # makes the emails of each run unique
    if products:
        rows = _progress("products", products, _products(products, minor_digits))
        _copy(conn, "products (name, price, stock)", rows)
    if users:
        phc = passwords.hash_password(LOAD_PASSWORD)
        emails = ((f"user{number}-{tag}@example.com", phc) for number in range(1, users + 1))
        _copy(conn, "users (email, password)", _progress("users", users, emails))
    if invoices:
        _load_invoices(conn, invoices)
    # Only tables that were filled: after ANALYZE of an empty one PostgreSQL plans sequential scans, also when it has grown.
    filled = {"products": products, "users": users, "invoices": invoices, "invoice_details": invoices}
    for table in (table for table, count in filled.items() if count):
        conn.execute(f"VACUUM (ANALYZE) {table}".encode())


def _products(count: int, minor_digits: int) -> Iterator[tuple[str, Decimal, int]]:
    catalogue = list(demo_catalogue(minor_digits))
    for number in range(count):
        name, price, stock = catalogue[number % len(catalogue)]
        yield f"{name}, no. {number + 1}", price, stock + 1000


def _load_invoices(conn: Connection, count: int) -> None:
    user_ids = _column(conn, "SELECT id FROM users ORDER BY id DESC LIMIT 100000")
    products = conn.execute(
        f"SELECT id, name, price FROM products WHERE deleted_at IS NULL ORDER BY id DESC LIMIT {_SAMPLE}".encode()
    ).fetchall()
    if not user_ids or not products:
        raise NothingToSell("invoices need at least one user and one product: add --users N --products N")
    rng = random.Random(count)
    with conn.transaction():
        done = _progress("invoices", count, iter(range(count)))
        for first in range(0, count, _BATCH):
            size = min(_BATCH, count - first)
            reserve = "SELECT nextval(pg_get_serial_sequence('invoices', 'id')) FROM generate_series(1, %s)"
            invoices, details = [], []
            for invoice_id in _column(conn, reserve, size):
                lines = [(*row, rng.randint(1, 3)) for row in rng.sample(products, min(len(products), rng.randint(1, 3)))]
                total = sum(price * quantity for _, _, price, quantity in lines)
                invoices.append((invoice_id, rng.choice(user_ids), total))
                details += [(invoice_id, *line) for line in lines]
                next(done)
            _copy(conn, "invoices (id, user_id, total)", invoices)
            _copy(conn, "invoice_details (invoice_id, product_id, name, unit_price, quantity)", details)
        next(done, None)


def _column(conn: Connection, sql: str, *parameters: Any) -> list[Any]:
    return [row[0] for row in conn.execute(sql.encode(), parameters).fetchall()]


def _copy(conn: Connection, target: str, rows: Iterable[tuple[Any, ...]]) -> int:
    with conn.cursor() as cursor:
        with cursor.copy(f"COPY {target} FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)
        return int(cursor.rowcount)


def _progress(name: str, total: int, rows: Iterator[Any]) -> Iterator[Any]:
    """Pass the rows on, with a progress bar on standard error; without a terminal, one line at the end."""
    terminal, step = sys.stderr.isatty(), max(1, total // 100)
    for number, row in enumerate(rows, 1):
        yield row
        if terminal and (number % step == 0 or number == total):
            bar = "#" * (40 * number // total)
            sys.stderr.write(f"\r{name:>9} [{bar:<40}] {number:,} of {total:,}")
    sys.stderr.write("\n" if terminal else f"{total:,} {name}\n")
