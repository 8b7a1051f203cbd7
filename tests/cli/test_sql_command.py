"""`petstore sql`, as a DBA uses it; and the names of the files, wherever PostgreSQL tells of a statement."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from petstore import db
from petstore.cli import sql as sql_command
from petstore.db.queries import load_queries, load_reports, load_tools, parse_query
from tests.client import Client
from tests.commands import environment, of, petstore, run
from tests.databases import FAST, open_folder, own_postgres
from tests.services import running
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
FILES = {**load_queries(), **load_reports(), **load_tools()}
NOWHERE = {"PETSTORE_DATABASE_URL": "postgresql://127.0.0.1:1/none"}


@pytest.fixture
def sql(settings, capfd):
    """Runs `petstore sql` in this process: sql("products/get_product", "product_id=4", redis_url=None)."""

    def run_sql(*arguments: str, **changes) -> subprocess.CompletedProcess:
        done = run(replace(settings, **changes), "sql", *arguments)
        out, err = capfd.readouterr()  # of psql
        return subprocess.CompletedProcess(arguments, done.returncode, done.stdout + out, err + done.stderr)

    return run_sql


@pytest.fixture
def ask(_superuser, database, counted):
    """Asks something of the shared database as a superuser; what its statements cost is forgotten before."""

    def ask(statement: str) -> list:
        return _superuser.execute(statement, (database,)).fetchall()

    ask("SELECT public.pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = %s")
    return ask


COUNTED = "SELECT query FROM public.pg_stat_statements JOIN pg_database AS d ON d.oid = dbid WHERE datname = %s AND userid = '{}'::regrole"
WAITING = "SELECT query FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"


def names(statements) -> set[str]:
    """The files whose names are in these statements."""
    found = (re.match(r"[A-Z]+ /\* (\w+/\w+) \*/\s", text) for (text,) in statements)
    return {match[1] for match in found if match}


# ── the list ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_name_every_file_is_listed_by_folder_with_its_sentence(tmp_path):
    done = petstore("sql", PETSTORE_HOME=str(tmp_path))
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, "", [])  # and nothing is started for it
    assert re.findall(r"^(\S+)  ", done.stdout, re.MULTILINE) == list(FILES)
    assert len(done.stdout.split("\n\n")) == len({name.split("/")[0] for name in FILES})
    assert max(map(len, done.stdout.splitlines())) <= 130
    words = " ".join(done.stdout.split())
    assert all(f"{name} {query.sentence}" in words for name, query in FILES.items())


@pytest.mark.slow
def test_who_reads_no_further_is_told_nothing():
    command = f"{shlex.join([sys.executable, '-m', 'petstore', 'sql'])} | (exec 0<&-; sleep 1)"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **NOWHERE})
    assert done.stderr == ""


def test_the_script_is_the_command(make, settings):
    def script(*arguments):
        command = [ROOT / "scripts/sql", *arguments]
        return subprocess.run(command, cwd="/", env=environment(**of(settings)), capture_output=True, text=True, timeout=60)

    make.product("Ball")
    assert script().stdout == petstore("sql").stdout
    assert "| Ball |" in script("products/get_product", "product_id=1").stdout
    assert script("products/get_product", "product_id=one").returncode == 3


# ── what is refused, and how it is told ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("products/get_prodct product_id=4", "there is no products/get_prodct; did you mean products/get_product"),
        ("get_product product_id=4", "did you mean products/get_product"),
        ("qqqq", "there is no qqqq; `petstore sql` lists them all"),
        ("products/get_product", "product_id is missing"),
        ("products/get_product product_id=4 id=4", "it has no parameter id"),
        ("products/get_product product_id=4 product_id=5", "product_id is given twice"),
        ("products/get_product 4", "4 is not NAME=VALUE"),
        ("system/get_shop id=1", "it takes no parameters"),
        ("products/get_product product_id=4 --explain --commit", "not allowed with"),
        ("--top 5 products/get_product", "--top takes no name"),
        ("--commit", "name the file to run"),
        ("--top many", "must be a whole number"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_connected_to(arguments, words):
    done = petstore("sql", *arguments.split(), **NOWHERE)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_who_leaves_a_parameter_out_is_told_them_all_with_type_and_meaning():
    done = petstore("sql", "products/update_product", "price=1", **NOWHERE)
    assert "product_id is missing" in done.stderr
    assert "name is missing" not in done.stderr  # it may be NULL
    for one in load_queries()["products/update_product"].parameters.values():
        assert re.search(rf"  {one.name} +{one.type} +{re.escape(one.meaning)}$", done.stderr, re.MULTILINE)


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_runs_and_what_it_wrote_is_rolled_back(make, sql):
    make.product("Ball", price="2.00", stock=10)
    name = """Don't "panic" :'x' \\q; --"""
    done = sql("products/update_product", "product_id=1", f"name={name}", "actor_id=1")
    assert done.returncode == 0, done.stderr
    assert name in done.stdout
    assert done.stdout.endswith("(1 row)\n\nUPDATE 1\n")
    assert done.stderr == "petstore: rolled back, its changes are not kept (--commit keeps them)\n"
    done = sql("products/get_product", "product_id=1")
    assert re.search(r"\| Ball +\|  2.00 .*\(1 row\)\n\n$", done.stdout, re.DOTALL)
    assert done.stderr == ""


def test_commit_keeps_it_with_ledger_and_audit_and_clears_the_cache(make, anyone, boss, sql):
    make.product("Ball", stock=10)
    assert [anyone.get("/products?id=1")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    done = sql("--commit", "products/update_product", "product_id=1", "stock=3", f"actor_id={boss.id}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^petstore: committed\n\S+Z INFO petstore: cache cleared, \d+ keys\n\Z", done.stderr, re.MULTILINE)
    assert anyone.get("/products?id=1").json()["stock"] == 3
    assert make.rows("SELECT kind, delta, stock FROM stock_movements ORDER BY id DESC LIMIT 1") == [("adjust", -7, 3)]
    assert make.scalar("SELECT count(*) FROM audit_log WHERE action = 'product.update'") == 1


def test_explain_shows_the_plan_with_buffers_and_keeps_nothing(make, sql):
    make.product()
    # So many others, and statistics of them, that the planner takes the index on every version, whatever autovacuum has seen.
    gone = "INSERT INTO products (name, price, stock, deleted_at) SELECT 'Gone', 1, 0, now() FROM generate_series(1, 2000)"
    make.conn.execute(f"{gone}; ANALYZE products")
    done = sql("products/delete_product", "--explain", "product_id=1")
    assert done.returncode == 0, done.stderr
    for words in ("Update on products", "Index Cond: (id = '1'::bigint)", "Buffers: shared", "actual time", "Trigger "):
        assert words in done.stdout
    assert "rolled back" in done.stderr
    assert make.scalar("SELECT count(*) FROM products WHERE deleted_at IS NULL") == 1


@pytest.mark.parametrize(
    "text",
    [
        "select id from products where id = :'product_id'::bigint",  # no semicolon
        "/* two\nlines */\n\n  Select id FROM products WHERE id = :'product_id'::bigint;\n-- and no more",
        "-- A comment.\nWITH one AS (SELECT 1)\nSELECT id FROM products WHERE id = :'product_id'::bigint;",
    ],
)
def test_explain_explains_a_statement_however_it_is_written(make, sql, monkeypatch, text):
    edited = replace(load_queries()["products/get_product"], text=text)
    monkeypatch.setattr(sql_command, "_files", lambda: {**FILES, "products/get_product": edited})
    done = sql("products/get_product", "product_id=4", "--explain")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Execution Time" in done.stdout


def test_what_postgresql_refuses_is_told_in_its_words_with_the_status_of_psql(make, sql):
    done = sql("products/get_product", "product_id=four", "--commit")
    assert done.returncode == 3
    assert "invalid input syntax for type bigint" in done.stderr
    assert "committed" not in done.stderr


def test_psql_gets_the_file_with_its_name_and_no_password_among_its_arguments(make, settings, sql, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "psql"
    program.write_text('#!/bin/sh\necho "$PGPASSWORD $@"\ncat\n')
    program.chmod(0o755)
    url = re.sub("//([a-z_]+)", "//\\1:s%2Fe%40cret", settings.database_url, count=1)
    done = sql("products/list_products", "after=0", "limit=7", database_url=url)
    first, sent = done.stdout.split("\n", 1)
    assert first.startswith("s/e@cret ")
    assert first.count("cret") == 1
    assert "-v after=0 -v limit=7 " in first
    text = load_queries()["products/list_products"].text
    assert " AS currency, stock, " in text
    assert sent.startswith(text.replace("\nSELECT", "\nSELECT /* products/list_products */"))


@pytest.mark.skipif(not load_reports(), reason="there are no reports")
@pytest.mark.parametrize("role", ["petstore_report", "petstore_app"])
def test_a_report_runs_as_the_role_for_reports_where_that_is_known(make, sql, ask, role):
    name, query = next(iter(load_reports().items()))
    line = re.findall(r"^-- (psql .*)$", query.path.read_text("utf-8"), re.MULTILINE)[-1]
    changes = {} if role == "petstore_report" else {"report_url": None}
    done = sql(name, *(word for word in shlex.split(line) if "=" in word), **changes)
    assert done.returncode == 0, done.stderr
    assert [who for who in ("petstore_report", "petstore_app") if name in names(ask(COUNTED.format(who)))] == [role]


# ── what statements cost ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_top_names_the_files_that_took_most_time(make, anyone, sql, ask):
    for number in range(1, 4):
        make.product()
        assert anyone.get(f"/products?id={number}").status == 200
    done = sql("--top", "500")
    assert done.returncode == 0, done.stderr
    rows = [[word.strip() for word in line.split("|")] for line in done.stdout.splitlines()[2:] if "|" in line]
    calls = {name: (int(calls), int(rows)) for name, calls, _, _, rows, _ in rows}
    assert calls["products/get_product"] == (3, 3)
    assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)
    assert sum(float(row[5]) for row in rows) == pytest.approx(100, abs=3)  # each is rounded
    assert "(1 row)" in sql("--top", "1").stdout


def test_top_without_the_extension_says_what_to_do(cluster, template, sql):
    with cluster.database("bare", template) as name:
        with db.connect(cluster.url("postgres", name)) as conn:
            conn.execute("DROP EXTENSION IF EXISTS pg_stat_statements")
        done = sql("--top", database_url=cluster.url("petstore_app", name))
    assert (done.returncode, done.stdout) == (3, "")
    assert all(words in done.stderr for words in ("shared_preload_libraries", "sql/roles.sql as a superuser"))


# ── the names, where PostgreSQL tells of statements ──────────────────────────────────────────────────────────────────────


def test_statements_of_the_service_have_their_names_in_statistics_and_activity(make, anyone, admin, ask):
    make.product()
    make.product()
    assert [anyone.get(path).status for path in ("/products", "/products?id=1")] == [200, 200]
    with ThreadPoolExecutor(1) as threads, make.conn.transaction():
        make.conn.execute("SELECT FROM products WHERE id = 2 FOR UPDATE")
        answer = threads.submit(admin.patch, "/modify_product?id=2", {"name": "Ball", "version": 1})
        eventually(lambda: names(ask(WAITING)) == {"products/lock_product"})
    assert answer.result().status == 200
    reads, writes = {"products/list_products", "products/get_product"}, {"products/lock_product", "products/update_product"}
    assert names(ask(COUNTED.format("petstore_app"))) >= reads | writes


@pytest.mark.slow
def test_statements_of_the_service_have_their_names_in_the_log_of_postgresql(settings):
    with open_folder() as folder, own_postgres(folder, *FAST, "log_min_duration_statement=0") as server:
        changed = replace(settings, database_url=server.url("petstore_app"))
        with running(changed) as (_, service), Client(service.address) as client:
            assert client.get("/products").status == 200
        logged = (folder / "postgres.log").read_text()
    assert re.search(r"duration: .*SELECT /\* products/list_products \*/", logged)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["petstore_app", "petstore_report"])
def test_what_people_run_has_more_time_than_a_request(sql, cluster, database, monkeypatch, role):
    slow = parse_query(
        "reports/slow", "-- Takes longer than a request may.\n--\n-- Parameters: none.\nSELECT pg_sleep(2.7), 'at last'"
    )
    monkeypatch.setattr(sql_command, "_files", lambda: {slow.name: slow})
    monkeypatch.setattr(sql_command, "load_reports", lambda: {slow.name: slow})
    done = sql("reports/slow", report_url=cluster.url(role, database))
    assert (done.returncode, "at last" in done.stdout) == (0, True), done.stderr
