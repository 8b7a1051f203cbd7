"""A shop of a million products and a million invoices, or a small one of the same kind, made in SQL.

Nothing in it is left to chance, so that the plans are the same each time. docs/plans/README.md tells how much is in it. The account 2
buys and does a fiftieth of all; invoices that are refunded, and the action product.delete, are rare and long ago.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from petstore import db
from petstore.db.queries import Query
from tests.databases import Cluster
from tests.sql.psql_lines import statement, values
from tests.tables import TABLES

BIG, SMALL = 1_000_000, 10_000  # products, and invoices
BUSY = 2  # an account
# Shares of the shop's age, ago.
PERIODS: list[dict[str, Any]] = [{}, {"since": 0.9}, {"until": 0.3}, {"since": 0.9, "until": 0.3}]
RARE = {"status": "refunded", "action": "product.delete"}
PAGE = 51  # rows that a page of 50 asks for: one more tells whether there is a next page

# Every list with each of its filters, and with each pair that an index serves.
LISTS: list[tuple[str, dict[str, Any]]] = [
    ("products/list_products", {}),
    ("products/list_movements", {"product_id": 4}),
    ("users/list_users", {}),
    *(("invoices/list_invoices", {"user_id": BUSY, **period}) for period in PERIODS),
    *(("invoices/search_invoices", period) for period in PERIODS),
    *(("invoices/search_invoices_by_status", {"status": "paid", **period}) for period in PERIODS),
    ("invoices/search_invoices_by_status", {"status": RARE["status"]}),
    *(("invoices/search_invoices_by_user", {"user_id": BUSY, **period}) for period in PERIODS),
    *(("audit/list_entries", period) for period in PERIODS),
    *(("audit/list_entries_by_action", {"action": "user.update", **period}) for period in PERIODS),
    ("audit/list_entries_by_action", {"action": RARE["action"]}),
    *(("audit/list_entries_by_actor", {"actor_id": BUSY, **period}) for period in PERIODS),
]
# What an account did, or bought, is walked for what is rare in it: no index knows both.
PAIRS: list[tuple[str, dict[str, Any]]] = [
    ("invoices/list_invoices", {"user_id": BUSY, "status": RARE["status"]}),
    ("invoices/search_invoices_by_user", {"user_id": BUSY, "status": RARE["status"]}),
    ("audit/list_entries_by_actor", {"actor_id": BUSY, "action": RARE["action"]}),
]

_PHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"
_ROWS = """
INSERT INTO users (email, password, role)
SELECT 'user' || i || '@example.com', '{phc}', CASE WHEN i % 25000 = 1 THEN 'admin' ELSE 'user' END
FROM generate_series(1, {users}) AS s (i);

INSERT INTO sessions (user_id, token_version, address, created_at, expires_at)
SELECT 1 + i % {users}, 1, '192.0.2.7', at, at + interval '30 days'
FROM generate_series(1, {sessions}) AS s (i), LATERAL (SELECT now() - ({sessions} - i) * interval '27 seconds') AS t (at);

INSERT INTO refresh_tokens (token_hash, session_id, created_at, used_at)
SELECT sha256(i::text::bytea), 1 + i % {sessions}, at, CASE WHEN i <= {sessions} THEN at + interval '1 hour' END
FROM generate_series(1, 2 * {sessions}) AS s (i), LATERAL (SELECT now() - (2 * {sessions} - i) * interval '13 seconds') AS t (at);

INSERT INTO audit_log (created_at, actor_id, action, subject_id, fields)
SELECT
    now() - ({size} - i) * interval '1 minute',
    CASE WHEN i % 50 = 0 THEN 2 ELSE 1 + i % {users} END,
    CASE WHEN i % 500 = 1 AND i <= {size} / 10 THEN 'product.delete' ELSE
        ('{{user.update,product.update,product.create,invoice.update,session.start}}'::text [])[1 + i % 5]
    END,
    1 + i % {users},
    '{{role}}'
FROM generate_series(1, {size}) AS s (i);

INSERT INTO audit_addresses (audit_id, created_at, address)
SELECT id, created_at, '192.0.2.7' FROM audit_log
WHERE id > {size} * 17 / 20;

INSERT INTO products (name, price, stock, deleted_at)
SELECT 'Product ' || i, (i % 10000) / 100.0, i % 1000, CASE WHEN i % 20 = 0 THEN now() END
FROM generate_series(1, {size}) AS s (i);

INSERT INTO invoices (number, user_id, status, total, created_at)
SELECT
    CASE WHEN status NOT IN ('pending', 'cancelled') THEN '2026-' || lpad(i::text, 7, '0') END,
    CASE WHEN i % 50 = 0 THEN 2 ELSE 1 + i * 7919::bigint % {users} END,
    status,
    12.50,
    now() - ({size} - i) * interval '1 minute'
FROM
    generate_series(1, {size}) AS s (i),
    LATERAL (
        SELECT CASE
            WHEN i % 20 = 0 THEN 'cancelled'
            WHEN i % 20 = 1 AND i <= {size} / 10 THEN 'refunded'
            WHEN i % 20 = 2 OR i > {size} * 99 / 100 THEN 'pending'
            WHEN i % 20 < 6 THEN 'paid'
            WHEN i % 20 < 9 THEN 'shipped'
            ELSE 'delivered'
        END
    ) AS t (status);

INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity)
SELECT i, 1 + (i * 104729::bigint + line * {size} / 2) % {size}, 'Product', 6.25, 1
FROM generate_series(1, {size}) AS s (i), generate_series(0, i % 2) AS l (line);

INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason, created_at)
SELECT id, 'pending', 'paid', user_id, false, CASE WHEN id % 10 = 0 THEN 'why' END, created_at
FROM invoices;

INSERT INTO credit_notes (invoice_id, number, actor_id)
SELECT i * 4, 'C2026-' || lpad(i::text, 6, '0'), 1
FROM generate_series(1, {size} / 5) AS s (i);

INSERT INTO credit_note_lines (credit_note_id, invoice_id, product_id, quantity, restock)
SELECT c.id, c.invoice_id, 1 + c.invoice_id * 104729::bigint % {size}, 1, true FROM credit_notes AS c;

INSERT INTO stock_movements (product_id, kind, delta, stock) SELECT id, 'initial', 1000, 1000 FROM products;

INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id, actor_id)
SELECT CASE WHEN id % 60 = 0 THEN 4 ELSE product_id END, 'sale', -1, 999, invoice_id, 1 FROM invoice_details
WHERE id % 3 = 0;

INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, body, created_at)
SELECT
    1 + i % {users}, 'POST /purchase_product', 'k' || i, sha256(''), 201, '{{}}', now() - ({size} * 3 / 10 - i) * interval '0.3 seconds'
FROM generate_series(1, {size} * 3 / 10) AS s (i);
"""


@contextlib.contextmanager
def open_shop(cluster: Cluster, template: str, size: int) -> Iterator[Any]:
    """A superuser's connection to a shop of this size, in which nothing changes any more."""
    with cluster.database(f"shop_{size}", template) as name, db.connect(cluster.url("postgres", name)) as conn:
        fill(conn, size)
        yield conn


def fill(conn: Any, size: int) -> None:
    """Fill an empty shop, as a superuser. What would have to be paid for each row, such as triggers, is left out."""
    conn.execute("SET session_replication_role = replica")  # no triggers and no foreign keys
    for table in TABLES:
        conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    later = _indexes(conn)
    for index in later:
        conn.execute(f"DROP INDEX {index}")
    rows = _ROWS.format(size=size, users=size // 10, sessions=size // 5, phc=_PHC)
    for statements in (rows, ";".join(later.values())):
        conn.execute(statements)
    conn.execute("SET default_statistics_target = 500")
    conn.execute("VACUUM (ANALYZE, FREEZE)")


def asked(query: Query, filters: dict[str, Any], size: int, cursor: int | None = None) -> dict[str, str]:
    """What psql would give to each parameter of a list, for the page after `cursor` or for the first one."""
    place = "after" if "after" in query.names else "before"
    given = dict.fromkeys(query.names, "") | {"limit": str(PAGE), place: str(cursor or values(query)[place])}
    now = datetime.now(timezone.utc)
    for name, value in filters.items():
        given[name] = (now - value * size * timedelta(minutes=1)).isoformat() if name in ("since", "until") else str(value)
    return given


def deep_cursor(conn: Any, query: Query, given: dict[str, str]) -> int:
    """The last id before page 10,000; before the middle, of a list that is shorter."""
    whole = statement(query, given | {"limit": "1000000"}).rstrip(";")
    ids = conn.execute(f"SELECT array_agg(id) FROM ({whole}) AS list").fetchone()[0]
    return int(ids[min(9_999 * 50, len(ids) // 2) - 1])


def _indexes(conn: Any) -> dict[str, str]:
    """What makes each index that is not behind a constraint, by its name: they are faster made when the rows are there."""
    return dict(
        conn.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index AS i"
            " WHERE indrelid = ANY(%s::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)",
            (list(TABLES),),
        ).fetchall()
    )
