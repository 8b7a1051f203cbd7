"""The role for reports: it reads the books, and neither secrets nor logins; and it writes nothing."""

import psycopg
import pytest

from petstore import db
from tests.sql.test_schema import ROLES

SECRET_TABLES = {"sessions", "refresh_tokens", "idempotency_keys", "audit_log", "audit_addresses"}
SECRET_COLUMNS = {("users", "password"), ("users", "token_version")}


@pytest.fixture
def reporter(cluster, database, make):
    """A connection as petstore_report, which has set itself to read and write."""
    with db.connect(cluster.url("petstore_report", database)) as conn:
        conn.execute("SET search_path = m2_be_project; SET default_transaction_read_only = off")
        yield conn


def refused(conn, statement):
    try:
        conn.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


COLUMNS = "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'm2_be_project'"


def test_petstore_report_reads_the_books_and_no_secret(make, reporter):
    columns = make.rows(COLUMNS)
    unreadable = {(table, column) for table, column in columns if refused(reporter, f"SELECT {column} FROM {table}")}
    assert unreadable == SECRET_COLUMNS | {(table, column) for table, column in columns if table in SECRET_TABLES}


def test_petstore_report_writes_nothing_even_when_it_says_it_would(make, reporter):
    columns = make.rows(COLUMNS)
    statements = [
        *[f"INSERT INTO {table} ({column}) VALUES (DEFAULT)" for table, column in columns],
        *[f"UPDATE {table} SET {column} = DEFAULT" for table, column in columns],
        *[f"{verb} {table}" for table in {table for table, _ in columns} for verb in ("DELETE FROM", "TRUNCATE")],
        *["SELECT id FROM products FOR UPDATE", "SELECT nextval('invoices_id_seq')", "SELECT next_number('invoice')"],
        *["CREATE TABLE x ()", "CREATE TABLE public.x ()", "CREATE TEMPORARY TABLE x ()", "CREATE SCHEMA x"],
    ]
    assert [statement for statement in statements if not refused(reporter, statement)] == []


def test_petstore_report_reads_only_and_not_for_ever_unless_it_says_otherwise(make):
    assert set(make.scalar("SELECT rolconfig FROM pg_roles WHERE rolname = 'petstore_report'")) == {
        "search_path=m2_be_project",
        "default_transaction_read_only=on",
        "statement_timeout=60s",
        "idle_in_transaction_session_timeout=60s",
    }


def test_nobody_else_gets_in_and_no_function_lends_the_owners_rights(make, database):
    """What is granted to PUBLIC, or on the database, no list of one role's rights shows."""
    acl = (
        "SELECT a.grantee::regrole::text, a.privilege_type FROM pg_database AS d, aclexplode(d.datacl) AS a WHERE d.datname = %s"
    )
    rights = {(role, right) for role, right in make.rows(acl, database) if role in ("-", "petstore_app", "petstore_report")}
    assert rights == {("petstore_app", "CONNECT"), ("petstore_report", "CONNECT")}
    assert (
        make.rows(
            "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'm2_be_project'::regnamespace AND prosecdef"
            " AND has_function_privilege('public', oid, 'EXECUTE')"
        )
        == []
    )
    assert (
        make.rows(
            "SELECT c.oid::regclass FROM pg_class AS c, aclexplode(c.relacl) AS a"
            " WHERE c.relnamespace = 'm2_be_project'::regnamespace AND a.grantee = 0"
        )
        == []
    )


def test_a_time_without_an_offset_is_utc_whatever_the_server_says(cluster, database):
    with db.connect(cluster.url("postgres", database)) as conn:
        (said,) = conn.execute(
            "SELECT setconfig FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase WHERE datname = %s",
            (database,),
        ).fetchone()
        assert "TimeZone=UTC" in said


STATEMENTS = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements' AND extnamespace = 'public'::regnamespace"


def test_statements_are_counted_where_the_server_can_and_the_one_who_runs_roles_may(cluster):
    with cluster.database("roles") as name, db.connect(cluster.url("postgres", name)) as conn:
        offered = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_stat_statements'"
        role = f"{name}_admin"
        conn.execute(f'CREATE ROLE "{role}" CREATEROLE')
        conn.execute(f'GRANT petstore_owner, petstore_app, petstore_report TO "{role}" WITH ADMIN OPTION')
        conn.execute(f'ALTER DATABASE "{name}" OWNER TO "{role}"')
        try:
            conn.execute(f'SET ROLE "{role}"')
            conn.execute(ROLES)
            assert conn.execute(STATEMENTS).fetchone() == (0,)
            conn.execute("RESET ROLE")
            conn.execute(ROLES)
            assert conn.execute(STATEMENTS).fetchone() == conn.execute(offered).fetchone()
        finally:
            conn.execute("RESET ROLE")
            conn.execute(f'REASSIGN OWNED BY "{role}" TO CURRENT_USER; DROP OWNED BY "{role}"; DROP ROLE "{role}"')
