"""A shop with texts from before their rule (versions 14 and 15): mended where they live on, kept where they are history."""

from __future__ import annotations

import psycopg
import pytest

from petstore import db
from petstore.db import schema
from petstore.db.differences import differences
from petstore.db.migrations import load_migrations, newest_version
from tests.client import Client
from tests.databases import first_release
from tests.factories import PASSWORD, Factory

BEFORE = next(version for version, migration in load_migrations().items() if migration.name == "check_names") - 1
NAMES = {  # before and after
    "Cat tree, oak": "Cat tree, oak",
    "\u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f469": "\u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f469",
    "a\r\nb\u0007": "a b",
    "\u202egnp.\u2066cat\u2069": "gnp.cat",
    "\u200b": "product 5",
    "\n": "product 6",
    "\u00a0\u2028\u3164": "product 7",
    "deleted\tone": "deleted one",
}
BAD = "\u202eturned\u0007"


@pytest.fixture
def old(cluster):
    with first_release(cluster, "mended") as name:
        schema.migrate(cluster.url("petstore_owner", name), to=BEFORE)
        with db.connect(cluster.url("petstore_owner", name)) as conn:
            make = Factory(conn)
            ana = make.user("ana@example.com")
            for before in NAMES:
                make.product(before, deleted=before.startswith("deleted"))
            for status in ("paid", "paid", "pending"):
                make.invoice(ana.id, dict.fromkeys(range(1, 9), 2), status=status)
            make.rows("SELECT stock_cause('adjust', NULL, NULL, %s)", BAD)
            cancelled = (
                "INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason)"
                " VALUES (3, 'pending', 'cancelled', %s, false, %s) RETURNING id"
            )
            make.rows(cancelled, ana.id, BAD)
            with conn.transaction():
                make.rows("INSERT INTO credit_notes (invoice_id, actor_id, reason) VALUES (2, %s, %s) RETURNING id", ana.id, BAD)
                conn.execute("INSERT INTO credit_note_lines VALUES (1, 2, 1, 1, false)")
            yield name, make, ana


def test_names_are_mended_as_edits_and_history_stays_and_goes_on(cluster, old, with_settings):
    name, make, ana = old
    said, movements = [], make.scalar("SELECT count(*) FROM stock_movements")
    schema.migrate(cluster.url("petstore_owner", name), report=said.append)
    assert dict(make.rows("SELECT id, name FROM products")) == dict(enumerate(NAMES.values(), 1))
    mended = [number for number, (before, after) in enumerate(NAMES.items(), 1) if before != after]
    assert make.rows("SELECT id FROM products WHERE version = 2 AND updated_at > created_at ORDER BY id") == [
        (n,) for n in mended
    ]
    assert make.rows("SELECT actor_id, subject_id, fields FROM audit_log WHERE action = 'product.update' ORDER BY id") == [
        (None, number, ["name"]) for number in mended
    ]
    told = [line for line in said if line.startswith("  ")]
    assert [f"product {number} " in line for number, line in zip(mended, told, strict=True)] == [True] * len(mended)
    assert not any(bad in "".join(told) for bad in ("gnp", "\u202e", "deleted"))
    assert make.scalar("SELECT count(*) FROM stock_movements") == movements
    assert make.rows("SELECT name FROM invoice_details WHERE invoice_id = 1 ORDER BY product_id") == [(n,) for n in NAMES]

    boss = make.user("boss@example.com", role="admin")
    urls = {"database_url": cluster.url("petstore_app", name), "owner_url": cluster.url("petstore_owner", name)}
    with (
        with_settings(**urls) as (services, server),
        Client(server.address, services.tokens.issue(boss)) as admin,
        Client(server.address, services.tokens.issue(ana)) as buyer,
    ):
        lines = [{"product_id": number, "quantity": 1} for number in range(1, 8)]
        assert buyer.post("/purchase_product", {"products": lines}).status == 201
        # Lines with a name that could not be written today are credited and restocked.
        assert admin.patch("/admin/invoices/1", {"status": "refunded", "reason": "torn"}).status == 200
        assert buyer.post("/me/delete", {"current_password": PASSWORD}).status == 204
    assert make.rows("SELECT reason FROM invoice_events WHERE invoice_id = 3") == [(None,)]
    assert make.rows("SELECT reason FROM credit_notes WHERE invoice_id = 2") == [(BAD,)]
    with db.connect(cluster.url("petstore_owner", name), options="-c search_path=m2_be_project") as conn:
        assert differences(conn, newest_version(), 2) == []


def test_a_name_that_comes_while_the_check_is_added_is_mended_after_it(cluster, old):
    """The file as it runs, stopped after its first round: an older release may add a name until the check is there."""
    name, make, _ = old
    migration = load_migrations()[BEFORE + 1]
    with db.connect(cluster.url("petstore_owner", name), options="-c search_path=m2_be_project") as conn:
        for statement in migration.statements:
            if statement.endswith("NOT VALID"):
                make.product("late\none")
            conn.execute(statement.encode())
    assert make.rows("SELECT name FROM products WHERE id > 8") == [("late one",)]
    assert make.scalar("SELECT convalidated FROM pg_constraint WHERE conname = 'products_name_readable'")
    with pytest.raises(psycopg.errors.CheckViolation):
        make.product("\u200b")


def test_an_interrupted_run_is_run_again(cluster, old):
    name, make, _ = old
    migration = load_migrations()[BEFORE + 1]
    with db.connect(cluster.url("petstore_owner", name), options="-c search_path=m2_be_project") as conn:
        conn.execute("SET ROLE petstore_owner")  # the tests may log in as a superuser
        for statement in migration.statements[:-2]:
            conn.execute(statement.encode())
    schema.migrate(cluster.url("petstore_owner", name))
    assert dict(make.rows("SELECT id, name FROM products")) == dict(enumerate(NAMES.values(), 1))
    assert make.rows("SELECT proname FROM pg_proc WHERE proname = 'mend_names'") == []
