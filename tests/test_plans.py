"""How PostgreSQL runs every SQL file in a big shop: none walks a big table, and docs/plans has the plans, for whoever keeps a database.

A plan that is meant to change is written down anew by: RECORD_PLANS=1 scripts/test --all tests/test_plans.py
"""

import difflib
import os

import pytest
from psycopg.sql import quote

from petstore import db
from petstore.queries import QUERIES, REPORTS, SQL_FOLDER, TOOLS
from tests.conftest import TABLES
from tests.psql_lines import line, statement, values

pytestmark = pytest.mark.slow

ALL = {**QUERIES, **REPORTS, **TOOLS}
FOLDER = SQL_FOLDER.parent / "docs/plans"
MAJOR = 18  # of the PostgreSQL whose plans are written down
BIG = 50_000  # rows
WALKS = {
    "reports/ledger_proof": "it proves every movement that there is",
    "reports/low_stock": "an index on stock would be paid for by every purchase",
    "reports/stock_value": "it is the sum of all",
}

# A million products, a million invoices, and as much of the rest as goes with them; docs/plans/README.md tells how much. Nothing in
# it is left to chance, so that the plans are the same each time.
PHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"
SHOP = f"""
INSERT INTO users (email, password, role)
SELECT 'user' || i || '@example.com', '{PHC}', CASE WHEN i % 25000 = 1 THEN 'admin' ELSE 'user' END
FROM generate_series(1, 100000) AS s (i);

INSERT INTO sessions (user_id, token_version, address, created_at, expires_at)
SELECT 1 + i % 100000, 1, '192.0.2.7', at, at + interval '30 days'
FROM generate_series(1, 200000) AS s (i), LATERAL (SELECT now() - (200000 - i) * interval '27 seconds') AS t (at);

INSERT INTO refresh_tokens (token_hash, session_id, created_at, used_at)
SELECT sha256(i::text::bytea), 1 + i % 200000, at, CASE WHEN i <= 200000 THEN at + interval '1 hour' END
FROM generate_series(1, 400000) AS s (i), LATERAL (SELECT now() - (400000 - i) * interval '13 seconds') AS t (at);

INSERT INTO audit_log (created_at, actor_id, action, subject_id, fields)
SELECT
    now() - (300000 - i) * interval '1 minute',
    1 + i % 100000,
    ('{{user.update,product.update,product.create,invoice.update,session.start}}'::text [])[1 + i % 5],
    1 + i % 100000,
    '{{role}}'
FROM generate_series(1, 300000) AS s (i);

INSERT INTO audit_addresses (audit_id, created_at, address)
SELECT id, created_at, '192.0.2.7' FROM audit_log
WHERE id > 150000;

INSERT INTO products (name, price, stock, deleted_at)
SELECT 'Product ' || i, (i % 10000) / 100.0, i % 1000, CASE WHEN i % 20 = 0 THEN now() END
FROM generate_series(1, 1000000) AS s (i);

INSERT INTO invoices (number, user_id, status, total, created_at)
SELECT
    CASE WHEN status NOT IN ('pending', 'cancelled') THEN '2026-' || lpad(i::text, 7, '0') END,
    1 + i * 7919::bigint % 100000,
    status,
    12.50,
    now() - (1000000 - i) * interval '1 minute'
FROM
    generate_series(1, 1000000) AS s (i),
    LATERAL (
        SELECT CASE
            WHEN i % 20 = 0 THEN 'cancelled'
            WHEN i % 20 = 1 THEN 'refunded'
            WHEN i % 20 = 2 OR i > 990000 THEN 'pending'
            WHEN i % 20 < 6 THEN 'paid'
            WHEN i % 20 < 9 THEN 'shipped'
            ELSE 'delivered'
        END
    ) AS t (status);

INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity)
SELECT i, 1 + (i * 104729::bigint + line * 500000) % 1000000, 'Product', 6.25, 1
FROM generate_series(1, 1000000) AS s (i), generate_series(0, i % 2) AS l (line);

INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason, created_at)
SELECT id, 'pending', 'paid', user_id, false, CASE WHEN id % 10 = 0 THEN 'why' END, created_at
FROM invoices;

INSERT INTO credit_notes (invoice_id, number, actor_id)
SELECT i * 4, 'C2026-' || lpad(i::text, 6, '0'), 1
FROM generate_series(1, 200000) AS s (i);

INSERT INTO credit_note_lines (credit_note_id, invoice_id, product_id, quantity, restock)
SELECT c.id, c.invoice_id, 1 + c.invoice_id * 104729::bigint % 1000000, 1, true FROM credit_notes AS c;

INSERT INTO stock_movements (product_id, kind, delta, stock) SELECT id, 'initial', 1000, 1000 FROM products;

INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id, actor_id)
SELECT product_id, 'sale', -1, 999, invoice_id, 1 FROM invoice_details
WHERE id % 3 = 0;

INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, body, created_at)
SELECT 1 + i % 100000, 'POST /purchase_product', 'k' || i, sha256(''), 201, '{{}}', now() - (300000 - i) * interval '0.3 seconds'
FROM generate_series(1, 300000) AS s (i);
"""


@pytest.fixture(scope="module")
def shop(cluster, template):
    """A superuser's connection to the big shop, in which nothing changes any more."""
    with cluster.database("plans", template) as name, db.connect(cluster.url("postgres", name)) as conn:
        conn.prepare_threshold = None
        conn.execute("SET session_replication_role = replica")  # no triggers and no foreign keys
        for table in TABLES:
            conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        later = indexes(conn)
        for index in later:
            conn.execute(f"DROP INDEX {index}")
        for statements in (SHOP, ";".join(later.values())):
            conn.execute(statements)
        conn.execute("SET default_statistics_target = 500")
        conn.execute("VACUUM (ANALYZE, FREEZE)")
        yield conn


def indexes(conn):
    """What makes each index that is not behind a constraint, by its name: they are faster made when the rows are there."""
    return dict(
        conn.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index AS i"
            " WHERE indrelid = ANY(%s::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)",
            (list(TABLES),),
        ).fetchall()
    )


def explain(conn, query, form, generic=False):
    """The plan for the values of the psql line, or for any values."""
    given = values(query)
    if not generic:
        return conn.execute(f"EXPLAIN ({form}) {statement(query, given)}").fetchall()
    with conn.transaction(force_rollback=True):
        conn.execute(f"SET LOCAL plan_cache_mode = force_generic_plan; PREPARE any_values AS {query.numbered()}")
        arguments = ", ".join(quote(given[name]) for name in query.names)
        try:
            return conn.execute(f"EXPLAIN ({form}) EXECUTE any_values" + (f" ({arguments})" if arguments else "")).fetchall()
        finally:
            conn.execute("DEALLOCATE any_values")


def nodes(plan, limited=False):
    """Each node, and whether a LIMIT above it may end it early."""
    yield plan, limited
    for child in plan.get("Plans", ()):
        yield from nodes(child, limited or plan["Node Type"] == "Limit")


def walks(conn, plan):
    """What of a plan goes through a big table or index without a condition, or has a great many rows at once."""
    sizes = dict(conn.execute("SELECT relname, reltuples FROM pg_class WHERE relkind IN ('r', 'i')").fetchall())
    for node, limited in nodes(plan):
        kind, source = node["Node Type"], node.get("Index Name", node.get("Relation Name"))
        unbounded = (
            kind.endswith("Scan") and kind != "Bitmap Heap Scan" and "Index Cond" not in node and sizes.get(source, 0) > BIG
        )
        many = node["Plan Rows"] > BIG and (not limited or kind in ("Sort", "Incremental Sort", "Hash", "Materialize"))
        if unbounded or many:
            yield f"{kind} of {source or 'what is below it'}"


@pytest.mark.parametrize("generic", [False, True], ids=["these values", "any values"])
@pytest.mark.parametrize("name", sorted(ALL))
def test_no_file_walks_a_big_table(shop, name, generic):
    [([plan],)] = explain(shop, ALL[name], "FORMAT JSON", generic)
    found = list(walks(shop, plan["Plan"]))
    assert bool(found) == (name in WALKS), found


def written_down(query, plan):
    return "\n".join([query.name, query.sentence, "", line(query), "", *(row for (row,) in plan), ""])


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_plan_is_the_one_that_is_written_down(shop, name):
    if shop.info.server_version // 10_000 != MAJOR:
        pytest.skip(f"the plans are those of PostgreSQL {MAJOR}")
    now = written_down(ALL[name], explain(shop, ALL[name], "COSTS OFF"))
    path = FOLDER / f"{name}.txt"
    if os.environ.get("RECORD_PLANS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(now, "utf-8")
    before = path.read_text("utf-8") if path.exists() else ""
    changed = "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), "written down", "now", lineterm=""))
    assert not changed, f"{changed}\nIf that is meant: RECORD_PLANS=1 scripts/test --all tests/test_plans.py"


def test_there_is_no_plan_of_what_is_no_longer_there():
    assert {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.txt")} == set(ALL)
