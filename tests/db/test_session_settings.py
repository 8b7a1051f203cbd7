"""What a session of the service has set: by its role, by the URL, or by the service itself."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from petstore import db
from petstore.db.migrations import load_migrations
from petstore.db.queries import sql_folder
from petstore.db.session_settings import NEEDED, configure_session, connect_as_service, wanted_settings
from petstore.embedded import find_program
from tests.faults.links import proxied, with_options
from tests.waiting import eventually

AS_POSTGRESQL_WRITES = {**NEEDED, "statement_timeout": "2500ms", "datestyle": "ISO, MDY"}
ROLE_SETTINGS = """
    SELECT lower(split_part(u.line, '=', 1)), split_part(u.line, '=', 2) FROM pg_db_role_setting AS s, unnest(s.setconfig) AS u (line)
    WHERE s.setrole = 'petstore_app'::regrole AND s.setdatabase = 0
"""


def settings_of(conn, names=NEEDED):
    return {name: conn.execute("SELECT current_setting(%s, true)", (name,)).fetchone()[0] for name in names}


@pytest.fixture
def app_url(cluster, database):
    return cluster.url("petstore_app", database)


def test_the_role_has_what_the_service_needs(cluster, database):
    with db.connect(cluster.url("postgres", database)) as conn:
        found = dict(conn.execute(ROLE_SETTINGS).fetchall())
    assert found == NEEDED


def test_on_a_direct_connection_what_lacks_is_set(cluster, database):
    url = cluster.url("postgres", database)  # that role has nothing set
    with db.connect(url) as conn:
        assert settings_of(conn)["statement_timeout"] == "0"
    with connect_as_service(url) as conn:
        assert settings_of(conn) == AS_POSTGRESQL_WRITES
        with conn.transaction(force_rollback=True):
            conn.execute("SELECT 1")
        assert settings_of(conn) == AS_POSTGRESQL_WRITES


def test_what_the_url_says_wins(app_url):
    url = with_options(app_url, statement_timeout="1min", DateStyle="German", **{"petstore.note": "two words"})
    with connect_as_service(url) as conn:
        found = settings_of(conn, [*NEEDED, "petstore.note"])
    expected = {**AS_POSTGRESQL_WRITES, "statement_timeout": "1min", "datestyle": "German, DMY", "petstore.note": "two words"}
    assert found == expected


def test_settings_of_the_environment_do_not_undo_the_deadlines(cluster, database, monkeypatch):
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=0 -c lock_timeout=0")
    monkeypatch.setenv("PGDATESTYLE", "SQL")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    with connect_as_service(cluster.url("postgres", database)) as conn:
        assert settings_of(conn) == AS_POSTGRESQL_WRITES


def test_the_pool_has_them_too(service):
    assert service[0].db.read(settings_of) == AS_POSTGRESQL_WRITES


@pytest.mark.parametrize(
    "options",
    [
        "-c petstore.a=1",
        "-cpetstore.a=1",
        "--petstore.a=1",
        "-c  petstore.a=1 --petstore.b=2\\ 3",
        "--petstore.a=1\\\\2 -c petstore.b=",
        "-c petstore.a=1 -c petstore.a=2 --work-mem=7MB",
        "-S 5000 -c petstore.a=x=y",
        "",
    ],
)
def test_options_are_read_as_postgresql_reads_them(cluster, database, options):
    url = cluster.url("petstore_owner", database)
    given = {name: value for name, value in wanted_settings(make_conninfo(url, options=options)).items() if name not in NEEDED}
    with psycopg.connect(url, options=options) as conn:
        assert settings_of(conn, given) == given


def test_a_server_that_is_silent_while_a_session_is_compared_holds_nobody_up(app_url, tmp_path):
    with proxied(app_url, tmp_path) as (proxy, url), db.connect(url) as conn:
        proxy.swallowing = True
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="does not answer"):
            configure_session(conn, NEEDED)
        assert time.monotonic() - started < 2.7
        proxy.swallowing = False


# ── migration 0009 ───────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def migrated(cluster, database, before, role=None):
    """Runs 0009 on a role with these settings, as a superuser or after SET ROLE, in a transaction that is rolled back."""
    statements = load_migrations()[9].statements
    with cluster.changing_roles(), db.connect(cluster.url("postgres", database)) as conn, conn.transaction(force_rollback=True):
        warnings = []
        conn.add_notice_handler(lambda notice: warnings.append((notice.severity, notice.message_primary)))
        conn.execute(f"ALTER ROLE petstore_app RESET ALL; {before}".encode())
        if role:
            conn.execute(role.encode())
        conn.execute(statements[0].encode())
        yield conn, warnings


WITHOUT_PATH = {name: value for name, value in NEEDED.items() if name != "search_path"}


def test_the_migration_sets_the_role_where_a_superuser_runs_it_and_the_rest_belongs_to_the_owner(cluster, database):
    with migrated(cluster, database, "", "SET ROLE petstore_owner") as (conn, warnings):  # as `petstore migrate` does
        assert dict(conn.execute(ROLE_SETTINGS).fetchall()) == WITHOUT_PATH
        assert warnings == []
        assert conn.execute("SELECT current_user").fetchone() == ("petstore_owner",)


def test_the_migration_leaves_what_is_set_already(cluster, database):
    with migrated(cluster, database, "ALTER ROLE petstore_app SET statement_timeout = '9s'") as (conn, warnings):
        assert dict(conn.execute(ROLE_SETTINGS).fetchall()) == {**WITHOUT_PATH, "statement_timeout": "9s"}
        assert warnings == []


def test_the_migration_tells_who_may_not_alter_the_role_what_a_superuser_runs(cluster, database):
    one = "ALTER ROLE petstore_app SET lock_timeout = '2s'"
    owner = "SET SESSION AUTHORIZATION petstore_owner"
    with migrated(cluster, database, one, owner) as (conn, ((severity, text),)):
        assert severity == "WARNING"
        assert text.startswith(
            "a superuser has to run sql/roles.sql again, or: ALTER ROLE petstore_app SET statement_timeout = '2500ms'; "
        )
        assert "lock_timeout" not in text
        assert dict(conn.execute(ROLE_SETTINGS).fetchall()) == {"lock_timeout": "2s"}
        conn.execute("RESET SESSION AUTHORIZATION")
        conn.execute(text.partition(" or: ")[2].encode())
        assert dict(conn.execute(ROLE_SETTINGS).fetchall()) == WITHOUT_PATH


def test_the_migration_says_nothing_when_roles_sql_was_run_before_it(cluster, database):
    roles = (sql_folder() / "roles.sql").read_text()
    with migrated(cluster, database, roles, "SET SESSION AUTHORIZATION petstore_owner") as (_, warnings):
        assert [text for severity, text in warnings if severity == "WARNING"] == []


# ── psql ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_begin_that_is_forgotten_in_psql_ends_by_itself_and_sets_the_rows_free(make, app_url):
    with db.connect(app_url) as conn:
        if conn.execute("SELECT session_user").fetchone() != ("petstore_app",):
            pytest.skip(
                "the login of PETSTORE_TEST_DATABASE_URL takes on the role by SET, which gives it no settings of the role"
            )
    product_id = make.product()
    command = [find_program("psql"), "-X", "-d", app_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as psql:
        psql.stdin.write(f"BEGIN;\nSELECT id FROM products WHERE id = {product_id} FOR UPDATE;\n")
        psql.stdin.flush()
        locked = "SELECT count(*) FROM pg_locks WHERE mode = 'RowShareLock' AND relation = 'products'::regclass"
        eventually(lambda: make.scalar(locked) == 1)
        started = time.monotonic()
        with make.conn.transaction():
            make.conn.execute("SET LOCAL lock_timeout = '8s'")
            make.conn.execute("UPDATE products SET stock = 3 WHERE id = %s", (product_id,))  # waits for it
        assert 3 < time.monotonic() - started < 8
        said, _ = psql.communicate("COMMIT;\n")
    assert "terminating connection due to idle-in-transaction timeout" in said
    assert make.stock(product_id) == 3
