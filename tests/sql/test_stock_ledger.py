"""However stock is changed, the ledger has it, and nobody goes round it unseen."""

import psycopg
import pytest

from petstore.repository.reports import run_report


def moved(make, after=2):
    return make.rows("SELECT product_id, kind, delta, stock FROM stock_movements WHERE id > %s ORDER BY product_id, id", after)


NEW = "INSERT INTO products (name, price, stock) VALUES"
WITH_ID = "INSERT INTO products (id, name, price, stock) OVERRIDING SYSTEM VALUE VALUES (1, 'x', 1, 9), (7, 'y', 1, 4)"
MERGE = (
    "MERGE INTO products AS p USING (VALUES (2, 3), (8, 6)) AS w (id, stock) ON p.id = w.id"
    " WHEN MATCHED THEN UPDATE SET stock = w.stock WHEN NOT MATCHED THEN INSERT (name, price, stock) VALUES ('m', 1, w.stock)"
)


@pytest.mark.parametrize(
    ("statement", "movements"),
    [
        ("UPDATE products SET stock = 7 WHERE id = 1", [(1, "adjust", -3, 7)]),
        ("UPDATE products SET stock = stock + id", [(1, "adjust", 1, 11), (2, "adjust", 2, 22)]),
        ("UPDATE products SET stock = 10", [(2, "adjust", -10, 10)]),
        ("UPDATE products SET stock = stock, name = 'x', deleted_at = now()", []),
        ("UPDATE products SET stock = 1 WHERE id = 9", []),
        (f"{NEW} ('a', 1, 5), ('b', 1, 0)", [(3, "initial", 5, 5), (4, "initial", 0, 0)]),
        (f"{NEW.replace('VALUES', '')} SELECT name, price, stock FROM products", [(3, "initial", 10, 10), (4, "initial", 20, 20)]),
        (f"{WITH_ID} ON CONFLICT (id) DO UPDATE SET stock = excluded.stock", [(1, "adjust", -1, 9), (7, "initial", 4, 4)]),
        (f"{WITH_ID} ON CONFLICT DO NOTHING", [(7, "initial", 4, 4)]),
        ("WITH a AS (UPDATE products SET stock = 1 WHERE id = 1) UPDATE products SET stock = 2 WHERE id = 2",
         [(1, "adjust", -9, 1), (2, "adjust", -18, 2)]),
        ("DO 'BEGIN FOR i IN 1..2 LOOP UPDATE products SET stock = stock - i WHERE id = 1; END LOOP; END'",
         [(1, "adjust", -1, 9), (1, "adjust", -2, 7)]),
        (MERGE, [(2, "adjust", -17, 3), (3, "initial", 6, 6)]),
    ],
)  # fmt: skip
def test_however_stock_is_changed_the_ledger_has_it(make, pair, statement, movements):
    if statement == MERGE and make.conn.info.server_version < 150_000:
        pytest.skip("MERGE came with PostgreSQL 15")
    make.conn.execute(statement)
    assert moved(make) == movements
    told = {(None, f"in SQL, as {make.scalar('SELECT session_user')}")} if movements else set()
    assert set(make.rows("SELECT actor_id, reason FROM stock_movements WHERE id > 2")) == told
    assert run_report(make.conn, "ledger_proof") == []


def test_what_is_loaded_by_copy_is_in_the_ledger(make, pair):
    with make.conn.cursor().copy("COPY products (name, price, stock) FROM STDIN") as copy:
        for stock in (5, 0):
            copy.write_row(("x", "1.00", stock))
    assert moved(make) == [(3, "initial", 5, 5), (4, "initial", 0, 0)]
    assert run_report(make.conn, "ledger_proof") == []


@pytest.mark.parametrize("change", ["id = 9", "id = DEFAULT"])
def test_the_id_of_a_product_stays(make, pair, change):
    with pytest.raises((psycopg.errors.GeneratedAlways, psycopg.errors.ForeignKeyViolation)):
        make.conn.execute(f"UPDATE products SET {change} WHERE id = 1")
    assert run_report(make.conn, "ledger_proof") == []


@pytest.mark.parametrize(
    ("first", "kept"),
    [
        ("UPDATE products SET stock = 5 FROM {cause} WHERE id = 1", 1),
        ("UPDATE products SET name = 'x' FROM {cause} WHERE id = 1", 0),
        ("UPDATE products SET stock = 5 FROM {cause} WHERE id = 9", 0),
        ("INSERT INTO products (name, price, stock) SELECT 'x', 1, 1 FROM {cause}", 1),
        ("UPDATE products SET stock = -1 FROM {cause} WHERE id = 1", None),
    ],
)
def test_a_cause_is_good_for_one_statement(make, pair, first, kept):
    boss = make.user().id
    kind = "initial" if first.startswith("INSERT") else "adjust"
    statement = first.format(cause=f"stock_cause('{kind}', NULL, {boss}, 'counted')")
    with make.conn.transaction():
        if kept is None:
            with pytest.raises(psycopg.errors.CheckViolation), make.conn.transaction():
                make.conn.execute(statement)
        else:
            make.conn.execute(statement)
        make.conn.execute("UPDATE products SET stock = 3 WHERE id = 2")
    assert make.rows("SELECT actor_id, reason FROM stock_movements WHERE id > 2 ORDER BY product_id = 2, id") == [
        *[(boss, "counted")] * (kept or 0),
        (None, f"in SQL, as {make.scalar('SELECT session_user')}"),
    ]


INSERT_MOVEMENT = "INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES"


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        ("ALTER TABLE products DISABLE TRIGGER products_update_record_stock; UPDATE products SET stock = 7 WHERE id = 1",
         [(1, 7, 10, 0)]),
        (f"ALTER TABLE products DISABLE TRIGGER products_insert_record_stock; {NEW} ('x', 1, 5), ('x', 1, 0)",
         [(3, 5, 0, 0), (4, 0, 0, 0)]),
        ("ALTER TABLE stock_movements DISABLE TRIGGER USER; UPDATE stock_movements SET delta = 9, stock = 9 WHERE product_id = 2",
         [(2, 20, 9, 0)]),
        ("ALTER TABLE stock_movements DISABLE TRIGGER USER; DELETE FROM stock_movements", [(1, 10, 0, 0), (2, 20, 0, 0)]),
        (f"{INSERT_MOVEMENT} (1, 'adjust', 1, 11)", [(1, 10, 11, 0)]),
        (f"{INSERT_MOVEMENT} (1, 'adjust', 1, 99), (1, 'adjust', -1, 10)", [(1, 10, 10, 1)]),
    ],
)  # fmt: skip
def test_a_ledger_that_was_gone_round_is_found(make, pair, damage, faults):
    with make.conn.transaction(force_rollback=True):
        make.conn.execute(damage)
        assert [tuple(row.values()) for row in run_report(make.conn, "ledger_proof")] == faults
    assert run_report(make.conn, "ledger_proof") == []
