"""The demo catalogue, and data for load tests."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from petstore import db
from petstore.cli import first_start, seeding
from petstore.db import schema
from petstore.db.queries import sql_folder
from petstore.settings import Settings
from tests.client import Client
from tests.commands import environment, of, petstore, run
from tests.services import running

ANIMALS = {
    "dogs": "dog|puppy",
    "cats": "cat|kitten|litter",
    "birds": "bird|budgie|canary|parrot|finch",
    "fish": "fish|aquarium|tank|betta|tropical|pond|koi|cichlid",
    "small animals": "rabbit|hamster|guinea|rat|gerbil|chinchilla|hay",
    "reptiles": "reptile|gecko|snake|terrarium|tortoise|bearded dragon",
}


@pytest.fixture
def shop_in(cluster, keys, redis_url):
    """Makes an empty shop in another currency: with shop_in("JPY") as settings."""
    stack = []

    def make(currency):
        context = cluster.database(currency.lower())
        name = context.__enter__()
        stack.append(context)
        settings = Settings(
            listen=("127.0.0.1", 0),
            database_url=cluster.url("petstore_app", name),
            owner_url=cluster.url("petstore_owner", name),
            redis_url=redis_url,
            keys=keys,
            currency=currency,
        )
        schema.create_schema(cluster.url("postgres", name), currency=currency, minor_digits=settings.minor_digits)
        return settings

    yield make
    for context in stack:
        context.__exit__(None, None, None)


def test_the_demo_catalogue_is_that_of_a_real_pet_shop():
    catalogue = list(seeding.demo_catalogue(2))
    names = [name for name, _, _ in catalogue]
    assert len(names) == len(set(names)) >= 200
    assert all(3 < len(name) <= 200 and name == name.strip() and "lorem" not in name.lower() for name in names)
    assert all(Decimal("0.5") <= price <= 2000 and 0 <= stock <= 10_000 for _, price, stock in catalogue)
    for animal, words in ANIMALS.items():
        assert sum(bool(re.search(rf"\b({words})", name.lower())) for name in names) >= 10, animal


def test_seeding_the_demo_again_adds_only_what_is_missing(make):
    whole = seeding.seed_demo(make.conn, 2)
    assert whole == make.scalar("SELECT count(*) FROM products") >= 200
    assert seeding.seed_demo(make.conn, 2) == 0
    make.conn.execute("UPDATE products SET deleted_at = now() WHERE id IN (3, 7)")
    assert seeding.seed_demo(make.conn, 2) == 2
    assert make.scalar("SELECT count(*) FROM products WHERE deleted_at IS NULL") == whole


@pytest.mark.parametrize(("currency", "price", "total"), [("JPY", "549", "1098"), ("KWD", "5.490", "10.980")])
def test_the_demo_catalogue_sells_in_a_currency_with_other_minor_digits(shop_in, currency, price, total):
    settings = shop_in(currency)
    with db.connect(settings.owner_url) as conn:
        seeding.seed_demo(conn, settings.minor_digits)
    with running(settings) as (_, server), Client(server.address) as client:
        shown = client.get("/products?id=1").json()
        assert (shown["price"], shown["currency"]) == (price, currency)
        account = {"email": "ana@example.com", "password": "correct horse"}
        assert client.post("/register", account).status == 201
        client.token = client.post("/login", account).json()["access_token"]
        invoice = client.post("/purchase_product", {"products": [{"product_id": 1, "quantity": 2}]}).json()
        assert (invoice["total"], invoice["currency"]) == (total, currency)


def test_a_shop_in_another_currency_than_the_settings_stops_the_start(settings):
    done = run(replace(settings, currency="EUR"), "serve")
    assert done.returncode == 2
    assert "USD" in done.stderr
    assert "EUR" in done.stderr


def test_loaded_invoices_add_up_and_leave_the_stock_alone(make):
    seeding.load(make.conn, products=40, users=30, invoices=200, minor_digits=2)
    stock = make.scalar("SELECT sum(stock) FROM products")
    seeding.load(make.conn, products=0, users=0, invoices=100, minor_digits=2)
    counts = "SELECT (SELECT count(*) FROM products), (SELECT count(*) FROM users), (SELECT count(*) FROM invoices)"
    assert make.rows(counts) == [(40, 30, 300)]
    lines = "SELECT count(*), sum(line_total), count(DISTINCT product_id) > 1 FROM invoice_details WHERE invoice_id = i.id"
    found = make.rows(f"SELECT i.total, d.* FROM invoices i, LATERAL ({lines}) d")
    assert all(total == lines_total > 0 and 1 <= count <= 3 for total, count, lines_total, _ in found)
    assert any(several for *_, several in found)
    wrong = "SELECT count(*) FROM invoice_details d JOIN products p ON p.id = product_id WHERE (p.name, p.price) <> (d.name, unit_price)"
    assert make.scalar(wrong) == 0
    assert make.scalar("SELECT sum(stock) FROM products") == stock


def test_loading_leaves_an_empty_table_unmeasured(cluster):
    """Of a table that PostgreSQL has seen to be empty it makes plans that walk through it, and keeps them while it grows."""
    with cluster.database("measured") as name:
        schema.create_schema(cluster.url("postgres", name), currency="USD", minor_digits=2)
        with db.connect(cluster.url("petstore_owner", name)) as conn:
            seeding.load(conn, products=3, users=0, invoices=0, minor_digits=2)
            measured = dict(conn.execute("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'").fetchall())
    assert measured["products"] == 3
    assert all(measured[table] == -1 for table in ("users", "invoices", "invoice_details", "stock_movements", "audit_log"))


def test_loading_can_be_repeated_and_then_the_api_still_works(make, clients):
    for _ in range(2):
        seeding.load(make.conn, products=3, users=3, invoices=3, minor_digits=2)
    assert make.scalar("SELECT count(DISTINCT email) FROM users") == 6
    client = clients()
    email = make.scalar("SELECT email FROM users ORDER BY id DESC LIMIT 1")
    client.token = client.post("/login", {"email": email, "password": seeding.LOAD_PASSWORD}).json()["access_token"]
    assert client.post("/create_product").status == 403
    assert client.post("/purchase_product", {"products": [{"product_id": 6, "quantity": 1}]}).status == 201


def test_the_seed_command_says_when_invoices_have_nobody_to_go_to(make, settings):
    done = run(settings, "seed", "--invoices", "3")
    assert done.returncode == 2
    assert "at least one user" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_seed_command_clears_the_cache_of_the_running_service(make, anyone, settings):
    assert [anyone.get("/products")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    done = run(settings, "seed", "--products", "5")
    assert done.returncode == 0, done.stderr
    shown = anyone.get("/products")
    assert shown["X-Cache"] == "MISS"
    assert len(shown.json()["items"]) == 5


def test_the_seed_command_without_numbers_adds_the_demo_catalogue(make, settings):
    assert "products added" in run(settings, "seed").stderr
    assert make.scalar("SELECT count(*) FROM products") >= 200


def test_loading_needs_the_owner(make, settings):
    done = run(replace(settings, owner_url=None), "seed", "--products", "5")
    assert done.returncode == 2
    assert "PETSTORE_OWNER_URL" in done.stderr
    assert make.scalar("SELECT count(*) FROM products") == 0


@pytest.mark.parametrize("count", ["-1", "many", "1.5"])
def test_a_number_of_products_is_a_number(settings, count):
    done = run(settings, "seed", f"--products={count}")
    assert done.returncode == 2
    assert "--products" in done.stderr


def test_a_terminal_gets_a_progress_bar(make, settings):
    in_a_terminal = "import pty, sys; pty.spawn(sys.argv[1:])"
    command = [sys.executable, "-c", in_a_terminal, sys.executable, "-m", "petstore", "seed", "--products", "2000"]
    shown = subprocess.run(
        command, env=environment(**of(settings)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    ).stdout
    assert re.search(r"products \[#{20} {20}\] 1,000 of 2,000\n", shown)
    assert re.search(r"products \[#{40}\] 2,000 of 2,000\n", shown)


def test_of_two_services_that_start_on_an_empty_database_one_seeds(make, service):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: first_start.seed_if_empty(service[0], asked=False), range(4)))
    assert make.scalar("SELECT count(*) FROM products") == len(list(seeding.demo_catalogue(2)))
    assert make.rows("SELECT email, role FROM users") == [(service[0].settings.admin_email, "admin")]


def test_what_the_demo_adds_shows_in_the_next_read(make, service, anyone):
    assert [anyone.get("/products").json()["items"] for _ in range(2)] == [[], []]
    first_start.seed_if_empty(service[0], asked=True)
    assert len(anyone.get("/products").json()["items"]) == 50


def test_the_demo_leaves_a_database_alone_that_has_anything_and_says_so_when_asked(make, service, capsys):
    make.user("ana@example.com")
    first_start.seed_if_empty(service[0], asked=False)
    assert capsys.readouterr().err == ""
    first_start.seed_if_empty(service[0], asked=True)
    assert "not empty" in capsys.readouterr().err
    assert make.scalar("SELECT count(*) FROM products") == 0


def test_invoices_are_not_loaded_for_deleted_products(make, settings):
    make.user()
    on_sale = make.product()
    make.product(deleted=True)
    assert run(settings, "seed", "--invoices", "20").returncode == 0
    assert make.rows("SELECT DISTINCT product_id FROM invoice_details") == [(on_sale,)]


def test_commands_make_no_schema_in_a_database_that_was_given(cluster, keys, redis_url):
    with cluster.database("bare") as name:
        with db.connect(cluster.url("postgres", name)) as conn:
            conn.execute((sql_folder() / "roles.sql").read_bytes())
        urls = {
            "PETSTORE_DATABASE_URL": cluster.url("petstore_app", name),
            "PETSTORE_OWNER_URL": cluster.url("petstore_owner", name),
        }
        for command in (("seed",), ("create-admin", "a@example.com"), ("set-password", "a@example.com")):
            done = petstore(*command, text="a heron on one leg\n", **urls)
            assert (done.returncode, "petstore migrate" in done.stderr) == (2, True)
        with db.connect(cluster.url("postgres", name)) as conn:
            assert conn.execute("SELECT to_regnamespace('m2_be_project')").fetchone() == (None,)


def test_two_urls_of_two_databases_are_refused(cluster, template, settings, make):
    with cluster.database("other", template) as name:
        other = replace(settings, owner_url=cluster.url("petstore_owner", name))
        done = run(other, "seed")
        assert (done.returncode, "two different databases" in done.stderr) == (2, True)
    assert make.scalar("SELECT count(*) FROM products") == 0


def test_migrate_tells_another_schema_version_and_does_not_call_it_done(make, cluster, database):
    urls = {"PETSTORE_OWNER_URL": cluster.url("petstore_owner", database)}
    assert "is there already" in petstore("migrate", **urls).stderr
    make.conn.execute("INSERT INTO schema_version (version) VALUES (999)")
    try:
        done = petstore("migrate", **urls)
    finally:
        make.conn.execute("DELETE FROM schema_version WHERE version = 999")
    assert (done.returncode, "999" in done.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.alone
def test_a_million_products_are_loaded_in_less_than_a_minute(make, settings):
    started = time.monotonic()
    done = run(settings, "seed", "--products", "1_000_000")
    seconds = time.monotonic() - started
    print(f"\na million products in {seconds:.1f} s")
    assert done.returncode == 0, done.stderr
    assert make.scalar("SELECT count(*) FROM products") == 1_000_000
    assert seconds < 60
