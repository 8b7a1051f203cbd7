"""sql/roles.sql and sql/schema.sql, as they are run."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from petstore import db, db_schema
from petstore.queries import SQL_FOLDER

SCHEMA = (SQL_FOLDER / "schema.sql").read_bytes()
ROLES = (SQL_FOLDER / "roles.sql").read_bytes()


def shop(conn):
    return conn.execute("SELECT currency, minor_digits FROM m2_be_project.shop").fetchone()


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ("", ("USD", 2)),
        ("-c petstore.currency=JPY -c petstore.minor_digits=0", ("JPY", 0)),
        ("-c petstore.currency=KWD -c petstore.minor_digits=3", ("KWD", 3)),
        ("-c petstore.currency=JPY", None),
        ("-c petstore.currency=yen -c petstore.minor_digits=0", None),
    ],
)
def test_a_schema_has_the_currency_and_digits_that_were_given_or_is_not_made(cluster, settings, made):
    with cluster.database("schema") as name, db.connect(cluster.url("postgres", name), options=settings) as conn:
        conn.execute(ROLES)
        if made is None:
            with pytest.raises(psycopg.errors.IntegrityError):
                conn.execute(SCHEMA)
            conn.execute("ROLLBACK")
            assert conn.execute("SELECT to_regnamespace('m2_be_project')").fetchone() == (None,)
        else:
            conn.execute(SCHEMA)
            assert shop(conn) == made
            finest = "0." + "0" * made[1] + "1"
            insert = "INSERT INTO m2_be_project.products (name, price, stock) VALUES ('x', %s::text::numeric, 1)"
            with pytest.raises(psycopg.errors.CheckViolation):
                conn.execute(insert, (finest,))
            conn.execute(insert, (finest[:-2] if made[1] else "1",))


def test_a_database_that_does_not_know_letters_beyond_ascii_gets_no_schema(cluster):
    with db.connect(cluster.url("postgres", cluster.name)) as conn:
        name = f"{cluster.name}_ascii"
        conn.execute(f'DROP DATABASE IF EXISTS "{name}"')
        conn.execute(f"CREATE DATABASE \"{name}\" TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'")
        try:
            with pytest.raises(psycopg.errors.RaiseException, match="letters beyond ASCII"):
                db_schema.create_schema(cluster.url("postgres", name), currency="USD", minor_digits=2)
        finally:
            conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_roles_can_be_run_twice_and_of_many_who_make_the_schema_at_once_one_does(cluster):
    with cluster.database("schema") as name:
        url = cluster.url("postgres", name)
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: db_schema.create_schema(url, currency="USD", minor_digits=2), range(4)))
        assert sorted(made) == [False, False, False, True]
        with db.connect(url) as conn:
            conn.execute(ROLES)
            assert shop(conn) == ("USD", 2)


def test_every_table_belongs_to_the_owner_and_is_commented(make):
    assert (
        make.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'm2_be_project'::regnamespace AND relkind = 'r'"
            " AND (relowner <> 'petstore_owner'::regrole OR obj_description(oid) IS NULL)"
        )
        == []
    )
