"""Drift that harms: GET /readyz names it, the start tells it, and a right that every payment needs stops the start."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from petstore import db
from petstore.cli.housekeep import Housekeeping
from petstore.db import schema
from petstore.db.differences import differences
from petstore.db.errors import WrongDatabase
from petstore.db.migrations import load_folder, newest_version
from petstore.repository import drift
from petstore.repository.startup_check import verify_database
from tests import commands
from tests.cli.test_housekeep import warnings
from tests.client import Client
from tests.databases import first_release
from tests.services import running
from tests.waiting import eventually

TRIGGER = "trigger products.products_update_record_stock is disabled"
# What a DBA may do by the way, what names it, and what undoes it.
HARMFUL = [
    ("ALTER TABLE products DISABLE TRIGGER products_update_record_stock", TRIGGER,
     "ALTER TABLE products ENABLE TRIGGER products_update_record_stock"),
    ("ALTER TABLE products DROP CONSTRAINT products_stock_range", "constraint products.products_stock_range is missing",
     "ALTER TABLE products ADD CONSTRAINT products_stock_range CHECK (stock BETWEEN 0 AND 1000000000)"),
    ("DROP INDEX invoices_of_user", "index invoices.invoices_of_user is missing",
     "CREATE INDEX invoices_of_user ON invoices (user_id, created_at, id)"),
    ("REVOKE UPDATE (status) ON invoices FROM petstore_app", "grant invoices.status petstore_app UPDATE is missing",
     "GRANT UPDATE (status) ON invoices TO petstore_app"),
]  # fmt: skip


@pytest.fixture(scope="module")
def drifting(cluster, template, settings):
    """A database for these tests: its owner's connection, and a service on it."""
    with cluster.database("drifting", template) as name, db.connect(cluster.url("petstore_owner", name)) as owner:
        urls = {"database_url": cluster.url("petstore_app", name), "owner_url": cluster.url("petstore_owner", name)}
        with running(replace(settings, **urls)) as (services, server), Client(server.address) as client:
            yield owner, services, client


@pytest.fixture
def own(drifting, monkeypatch):
    """The same, without drift, and the service looks for it whenever it is asked."""
    owner, services, _ = drifting
    monkeypatch.setattr(drift, "_SECONDS", 0.0)
    monkeypatch.setattr(services.drift, "_look_at", 0.0)
    monkeypatch.setattr(services.drift, "_sentences", [])
    yield drifting
    owner.execute("DELETE FROM schema_version WHERE version > %s", (newest_version(),))
    for one in differences(owner, newest_version(), 2):
        owner.execute(one.mend.encode())
        owner.execute(one.afterwards.encode())


@pytest.mark.parametrize(("change", "sentence", "undo"), HARMFUL)
def test_readyz_is_degraded_and_names_what_drifted_until_it_is_mended(own, change, sentence, undo):
    owner, _, client = own
    assert (client.get("/readyz").json()["status"], client.get("/readyz").json()["drift"]) == ("ready", [])
    owner.execute(change.encode())
    answer = client.get("/readyz")
    assert (answer.status, answer.json()["status"], answer.json()["drift"]) == (200, "degraded", [sentence])
    owner.execute(undo.encode())
    assert (client.get("/readyz").json()["status"], client.get("/readyz").json()["drift"]) == ("ready", [])


def test_what_harms_nobody_leaves_readyz_alone(own):
    owner, _, client = own
    owner.execute("CREATE INDEX of_the_dba ON m2_be_project.products (price)")
    owner.execute("CREATE TABLE m2_be_project.notes (note text)")
    assert client.get("/readyz").json()["drift"] == []


def test_readyz_looks_for_drift_once_in_a_while_only(own, monkeypatch):
    owner, _, client = own
    monkeypatch.setattr(drift, "_SECONDS", 3600.0)
    assert client.get("/readyz").json()["drift"] == []  # still by the interval before
    assert client.get("/readyz").json()["drift"] == []
    owner.execute(HARMFUL[0][0].encode())
    assert client.get("/readyz").json()["drift"] == []


def test_readyz_stays_ready_while_a_lock_hides_the_catalog(own):
    owner, _, client = own
    assert client.get("/readyz").status == 200
    with owner.transaction():
        owner.execute("LOCK TABLE m2_be_project.products")
        owner.execute("ALTER TABLE m2_be_project.products ADD COLUMN x text")
        started = time.monotonic()
        answer = client.get("/readyz")
        assert (answer.status, answer.json()["drift"]) == (200, [])
        assert time.monotonic() < started + 1  # not the 2 s that a query may wait


def test_what_a_running_migration_has_made_is_not_called_drift(own, tmp_path, caplog):
    owner, services, client = own
    version = newest_version() + 1
    (tmp_path / f"{version:04}_slow.sql").write_text(SLOW.replace("VERSION", str(version)))
    with ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(schema.migrate, services.settings.owner_url, migrations=load_folder(tmp_path))
        eventually(lambda: "x" in {row[0] for row in owner.execute(COLUMNS).fetchall()})
        assert client.get("/readyz").json()["drift"] == []
        Housekeeping(services.settings.database_url).run()
        assert warnings(caplog) == []
        done = commands.run(services.settings, "check")
        assert (done.returncode, done.stdout, "the schema is being migrated; run" in done.stderr) == (2, "", True)
        with db.connect(services.settings.database_url) as conn:
            assert verify_database(conn, currency="USD", minor_digits=2)
        assert not migrating.done()
        migrating.result()
    owner.execute(f"DELETE FROM m2_be_project.schema_version WHERE version = {version}")
    assert client.get("/readyz").json()["drift"] == ["a column that is not Petstore's, in products"]


COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = 'm2_be_project.products'::regclass"
SLOW = """-- Adds a column, and goes on for some time.
-- no transaction
--
-- Locks: ACCESS EXCLUSIVE on products, for milliseconds.
-- Rewrites: nothing.
-- Safe: yes
ALTER TABLE products ADD COLUMN x text;
REVOKE INSERT (user_id) ON invoices FROM petstore_app;
SELECT pg_sleep(3);
GRANT INSERT (user_id) ON invoices TO petstore_app;
INSERT INTO schema_version (version, name, safe) VALUES (VERSION, 'slow', true);
"""


def test_a_migration_that_ends_while_we_look_is_not_called_drift(cluster, monkeypatch):
    def migrate_and_look(conn, *arguments):
        schema.migrate(cluster.url("postgres", name))
        return look(conn, *arguments)

    look = drift.differences
    monkeypatch.setattr(drift, "differences", migrate_and_look)
    with first_release(cluster, "drift") as name, db.connect(cluster.url("petstore_app", name)) as conn:
        assert drift.harmful_differences(conn) is None
        assert drift.harmful_differences(conn) == []


def test_the_newest_of_a_newer_release_is_not_called_drift(own):
    owner, services, client = own
    owner.execute("INSERT INTO m2_be_project.schema_version (version, safe) VALUES (999, true)")
    owner.execute("ALTER TABLE m2_be_project.products ADD COLUMN x text")
    assert client.get("/readyz").json()["status"] == "ready"
    assert drift.DriftWatch().sentences(services.db.read) is None  # nobody knows


def test_housekeeping_logs_drift_when_it_is_new_and_when_it_is_mended(own, caplog):
    owner, services, _ = own
    housekeeping = Housekeeping(services.settings.database_url)
    owner.execute(HARMFUL[0][0].encode())
    housekeeping.run(), housekeeping.run()
    assert warnings(caplog) == [f"drift: {TRIGGER}; `petstore check` shows how to mend it"]
    owner.execute(HARMFUL[0][2].encode())
    caplog.set_level("INFO")
    housekeeping.run(), housekeeping.run()
    assert warnings(caplog, "INFO") == [f"drift mended: {TRIGGER}"]


NEEDED = """
    SELECT format('%s%s ON %s', x.privilege, x.columns, x.relation) FROM (
        SELECT a.privilege_type AS privilege, '' AS columns, c.oid::regclass AS relation
        FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a WHERE a.grantee = 'petstore_app'::regrole AND c.relkind = 'r'
        UNION ALL
        SELECT a.privilege_type, format(' (%s)', t.attname), t.attrelid::regclass
        FROM pg_attribute AS t CROSS JOIN aclexplode(t.attacl) AS a WHERE a.grantee = 'petstore_app'::regrole AND t.attnum > 0
    ) AS x
    WHERE x.relation::text IN ('invoices', 'invoice_details', 'invoice_events', 'products')
"""


def test_a_right_that_every_payment_needs_stops_the_start_with_the_line_that_mends_it(own):
    owner, services, _ = own
    rights = [right for (right,) in owner.execute(NEEDED).fetchall()]
    assert "UPDATE (status) ON invoices" in rights
    with db.connect(services.settings.database_url) as conn:
        for right in rights:
            owner.execute(f"REVOKE {right} FROM petstore_app".encode())
            privilege, _, relation = right.partition(" ON ")
            line = f"GRANT {privilege} ON m2_be_project.{relation} TO petstore_app;"
            with pytest.raises(WrongDatabase) as fault:
                verify_database(conn, currency="USD", minor_digits=2)
            assert str(fault.value) == f"rights are missing that every payment needs; run as petstore_owner: {line}"
            owner.execute(line.encode())
        assert verify_database(conn, currency="USD", minor_digits=2)


def test_another_right_that_is_missing_does_not_stop_the_start(own):
    owner, services, client = own
    owner.execute("REVOKE DELETE ON m2_be_project.audit_addresses FROM petstore_app")
    with db.connect(services.settings.database_url) as conn:
        assert verify_database(conn, currency="USD", minor_digits=2)
    assert client.get("/readyz").json()["drift"] == ["grant audit_addresses petstore_app DELETE is missing"]


@pytest.mark.parametrize(
    "thing", ["TABLE m2_be_project.stock_movements", "FUNCTION m2_be_project.next_number(text)", "SCHEMA m2_be_project"]
)
def test_a_right_that_the_owner_has_lost_stops_the_start_too_because_the_triggers_write_as_it(own, thing):
    owner, services, client = own
    owner.execute(f"REVOKE ALL ON {thing} FROM petstore_owner".encode())
    try:
        assert client.get("/readyz").json()["status"] == "degraded"
        with (
            db.connect(services.settings.database_url) as conn,
            pytest.raises(WrongDatabase, match=r"rights are missing that every payment needs; .* TO petstore_owner;"),
        ):
            verify_database(conn, currency="USD", minor_digits=2)
    finally:
        owner.execute(f"GRANT ALL ON {thing} TO petstore_owner".encode())
