"""sql/roles.sql and sql/schema.sql, as they are run."""

import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from petstore import db
from petstore.db import schema
from petstore.db.queries import sql_folder

SCHEMA = (sql_folder() / "schema.sql").read_bytes()
ROLES = (sql_folder() / "roles.sql").read_bytes()


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
                schema.create_schema(cluster.url("postgres", name), currency="USD", minor_digits=2)
        finally:
            conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_roles_can_be_run_twice_and_of_many_who_make_the_schema_at_once_one_does(cluster):
    with cluster.database("schema") as name:
        url = cluster.url("postgres", name)
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _: schema.create_schema(url, currency="USD", minor_digits=2), range(4)))
        assert sorted(made) == [False, False, False, True]
        with db.connect(url) as conn:
            conn.execute(ROLES)
            assert shop(conn) == ("USD", 2)


def test_every_table_belongs_to_the_owner(make):
    assert (
        make.rows(
            "SELECT relname FROM pg_class WHERE relnamespace = 'm2_be_project'::regnamespace AND relkind = 'r'"
            " AND relowner <> 'petstore_owner'::regrole"
        )
        == []
    )


# What a DBA meets in the catalog. The index behind a constraint is described by the constraint, a constraint trigger by the trigger.
OBJECTS = """
    WITH relations AS (SELECT oid, relkind FROM pg_class WHERE relnamespace = 'm2_be_project'::regnamespace)
    SELECT 'pg_class'::regclass, oid, 0 FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 'pg_class'::regclass, r.oid, 0 FROM relations AS r
    WHERE relkind IN ('i', 'I') AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = r.oid AND contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT 'pg_class'::regclass, r.oid, a.attnum FROM relations AS r INNER JOIN pg_attribute AS a ON r.oid = a.attrelid
    WHERE r.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'pg_constraint'::regclass, oid, 0 FROM pg_constraint
    WHERE connamespace = 'm2_be_project'::regnamespace AND contype <> 't'
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, 0 FROM relations AS r INNER JOIN pg_trigger AS t ON r.oid = t.tgrelid
    WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 0 FROM pg_proc WHERE pronamespace = 'm2_be_project'::regnamespace
    UNION ALL
    SELECT 'pg_type'::regclass, oid, 0 FROM pg_type WHERE typnamespace = 'm2_be_project'::regnamespace AND typtype IN ('d', 'e', 'r')
"""
# A constraint whose definition says it all: a key of a row, a reference, one column without duplicates, NOT NULL (a constraint since
# PostgreSQL 18), and a CHECK that only compares columns, or their lengths, with constants or each other.
SELF_EVIDENT = re.compile(
    r"""PRIMARY\ KEY\ \(.*\) | FOREIGN\ KEY\ .* | UNIQUE\ \(\w+\) | NOT\ NULL\ \w+
    | CHECK\ \( (?: [()\[\], ] | [<>=]+ | \d+ | '[^']*' | ::\w+ | (?:AND|ANY|ARRAY)\b | (?:char|octet)_length\b
        | [a-z_]+\b(?!\() )+ \)""",
    re.VERBOSE,
)


def uncommented(rows):
    """Names of the objects that lack a comment, of those that need one; and every kind of object there is."""
    found = rows(
        f"""
        SELECT pg_describe_object(o.c, o.o, o.s), d.description, pg_get_constraintdef(k.oid) FROM ({OBJECTS}) AS o (c, o, s)
        LEFT JOIN pg_description AS d ON (d.classoid, d.objoid, d.objsubid) = (o.c, o.o, o.s)
        LEFT JOIN pg_constraint AS k ON o.c = 'pg_constraint'::regclass AND o.o = k.oid
        """
    )
    missing = {name for name, comment, definition in found if not comment and not SELF_EVIDENT.fullmatch(definition or "")}
    return missing, {name.split()[0] for name, *_ in found}


def test_every_object_is_commented_unless_its_definition_says_it_all(make):
    missing, kinds = uncommented(make.rows)
    assert kinds == {"table", "index", "column", "constraint", "trigger", "function", "type"}
    assert missing == set()


def test_a_constraint_needs_a_comment_unless_its_definition_says_it_all(make):
    self_evident = """
        id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES m2_be_project.users, low integer, high integer, word text,
        UNIQUE (word), CHECK (low > 0), CHECK (high BETWEEN low AND 100), CHECK (word IN ('a', 'b')), CHECK (word <> 'c'),
        CHECK (char_length(word) BETWEEN 1 AND 20)
    """
    why = {
        "pair": "UNIQUE (low, high)",
        "form": "CHECK (word ~ '^[a-z]+$')",
        "likeness": "CHECK (word LIKE '%a')",
        "together": "CHECK ((low IS NULL) = (high IS NULL))",
        "either": "CHECK (low = 1 OR high = 1)",
        "trimmed": "CHECK (word = btrim(word))",
        "cased": "CHECK (CASE word WHEN 'a' THEN low > 0 ELSE true END)",
    }
    with make.conn.transaction(force_rollback=True):
        named = "".join(f", CONSTRAINT {name} {definition}" for name, definition in why.items())
        make.conn.execute(f"CREATE TABLE m2_be_project.x ({self_evident} {named})")
        missing, _ = uncommented(make.rows)
    assert {name.split()[1] for name in missing if re.match("constraint .* on table x$", name)} == {*why}


def test_the_table_of_contents_of_the_schema_is_what_is_in_each_section():
    header, *sections = re.split(r"^-- ── (.+?) ─+$", SCHEMA.decode(), flags=re.MULTILINE)
    listed = re.findall(r"^--   ([a-z]+(?: [a-z]+)*)  +((?:.*,\n-- +)*.*)$", header, re.MULTILINE)
    contents = [(title, re.findall(r"\w+(?=[,(\s]|$)", re.sub(r"\(a domain\)|--", "", names))) for title, names in listed]
    made = re.compile(r"^\s*'?CREATE (?:TABLE|FUNCTION|DOMAIN) (\w+)", re.MULTILINE)
    assert contents == [(title, made.findall(body)) for title, body in zip(sections[::2], sections[1::2], strict=True)]


# ── the role for reports ─────────────────────────────────────────────────────────────────────────────────────────────────
