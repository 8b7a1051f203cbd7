"""Old and new at the same time: a release serves a range of schema versions, and all its processes decide alike."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count

import pytest

from petstore import db
from petstore.cli.housekeep import Housekeeping
from petstore.db import pool, schema
from petstore.db.migrations import OLDEST_VERSION, load_migrations, newest_version
from tests.client import Client
from tests.commands import petstore
from tests.databases import first_release
from tests.factories import Factory
from tests.waiting import eventually

NEWEST = newest_version()


class Shop:
    """A database at some version, and services on it."""

    def __init__(self, cluster, name, with_settings):
        self.urls = {
            f"{kind}_url": cluster.url(role, name) for kind, role in (("database", "petstore_app"), ("owner", "petstore_owner"))
        }
        self.conn = db.connect(self.urls["owner_url"])
        self.make = Factory(self.conn)
        self._run, self.name = with_settings, name

    def service(self):
        return self._run(**self.urls)

    def apply(self, version, *, safe):
        self.conn.execute("INSERT INTO schema_version (version, name, safe) VALUES (%s, 'later', %s)", (version, safe))

    def take_back(self, version):
        self.conn.execute("DELETE FROM schema_version WHERE version = %s", (version,))

    def migrate(self, **options):
        schema.migrate(self.urls["owner_url"], **options)


@pytest.fixture
def old(cluster, with_settings):
    with first_release(cluster, "old") as name:
        shop = Shop(cluster, name, with_settings)
        yield shop
        shop.conn.close()


@pytest.fixture
def new(cluster, template, with_settings):
    with cluster.database("new", template) as name:
        shop = Shop(cluster, name, with_settings)
        yield shop
        shop.conn.close()


def schema_of(client):
    answer = client.get("/readyz")
    assert (answer.status, answer.json()["database"]) == (200, "ok")
    return answer.json()["schema"]


def test_a_release_serves_each_version_from_the_oldest_to_its_own_while_it_moves(old):
    product_id, ana = old.make.product(stock=100), old.make.user("ana@example.com")
    with old.service() as (services, server), Client(server.address, services.tokens.issue(ana)) as client:
        for version in (OLDEST_VERSION, *load_migrations()):
            old.migrate(to=version)
            assert schema_of(client) == {"version": version, "oldest": OLDEST_VERSION, "newest": NEWEST}
            purchase = client.post("/purchase_product", {"products": [{"product_id": product_id, "quantity": 1}]})
            assert purchase.status == 201
            assert [client.get(path).status for path in ("/products", "/invoices", "/me")] == [200, 200, 200]


def test_a_refusal_is_stored_in_short_from_version_13_on_and_replayed_on_every_version(old):
    """While a release that does not know the short form may serve, it must find nothing else than bodies."""
    product_id, ana = old.make.product(stock=1), old.make.user("ana@example.com")
    with old.service() as (services, server), Client(server.address, services.tokens.issue(ana)) as client:

        def buy(version):
            body = {"products": [{"product_id": product_id, "quantity": 2}]}
            return client.post("/purchase_product", body, headers={"Idempotency-Key": f"at {version}"})

        first = {}
        for version in (OLDEST_VERSION, *load_migrations()):
            old.migrate(to=version)
            first[version] = buy(version)
            stored = old.make.scalar("SELECT body FROM idempotency_keys WHERE key = %s", f"at {version}")
            assert (stored == first[version].body) == (version < 13), version
            replays = {number: buy(number) for number in first}
            assert {number: replay.body for number, replay in replays.items()} == {
                number: answer.body for number, answer in first.items()
            }
        assert stored.startswith(b'["not-enough-stock",')


def test_beyond_its_own_version_it_serves_while_all_later_ones_are_safe_and_every_worker_decides_alike(new, monkeypatch):
    monkeypatch.setattr(pool, "_VERIFY_SECONDS", 0.2)
    unknown = count(1000)  # of what was asked before, the answer is cached
    with ExitStack() as stack:
        running = [stack.enter_context(new.service()) for _ in range(2)]
        clients = [stack.enter_context(Client(server.address)) for _, server in running]
        new.apply(NEWEST + 1, safe=True)
        new.apply(NEWEST + 2, safe=True)
        assert {schema_of(client)["version"] for client in clients} == {NEWEST + 2}
        new.apply(NEWEST + 3, safe=False)
        new.apply(NEWEST + 4, safe=True)
        for client in clients:  # /readyz was not asked: each notices it by itself
            eventually(lambda client=client: client.get(f"/products?id={next(unknown)}").status == 503)
        for client in clients:
            answer = client.get("/readyz")
            assert (answer.status, answer.json()["database"], answer.json()["schema"]["version"]) == (503, "wrong", NEWEST + 4)
        new.take_back(NEWEST + 3)
        assert {schema_of(client)["version"] for client in clients} == {NEWEST + 4}
        assert [client.get("/products").status for client in clients] == [200, 200]


def test_what_makes_a_database_wrong_is_logged_once_and_looked_for_once_a_second(new, caplog):
    with new.service() as (services, server), Client(server.address) as client:
        services.db.check()
        new.apply(NEWEST + 1, safe=False)
        assert client.get("/readyz").status == 503
        assert [client.get(f"/products?id={number}").status for number in range(2000, 2020)] == [503] * 20
    told = [record for record in caplog.records if "the database cannot be used" in record.getMessage()]
    assert len(told) == 1


def test_a_lock_on_what_is_verified_keeps_nobody_from_buying(new, monkeypatch):
    monkeypatch.setattr(pool, "_VERIFY_SECONDS", 0.0)
    new.make.product()
    with new.service() as (services, server), Client(server.address) as client:
        services.db.check()
        with new.conn.transaction():
            new.conn.execute("LOCK TABLE schema_version")
            assert client.get("/products?id=1").status == 200


def test_a_search_path_or_date_style_of_its_role_does_not_concern_the_service(new, cluster):
    product_id = new.make.product()
    with db.connect(cluster.url("postgres", new.name)) as dba:
        for setting in ("search_path = public", "datestyle = 'SQL, DMY'"):
            dba.execute(f'ALTER ROLE petstore_app IN DATABASE "{new.name}" SET {setting}'.encode())
    with new.service() as (services, server), Client(server.address) as client:
        services.db.check()
        assert client.get(f"/products?id={product_id}").status == 200


def test_housekeeping_leaves_a_database_alone_that_its_release_does_not_serve(new, caplog):
    new.apply(NEWEST + 1, safe=False)
    assert not Housekeeping(new.urls["database_url"]).run()
    told = [record.getMessage() for record in caplog.records if record.name == "petstore.cli.housekeep"]
    assert len(told) == 1
    assert "install a newer release" in told[0]


@pytest.mark.parametrize(
    ("version", "safe", "words"),
    [
        (NEWEST + 1, False, f"has schema version {NEWEST + 1}, this release serves {OLDEST_VERSION} to {NEWEST}, and version"
         f" {NEWEST + 1} is not safe for releases that do not know it: install a newer release"),
        (OLDEST_VERSION - 1, True, f"has schema version {OLDEST_VERSION - 1}, this release serves {OLDEST_VERSION} to {NEWEST}: run"
         " `petstore migrate`"),
    ],
)  # fmt: skip
def test_outside_of_the_range_service_and_commands_are_refused_and_say_what_to_do(new, keys, version, safe, words):
    if version < NEWEST:
        new.conn.execute("DELETE FROM schema_version")
    new.apply(version, safe=safe)
    urls = {"PETSTORE_DATABASE_URL": new.urls["database_url"], "PETSTORE_OWNER_URL": new.urls["owner_url"]}
    for command in (("seed",), ("create-admin", "boss@example.com"), ("serve",)):
        done = petstore(*command, text="a heron on one leg\n", PETSTORE_LISTEN="127.0.0.1:0", PETSTORE_KEYS=str(keys), **urls)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_a_database_of_a_newer_release_is_left_alone_by_migrate(new):
    new.apply(NEWEST + 1, safe=True)
    done = petstore("migrate", PETSTORE_OWNER_URL=new.urls["owner_url"])
    assert (done.returncode, f"schema version {NEWEST + 1} is there already" in done.stderr) == (0, True)
    new.apply(NEWEST + 2, safe=False)
    done = petstore("migrate", PETSTORE_OWNER_URL=new.urls["owner_url"])
    assert (done.returncode, "install a newer release" in done.stderr) == (2, True)
