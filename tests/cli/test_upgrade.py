"""The upgrade from the release before, as docs/operations.md says, while 20 buyers buy: no request is refused, and nothing is lost."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import contextmanager

import jwt
import pytest

from petstore import db
from petstore.auth.key_rotation import generate_key
from petstore.db.migrations import OLDEST_VERSION, newest_version
from petstore.db.queries import sql_folder
from petstore.embedded import Postgres
from petstore.repository.reports import run_report
from tests.buyers import Buyers
from tests.cli import shops
from tests.cli.releases import ROOT, install, release_before, run
from tests.client import Client
from tests.databases import open_folder
from tests.factories import PASSWORD
from tests.nodes import Node, started
from tests.waiting import eventually

pytestmark = pytest.mark.slow

BUYERS = 20
DURABLE = ("fsync=off", "max_connections=60")


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return release_before(tmp_path_factory.mktemp("before"))


class Shop:
    """A shop as the release before has made it, and two nodes of that release, each with an installation of its own."""

    def __init__(self, folder, server, redis_url, before, size):
        self.server = server
        self.environ = {
            "PETSTORE_DATABASE_URL": server.url("petstore_app"),
            "PETSTORE_REPORT_URL": server.url("petstore_report"),
            "PETSTORE_OWNER_URL": server.url("postgres"),
            "PETSTORE_REDIS_URL": redis_url,
            "PETSTORE_KEYS": str(generate_key(folder / "keys").parent),
        }
        run(before, self.environ, "migrate")
        run(before, self.environ, "seed", f"--products={size}", f"--users={size // 10}", f"--invoices={size}")
        run(before, self.environ, "create-admin", "boss@example.com", text=PASSWORD)
        self.environ["PETSTORE_OWNER_URL"] = server.url("petstore_owner")
        self.nodes = [Node(folder / name, self.environ, install(before, folder / name / "installed")) for name in "ab"]

    def open(self):
        """Accounts, products of which there is enough, and invoices of every kind."""
        with self.client(None) as client:
            for number in range(BUYERS):
                assert client.post("/register", {"email": f"buyer{number}@example.com", "password": PASSWORD}).status == 201
            self.tokens = [self._login(client, f"buyer{number}@example.com") for number in range(BUYERS)]
            self.boss = self._login(client, "boss@example.com")
        with self.client(self.boss) as admin, self.client(self.tokens[0]) as buyer:
            bodies = ({"name": f"Plenty {number}", "price": "9.90", "stock": 1_000_000} for number in range(30))
            self.products = [admin.post("/create_product", body).json()["id"] for body in bodies]
            for steps in ((), ("paid",), ("paid", "shipped"), ("paid", "refunded"), ("paid", "credit"), ("cancelled",)):
                self._make_invoice(buyer, admin, steps)
        self.newest_invoice = self.sql("SELECT max(id) FROM invoices")[0][0]

    def _login(self, client, email):
        return client.post("/login", {"email": email, "password": PASSWORD}).json()["access_token"]

    def _make_invoice(self, buyer, admin, steps):
        lines = [{"product_id": product_id, "quantity": 3} for product_id in self.products[:2]]
        path = f"/admin/invoices/{buyer.post('/purchase_product', {'products': lines}).json()['id']}"
        for step in steps:
            if step == "credit":
                credit = {"lines": [{"product_id": self.products[0], "quantity": 1, "restock": True}], "reason": "broken"}
                assert admin.post(f"{path}/credit_notes", credit).status == 201
            else:
                assert admin.patch(path, {"status": step, "reason": "as asked"}).status == 200

    def client(self, token, node=0):
        return Client(self.nodes[node].address, token, of_this_release=False)

    def old_invoices(self, node):
        """What the API tells, byte by byte, of invoices that were made before the upgrade: of every kind, and of those seeded."""
        with self.client(self.tokens[0], node) as buyer, self.client(self.boss, node) as admin:
            kinds = range(self.newest_invoice - 5, self.newest_invoice + 1)
            answers = [buyer.get(f"/invoices/{number}") for number in kinds]
            answers += [admin.get(f"/invoices/{number}") for number in range(1, 21)]
        assert [answer.status for answer in answers] == [200] * 26
        assert {answer.json()["status"] for answer in answers[:6]} == {"pending", "paid", "shipped", "refunded", "cancelled"}
        return [answer.body for answer in answers]

    def sql(self, statement, *parameters):
        with db.connect(self.environ["PETSTORE_OWNER_URL"]) as conn:
            return conn.execute(statement, parameters).fetchall()

    def run_roles(self):
        """The owner may not change the role of the service: a superuser runs roles.sql again, as the changelog says."""
        with db.connect(self.server.url("postgres")) as conn:
            conn.execute((sql_folder() / "roles.sql").read_bytes())

    def has_version(self, number):
        """Both nodes tell it, and petstore check finds the database as it has to be."""
        facts = {"version": number, "oldest": OLDEST_VERSION, "newest": newest_version()}
        assert [node.ready()["schema"] for node in self.nodes] == [facts, facts]
        run(ROOT, self.environ, "check")

    def check_books(self, bought):
        """Each acknowledged purchase is there once, as it was answered, and nothing else; the ledger holds."""
        rows = self.sql("SELECT id, total::text FROM invoices WHERE id > %s ORDER BY id", self.newest_invoice)
        assert rows == sorted((invoice["id"], invoice["total"]) for invoice in bought.values())
        with db.connect(self.environ["PETSTORE_OWNER_URL"]) as conn:
            assert run_report(conn, "ledger_proof") == []


@pytest.fixture(params=[2_000, pytest.param(1_000_000, marks=pytest.mark.deep)])
def shop(before, redis_url, request, tmp_path):
    with open_folder() as folder:
        server = Postgres(folder, options=DURABLE)
        try:
            server.start()
            server.create_database()
            shop = Shop(tmp_path, server, redis_url, before, request.param)
            with started(*shop.nodes):
                shop.open()
                yield shop
        finally:
            server.stop()


@contextmanager
def asking(nodes):
    """For the block, asks each node all the time whether it is ready: what it tells of the database, (None, ()) if it is down.

    Not the status, which is degraded when Redis is slow on a busy machine.
    """
    over, told = threading.Event(), set()

    def ask():
        while not over.wait(0.1):
            for answer in [node.ready() for node in nodes]:
                told.add((answer.get("database"), tuple(answer.get("drift") or ())))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join()


def restart(node):
    """SIGTERM to the old release; the new one on the same port."""
    assert node.stop() == 0
    node.release = ROOT
    node.start()


def reload(node):
    """The new release is installed in place of the old one, whose supervisor then starts its workers."""
    install(ROOT, node.release)
    node.process.send_signal(signal.SIGHUP)
    eventually(lambda: "reloaded" in node.log, 60)


@pytest.mark.parametrize("replace", [restart, reload])
def test_two_nodes_in_use_are_upgraded_without_a_refused_request(shop, replace):
    kept = shop.old_invoices(node=0)
    with Buyers([node.address for node in shop.nodes], shop.tokens, shop.products) as buyers, asking(shop.nodes) as told:
        time.sleep(1)
        for node in shop.nodes:
            replace(node)
            time.sleep(1)
        shop.run_roles()
        shop.has_version(5)
        began = time.monotonic()
        said = run(ROOT, shop.environ, "migrate").stderr
        seconds = time.monotonic() - began
        time.sleep(1)
        shop.has_version(newest_version())
    print(f"\n{said}migrated in {seconds:.1f} s; {buyers.longest()}; {buyers.resent} requests sent again")
    print(*shop.sql("SELECT version, name, seconds FROM schema_version WHERE version > 5 ORDER BY version"), sep="\n")
    assert buyers.faults() == []
    # A reload waits for clients. A stop does so in this release only: the one before cuts off whoever has just connected.
    assert buyers.resent == 0 or replace is restart
    assert told - {(None, ())} == {("ok", ())}
    assert (None, ()) not in told or replace is restart
    assert [shop.old_invoices(node) for node in range(2)] == [kept, kept]
    shop.check_books(buyers.bought)


def test_nobody_is_logged_out_by_an_upgrade_under_way_or_by_the_migration(shop):
    new, old = shop.nodes
    restart(new)
    for issuing, asked in ((new, old), (old, new)):
        with Client(issuing.address) as client, Client(asked.address) as other:
            tokens = client.post("/login", {"email": "boss@example.com", "password": PASSWORD}).json()
            traded = other.post("/refresh", {"refresh_token": tokens["refresh_token"]}).json()
            other.token, client.token = tokens["access_token"], traded["access_token"]
            assert (other.get("/me").status, client.get("/me").status) == (200, 200)
    assert "session_uuid" not in claims(traded)
    restart(old)
    run(ROOT, shop.environ, "migrate")
    assert shop.sql("SELECT count(*) FROM sessions WHERE session_uuid IS NULL") == [(0,)]
    for node in shop.nodes:
        with Client(node.address) as client:
            for token in (shop.boss, tokens["access_token"], traded["access_token"]):
                client.token = token
                assert client.get("/me").status == 200
            again = client.post("/refresh", {"refresh_token": traded["refresh_token"]}).json()
            client.token = again["access_token"]
            assert client.get("/me").status == 200
            assert "session_uuid" in claims(again)
            traded = again


def claims(tokens):
    return jwt.decode(tokens["access_token"], options={"verify_signature": False})


def test_scripts_serve_migrates_the_embedded_database_of_the_release_before_and_keeps_all_data(before, folder):
    shop = shops.Shop(folder, cwd=before)
    shop.start()
    with Client(shop.address) as client:
        client.post("/register", {"email": "ana@example.com", "password": PASSWORD})
        assert shops.login(client, "ana@example.com", PASSWORD) == 200
        bought = client.post("/purchase_product", {"products": [{"product_id": 1, "quantity": 2}]}).json()
        kept = client.get(f"/invoices/{bought['id']}").body
    rows = "SELECT count(*) FROM products UNION ALL SELECT sum(stock) FROM products UNION ALL SELECT count(*) FROM audit_log"
    before_it = shop.sql(rows)
    assert shop.stop() == 0

    shop.how, shop.command = {}, (sys.executable, str(ROOT / "scripts/serve"))
    shop.start()
    assert f"schema version {newest_version()} reached, with all data" in shop.said
    assert shop.sql(rows) == before_it
    assert shop.sql("SELECT max(version) FROM schema_version") == str(newest_version())
    with Client(shop.address) as client:
        assert client.get("/readyz").json()["drift"] == []
        assert shops.login(client, "ana@example.com", PASSWORD) == 200
        assert client.get(f"/invoices/{bought['id']}").body == kept
        assert client.post("/purchase_product", {"products": [{"product_id": 1, "quantity": 2}]}).status == 201
    assert shop.stop() == 0
    shop.start()
    assert "reached" not in shop.said
    assert shop.stop() == 0
