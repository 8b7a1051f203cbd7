"""Migrations of every kind in a shop of a million products and a million invoices, in which 20 buyers buy and read all the time.

The files in trials/ are written as docs/database.md says, to be copied; those in trials/blocking are not, and must be caught.
"""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from petstore import db
from petstore.auth import tokens
from petstore.auth.signing_keys import Keyring
from petstore.auth.tokens import Caller
from petstore.db import schema
from petstore.db.migrations import load_folder
from petstore.settings import Settings
from tests.buyers import Buyers
from tests.commands import of
from tests.db.locks import LockWatch
from tests.nodes import Node, started
from tests.sql.big_shop import BIG

pytestmark = [pytest.mark.slow, pytest.mark.alone]

TRIALS = Path(__file__).parent / "trials"
BUYERS = 20
# All over the table, each with hundreds in stock and on sale; some bought by many.
PRODUCTS = range(999, BIG, 2000)


@pytest.fixture(scope="module")
def shop(cluster, big_shop):
    """A copy of the big shop, with autovacuum, as everywhere."""
    with cluster.database("used", big_shop) as name:
        with db.connect(cluster.url("postgres", name), options="-c search_path=m2_be_project") as conn:
            tables = conn.execute(
                "SELECT oid::regclass::text FROM pg_class WHERE reloptions::text LIKE '%autovacuum%'"
            ).fetchall()
            for (table,) in tables:
                conn.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)")
        yield name


@pytest.fixture(scope="module")
def node(cluster, shop, redis_url, keys, tmp_path_factory):
    settings = Settings(
        database_url=cluster.url("petstore_app", shop),
        report_url=cluster.url("petstore_report", shop),
        redis_url=redis_url,
        keys=keys,
    )
    node = Node(tmp_path_factory.mktemp("node"), of(settings))
    with started(node):
        yield node


@pytest.fixture(scope="module")
def buyers(node, keys):
    """Makes buyers, each with a login of its own: the newest there are."""
    defaults = Settings()
    issuer = tokens.Tokens(Keyring(keys), issuer=defaults.issuer, audience=defaults.audience, seconds=defaults.token_seconds)
    sessions = [BIG // 5 - number for number in range(1, BUYERS + 1)]
    issued = [issuer.issue(Caller(1 + session % (BIG // 10), "user", session, 1)) for session in sessions]
    return lambda: Buyers([node.address], issued, PRODUCTS)


@contextmanager
def trading(cluster, shop, buyers):
    """Buyers at work, and the watch over their locks, for the block."""
    with buyers() as trade, LockWatch(cluster.url("postgres", shop)) as watch:
        time.sleep(1)
        yield trade, watch
        time.sleep(1)


@contextmanager
def reporting(url, seconds):
    """A report that still runs for so long: what needs ACCESS EXCLUSIVE has to wait for it, and whoever comes after that, too."""
    with db.connect(url) as conn, ThreadPoolExecutor(1) as pool:
        conn.execute("BEGIN; SELECT count(*) FROM m2_be_project.products")
        running = pool.submit(conn.execute, f"SELECT pg_sleep({seconds}); COMMIT")
        yield
        running.result()


def tell(said, trade, watch):
    print("", *said, sep="\n")
    print(f"{trade.longest()}; {watch.samples} samples, at most {watch.longest_gap:.3f} s apart")
    print("longest waits for a lock:", *watch.waits[:5], sep="\n  ")
    print("longest ACCESS EXCLUSIVE locks:", *watch.holds[:5], sep="\n  ")


def test_migrations_of_every_kind_keep_nobody_waiting_and_refuse_nothing(cluster, shop, buyers):
    url, said = cluster.url("postgres", shop), []
    migrations = load_folder(TRIALS)
    with db.connect(url, options="-c search_path=m2_be_project") as conn:
        stock = dict(conn.execute("SELECT id, stock FROM products").fetchall())
        function = conn.execute("SELECT prosrc FROM pg_proc WHERE proname = 'begin_request'").fetchone()[0]
        with trading(cluster, shop, buyers) as (trade, watch), reporting(cluster.url("petstore_report", shop), 3):
            done = schema.migrate(url, migrations=migrations, report=said.append)
        seconds = conn.execute(
            "SELECT version, name, seconds FROM schema_version WHERE version > 9000 ORDER BY version"
        ).fetchall()
        tell([*said, *(f"{number} {name}: {taken} s" for number, name, taken in seconds)], trade, watch)
        assert [migration.version for migration in done] == list(migrations)
        assert (trade.faults(), trade.resent) == ([], 0)
        assert watch.faults() == []
        assert any("trying again" in line for line in said), "the report was in nobody's way"
        assert watch.samples > 20 * sum(taken for *_, taken in seconds), "the watch was blind for most of the time"

        assert conn.execute("SELECT count(*) FROM products WHERE trial_sort_name IS DISTINCT FROM lower(name)").fetchone() == (0,)
        replaced = conn.execute("SELECT prosrc FROM pg_proc WHERE proname = 'begin_request'").fetchone()[0]
        assert replaced.replace("    -- This comment is new.\n", "") == function, (
            "schema.sql has another one: copy it to the trial"
        )
        _check_books(conn, trade, stock)


def _check_books(conn, trade, stock):
    """Each purchase that was acknowledged is there once, as it was answered; nothing else was taken out of stock."""
    assert len(trade.bought) > 100
    invoices = {invoice["id"]: invoice for invoice in trade.bought.values()}
    assert len(invoices) == len(trade.bought)
    rows = conn.execute(
        "SELECT i.id, i.total, array_agg(d.product_id ORDER BY d.product_id), sum(d.quantity) FROM invoices AS i"
        " INNER JOIN invoice_details AS d ON i.id = d.invoice_id WHERE i.id > %s GROUP BY i.id",
        (BIG,),
    ).fetchall()
    assert {row[0]: row[1:3] for row in rows} == {
        number: (Decimal(invoice["total"]), [line["product_id"] for line in invoice["details"]])
        for number, invoice in invoices.items()
    }
    for row in rows:
        for product_id in row[2]:
            stock[product_id] -= 1
    assert dict(conn.execute("SELECT id, stock FROM products").fetchall()) == stock


@pytest.mark.parametrize("file", sorted((TRIALS / "blocking").glob("*.sql")), ids=lambda path: path.stem)
def test_a_migration_that_blocks_the_shop_is_seen(cluster, shop, buyers, file):
    url = cluster.url("postgres", shop)
    (migration,) = (one for one in load_folder(file.parent).values() if one.file == file.name)
    with db.connect(url, options="-c search_path=m2_be_project") as conn:
        version = conn.execute("SELECT max(version) + 1 FROM schema_version").fetchone()[0]
    with trading(cluster, shop, buyers) as (trade, watch):
        schema.migrate(url, migrations={version: dataclasses.replace(migration, version=version)})
    tell([], trade, watch)
    assert watch.faults(), "nobody had to wait"
