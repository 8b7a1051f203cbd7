"""The order in which rows are locked (docs/database.md, Locks): the headers tell the truth about it, and every transaction keeps to it."""

import re

import pytest

from petstore import db
from petstore.cli.housekeep import PURGES
from petstore.db import Connection
from petstore.db.queries import load_queries, sql_folder
from petstore.repository import system
from tests.factories import PASSWORD
from tests.routes.logins import NEW_PASSWORD, login, logout, refresh
from tests.sql.test_grants import SHOP, statements

PAGE = (sql_folder().parent / "docs/database.md").read_text("utf-8")
HOUSEKEEPING = "advisory lock of housekeeping"
# What is locked, and its first place.
ORDER = {
    name: int(place)
    for place, what in reversed(re.findall(r"^\| ([0-9]+) \| (.*?) \|", PAGE, re.MULTILINE))
    for name in [*re.findall("`([a-z_]+)`", what), *re.findall(HOUSEKEEPING, what)]
}
# Nobody locks a row that is there, except FOR KEY SHARE, which waits for none of the others here.
WITHOUT = {"audit_log", "credit_notes", "credit_note_lines", "stock_movements", "invoice_statuses", "invoice_transitions"}
UNTOLD = {"audit_log", "audit_addresses", "stock_movements", "invoice_statuses"}  # triggers add rows; a status never changes
QUERIES = load_queries()
KEY = {"Idempotency-Key": "k"}
LOCKED = """
    SELECT c.relname FROM pg_locks AS l JOIN pg_class AS c ON l.relation = c.oid AND c.relkind = 'r'
    WHERE l.pid = pg_backend_pid() AND l.mode IN ('RowShareLock', 'RowExclusiveLock')
"""
REFERRED = """
    SELECT DISTINCT f.relname FROM pg_constraint AS c JOIN pg_class AS r ON c.conrelid = r.oid JOIN pg_class AS f ON c.confrelid = f.oid
    WHERE c.contype = 'f' AND r.relname = any(%s)
"""


def told(name):
    """What the header says: what is locked, in its order; and the tables that get new rows."""
    text = QUERIES[name].path.read_text("utf-8")
    header = re.search(r"^-- Locks: ((?:.*\n)(?:-- (?!psql ).*\n)*)", text, re.MULTILINE)[1]
    locked, _, added = header.replace("\n-- ", " ").partition("Adds ")
    names = rf"\b(?:{'|'.join(sorted(ORDER.keys() | WITHOUT, key=len, reverse=True))})\b"
    return re.findall(names, locked), re.findall(names, added)


def places(name):
    return [ORDER[one] for one in told(name)[0]]


def test_the_page_gives_every_table_its_place_or_none(make):
    tables = {name for (name,) in make.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'm2_be_project'")}
    assert ORDER.keys() - tables == {HOUSEKEEPING}
    assert tables - ORDER.keys() - WITHOUT == {"shop", "schema_version"}  # which the service only reads


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_locks_in_the_order_of_the_page(name):
    assert places(name) == sorted(places(name))


@pytest.fixture(scope="module")
def shop(cluster, template):
    """A database in which every query finds something to do."""
    with cluster.database("locks", template) as name, db.connect(cluster.url("postgres", name)) as conn:
        with conn.transaction():
            conn.execute(SHOP)
        conn.execute("SET search_path = m2_be_project")
        yield conn


@pytest.mark.parametrize(("name", "sql"), statements(QUERIES).items(), ids=QUERIES)
def test_the_header_tells_every_table_in_which_a_query_locks_or_adds_rows(shop, name, sql):
    with shop.transaction(force_rollback=True):
        shop.execute(sql)
        seen = {table for (table,) in shop.execute(LOCKED)}
    locked, added = told(name)
    referred = {table for (table,) in shop.execute(REFERRED, (added,))}
    assert (set(locked) - {HOUSEKEEPING}) | set(added) <= seen
    assert seen - set(locked) - set(added) - UNTOLD <= referred


@pytest.fixture
def transactions(monkeypatch):
    """The names of the queries of each transaction that begins from now on."""
    open_now, found = {}, []
    queue_command, queue = Connection.queue_command, Connection.queue

    def noted_command(conn, command):
        if command.startswith("BEGIN"):
            open_now[conn] = []
            found.append(open_now[conn])
        queue_command(conn, command)

    def noted_queue(conn, query, parameters, on_result=None):
        open_now.setdefault(conn, []).append(query.name)
        queue(conn, query, parameters, on_result)

    monkeypatch.setattr(Connection, "queue_command", noted_command)
    monkeypatch.setattr(Connection, "queue", noted_queue)
    return found


def test_every_transaction_locks_in_the_order_of_the_page(make, service, anyone, boss, admin, buyer, transactions):
    product, other = make.product(stock=50), make.product(stock=50)
    wanted = {"products": [{"product_id": product, "quantity": 2}, {"product_id": other, "quantity": 1}]}
    back = {"product_id": product, "quantity": 1}

    def buy(number):
        return buyer.post("/purchase_product", wanted, headers={"Idempotency-Key": f"k{number}"})

    first, paid, returned = (buy(number).json()["id"] for number in range(3))
    tokens = login(anyone)
    refused = admin.patch(
        f"/modify_product?id={product}", {"stock": 7, "expected_stock": 0}, headers={"Idempotency-Key": "refused"}
    )
    assert refused.status == 409
    answers = [
        anyone.post("/register", {"email": "new@example.com", "password": NEW_PASSWORD}),
        refresh(anyone, tokens),
        logout(anyone, tokens),
        buyer.post(f"/invoices/{first}/cancel", {"reason": "too big"}),
        admin.patch(f"/admin/invoices/{paid}", {"status": "paid"}, headers=KEY),
        admin.patch(f"/admin/invoices/{paid}", {"status": "refunded"}),
        admin.patch(f"/admin/invoices/{returned}", {"status": "paid"}),
        admin.post(f"/admin/invoices/{returned}/credit_notes", {"lines": [{**back, "restock": False}]}, headers=KEY),
        admin.post(f"/admin/invoices/{returned}/credit_notes", {"lines": [{**back, "restock": True}]}),
        admin.post("/create_product", {"name": "x", "price": "1.00", "stock": 1}, headers=KEY),
        admin.patch(f"/modify_product?id={product}", {"stock": 7, "reason": "counted"}, headers=KEY),
        admin.delete(f"/delete_product?id={other}"),
        admin.patch(f"/admin/users/{boss.id}", {"active": True}),
        admin.post("/me/password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
        buyer.post("/me/delete", {"current_password": PASSWORD}),
    ]
    assert [answer.body for answer in answers if answer.status >= 300] == []
    assert refresh(anyone, tokens).status == 401
    for purge in PURGES.values():
        service[0].db.transact(lambda conn, purge=purge: system.lock_housekeeping(conn) and purge(conn))
    locking = {name for name in QUERIES if told(name) != ([], [])}
    assert locking - {name for names in transactions for name in names} == {"users/save_admin", "users/rehash_password"}
    for names in transactions:
        met = dict.fromkeys(place for name in names if name in QUERIES for place in places(name))
        assert list(met) == sorted(met), names
