"""sql/roles.sql and sql/schema.sql, as they are run."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from petstore import db
from petstore.db import schema
from petstore.db.queries import sql_folder
from petstore.repository.reports import run_report
from tests.waiting import eventually

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


# ── the ledger of stock ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pair(make):
    """Products 1 and 2, with 10 and 20 pieces."""
    return make.product(stock=10), make.product(stock=20)


def moved(make, after=2):
    return make.rows("SELECT product_id, kind, delta, stock FROM stock_movements WHERE id > %s ORDER BY product_id, id", after)


NEW = "INSERT INTO products (name, price, stock) VALUES"
WITH_ID = "INSERT INTO products (id, name, price, stock) OVERRIDING SYSTEM VALUE VALUES (1, 'x', 1, 9), (7, 'y', 1, 4)"
MERGE = (
    "MERGE INTO products AS p USING (VALUES (2, 3), (8, 6)) AS w (id, stock) ON p.id = w.id"
    " WHEN MATCHED THEN UPDATE SET stock = w.stock WHEN NOT MATCHED THEN INSERT (name, price, stock) VALUES ('m', 1, w.stock)"
)


@pytest.mark.parametrize(
    ("statement", "movements"),
    [
        ("UPDATE products SET stock = 7 WHERE id = 1", [(1, "adjust", -3, 7)]),
        ("UPDATE products SET stock = stock + id", [(1, "adjust", 1, 11), (2, "adjust", 2, 22)]),
        ("UPDATE products SET stock = 10", [(2, "adjust", -10, 10)]),
        ("UPDATE products SET stock = stock, name = 'x', deleted_at = now()", []),
        ("UPDATE products SET stock = 1 WHERE id = 9", []),
        (f"{NEW} ('a', 1, 5), ('b', 1, 0)", [(3, "initial", 5, 5), (4, "initial", 0, 0)]),
        (f"{NEW.replace('VALUES', '')} SELECT name, price, stock FROM products", [(3, "initial", 10, 10), (4, "initial", 20, 20)]),
        (f"{WITH_ID} ON CONFLICT (id) DO UPDATE SET stock = excluded.stock", [(1, "adjust", -1, 9), (7, "initial", 4, 4)]),
        (f"{WITH_ID} ON CONFLICT DO NOTHING", [(7, "initial", 4, 4)]),
        ("WITH a AS (UPDATE products SET stock = 1 WHERE id = 1) UPDATE products SET stock = 2 WHERE id = 2",
         [(1, "adjust", -9, 1), (2, "adjust", -18, 2)]),
        ("DO 'BEGIN FOR i IN 1..2 LOOP UPDATE products SET stock = stock - i WHERE id = 1; END LOOP; END'",
         [(1, "adjust", -1, 9), (1, "adjust", -2, 7)]),
        (MERGE, [(2, "adjust", -17, 3), (3, "initial", 6, 6)]),
    ],
)  # fmt: skip
def test_however_stock_is_changed_the_ledger_has_it(make, pair, statement, movements):
    if statement == MERGE and make.conn.info.server_version < 150_000:
        pytest.skip("MERGE came with PostgreSQL 15")
    make.conn.execute(statement)
    assert moved(make) == movements
    told = {(None, f"in SQL, as {make.scalar('SELECT session_user')}")} if movements else set()
    assert set(make.rows("SELECT actor_id, reason FROM stock_movements WHERE id > 2")) == told
    assert run_report(make.conn, "ledger_proof") == []


def test_what_is_loaded_by_copy_is_in_the_ledger(make, pair):
    with make.conn.cursor().copy("COPY products (name, price, stock) FROM STDIN") as copy:
        for stock in (5, 0):
            copy.write_row(("x", "1.00", stock))
    assert moved(make) == [(3, "initial", 5, 5), (4, "initial", 0, 0)]
    assert run_report(make.conn, "ledger_proof") == []


@pytest.mark.parametrize("change", ["id = 9", "id = DEFAULT"])
def test_the_id_of_a_product_stays(make, pair, change):
    with pytest.raises((psycopg.errors.GeneratedAlways, psycopg.errors.ForeignKeyViolation)):
        make.conn.execute(f"UPDATE products SET {change} WHERE id = 1")
    assert run_report(make.conn, "ledger_proof") == []


@pytest.mark.parametrize(
    ("first", "kept"),
    [
        ("UPDATE products SET stock = 5 FROM {cause} WHERE id = 1", 1),
        ("UPDATE products SET name = 'x' FROM {cause} WHERE id = 1", 0),
        ("UPDATE products SET stock = 5 FROM {cause} WHERE id = 9", 0),
        ("INSERT INTO products (name, price, stock) SELECT 'x', 1, 1 FROM {cause}", 1),
        ("UPDATE products SET stock = -1 FROM {cause} WHERE id = 1", None),
    ],
)
def test_a_cause_is_good_for_one_statement(make, pair, first, kept):
    boss = make.user().id
    kind = "initial" if first.startswith("INSERT") else "adjust"
    statement = first.format(cause=f"stock_cause('{kind}', NULL, {boss}, 'counted')")
    with make.conn.transaction():
        if kept is None:
            with pytest.raises(psycopg.errors.CheckViolation), make.conn.transaction():
                make.conn.execute(statement)
        else:
            make.conn.execute(statement)
        make.conn.execute("UPDATE products SET stock = 3 WHERE id = 2")
    assert make.rows("SELECT actor_id, reason FROM stock_movements WHERE id > 2 ORDER BY product_id = 2, id") == [
        *[(boss, "counted")] * (kept or 0),
        (None, f"in SQL, as {make.scalar('SELECT session_user')}"),
    ]


INSERT_MOVEMENT = "INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES"


@pytest.mark.parametrize(
    ("damage", "faults"),
    [
        ("ALTER TABLE products DISABLE TRIGGER products_update_record_stock; UPDATE products SET stock = 7 WHERE id = 1",
         [(1, 7, 10, 0)]),
        (f"ALTER TABLE products DISABLE TRIGGER products_insert_record_stock; {NEW} ('x', 1, 5), ('x', 1, 0)",
         [(3, 5, 0, 0), (4, 0, 0, 0)]),
        ("ALTER TABLE stock_movements DISABLE TRIGGER USER; UPDATE stock_movements SET delta = 9, stock = 9 WHERE product_id = 2",
         [(2, 20, 9, 0)]),
        ("ALTER TABLE stock_movements DISABLE TRIGGER USER; DELETE FROM stock_movements", [(1, 10, 0, 0), (2, 20, 0, 0)]),
        (f"{INSERT_MOVEMENT} (1, 'adjust', 1, 11)", [(1, 10, 11, 0)]),
        (f"{INSERT_MOVEMENT} (1, 'adjust', 1, 99), (1, 'adjust', -1, 10)", [(1, 10, 10, 1)]),
    ],
)  # fmt: skip
def test_a_ledger_that_was_gone_round_is_found(make, pair, damage, faults):
    with make.conn.transaction(force_rollback=True):
        make.conn.execute(damage)
        assert [tuple(row.values()) for row in run_report(make.conn, "ledger_proof")] == faults
    assert run_report(make.conn, "ledger_proof") == []


# ── the books ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def books(make, ana, pair):
    """A pending and a paid invoice of 3 × 12.50, an event and a credit note of the second one; a new admin, of whom the log tells."""
    make.user(role="admin")
    make.invoice(ana.id, {pair[0]: 3})
    paid = make.invoice(ana.id, {pair[0]: 3}, status="paid")
    with make.conn.transaction():
        make.conn.execute(
            "INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (%s, 'C2001-000001', %s)", (paid, ana.id)
        )
        make.conn.execute("INSERT INTO credit_note_lines VALUES (1, %s, %s, 1, false)", (paid, pair[0]))
    event = "INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (%s, 'paid', 'shipped', %s, false)"
    make.conn.execute(event, (paid, ana.id))
    tables = (
        "stock_movements",
        "credit_notes",
        "credit_note_lines",
        "invoice_events",
        "invoices",
        "invoice_details",
        "users",
        "audit_log",
    )
    return lambda: [make.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]


@pytest.mark.parametrize(
    "statement",
    [
        *[
            "UPDATE stock_movements SET reason = 'x'",
            "UPDATE credit_notes SET reason = 'x'",
            "UPDATE credit_note_lines SET restock = true",
        ],
        *["UPDATE invoice_events SET reason = 'x'", "UPDATE stock_movements SET delta = delta WHERE false"],
        *[f"DELETE FROM {table}" for table in ("stock_movements", "credit_notes", "credit_note_lines", "invoice_events")],
        *["DELETE FROM invoices", "DELETE FROM invoice_details", "DELETE FROM invoices WHERE status = 'pending'"],
        *["DELETE FROM users", "DELETE FROM users WHERE false", "DELETE FROM audit_log", "UPDATE audit_log SET fields = '{}'"],
        *[
            f"UPDATE invoice_events SET {column} = {column}"
            for column in ("invoice_id", "from_status", "to_status", "actor_id", "restocked", "created_at")
        ],
        *[
            f"UPDATE invoice_details SET {column} = {column}"
            for column in ("invoice_id", "product_id", "name", "unit_price", "quantity")
        ],
        *["UPDATE invoices SET total = total + 1 WHERE id = 1", "UPDATE invoices SET total = 0"],
        *[
            "UPDATE invoices SET number = '2001-999999' WHERE id = 2",
            "UPDATE invoices SET number = NULL, status = 'pending' WHERE id = 2",
        ],
    ],
)
def test_what_is_in_the_books_stays_for_the_owner_too(make, books, statement):
    before = books()
    with pytest.raises(psycopg.errors.RestrictViolation):
        make.conn.execute(statement)
    assert books() == before


def test_words_about_an_invoice_can_be_erased_and_not_altered(make, ana, books):
    words = "INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason) VALUES (1, %s, %s, %s, false, %s)"
    make.conn.execute(words, ("pending", "paid", ana.id, "hers"))
    make.conn.execute(words, ("paid", "shipped", ana.id, "others"))
    for changed in ("'mine'", "reason", "reason || ''"):
        with pytest.raises(psycopg.errors.RestrictViolation):
            make.conn.execute(f"UPDATE invoice_events SET reason = {changed} WHERE reason = 'hers'")
    make.conn.execute("UPDATE invoice_events SET reason = NULL WHERE reason = 'hers'")
    assert make.rows("SELECT from_status, reason FROM invoice_events WHERE invoice_id = 1 ORDER BY id") == [
        ("pending", None),
        ("paid", "others"),
    ]


def begin(conn, request):
    conn.execute("SELECT begin_request(%s)", (json.dumps(request),))


def test_nobody_acts_who_is_disabled_erased_or_unknown(make, ana, conn):
    bob = make.user()
    for actor in (ana.id, bob.id, None):
        begin(conn, {"actor_id": actor, "address": None})
    conn.execute("UPDATE users SET active = false WHERE id = %s", (ana.id,))
    for actor in (ana.id, 2**63 - 1):
        with pytest.raises(psycopg.errors.CheckViolation) as refusal, conn.transaction():
            begin(conn, {"actor_id": actor, "address": None})
        assert refusal.value.diag.constraint_name == "users_actor_active"
    begin(conn, {"actor_id": bob.id, "address": None})


def test_who_acts_cannot_be_erased_before_the_transaction_ends(make, ana, conn):
    bob = make.user()
    begin(conn, {"actor_id": ana.id, "address": None})
    assert make.rows("SELECT id FROM users FOR UPDATE SKIP LOCKED") == [(bob.id,)]
    assert make.rows("SELECT id FROM users ORDER BY id FOR NO KEY UPDATE SKIP LOCKED") == [(ana.id,), (bob.id,)]  # logs in, say


def test_a_number_is_given_once_and_what_does_not_change_may_be_written_again(make, books):
    make.conn.execute("UPDATE invoices SET number = '2001-000009', status = 'paid' WHERE id = 1")
    before = books()
    make.conn.execute("UPDATE invoices SET total = total, number = number")
    assert books() == before


LINE = "INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (currval('invoices_id_seq'), {}, 'x', {}, {})"


@pytest.mark.parametrize(
    ("total", "lines", "broken"),
    [
        ("0", [], None),
        ("37.60", [(1, "12.50", 3), (2, "0.05", 2)], None),
        ("0", [(1, "0", 3)], None),
        ("0.01", [], "invoices_total_is_sum"),
        ("37.51", [(1, "12.50", 3)], "invoices_total_is_sum"),
        ("12.50", [(1, "12.50", 3)], "invoices_total_is_sum"),
        ("37.50", [(1, "12.50", 3), (2, "0.05", 2)], "invoices_total_is_sum"),
    ],
)
def test_a_total_is_the_sum_of_its_lines_when_the_transaction_ends(make, ana, pair, total, lines, broken):
    def write():
        with make.conn.transaction():
            make.conn.execute("INSERT INTO invoices (user_id, total) VALUES (%s, %s::text::numeric)", (ana.id, total))
            for line in lines:
                make.conn.execute(LINE.format(*line))

    if broken is None:
        write()
    else:
        with pytest.raises(psycopg.errors.CheckViolation) as refusal:
            write()
        assert refusal.value.diag.constraint_name == broken
    assert make.scalar("SELECT count(*) FROM invoices") == (broken is None)


def test_no_line_is_added_to_an_invoice_later(make, books):
    before = books()
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        make.conn.execute(LINE.format(2, "0.01", 1))
    assert refusal.value.diag.constraint_name == "invoice_details_total_is_sum"
    assert books() == before


def test_a_line_total_is_price_times_quantity_and_nothing_else(make, books):
    assert make.rows("SELECT DISTINCT unit_price::text, quantity, line_total::text FROM invoice_details") == [
        ("12.50", 3, "37.50")
    ]
    given = (
        "INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity, line_total) VALUES (1, 2, 'x', 1, 1, 2)"
    )
    for statement in (given, "UPDATE invoice_details SET line_total = 0"):
        with pytest.raises(psycopg.errors.GeneratedAlways):
            make.conn.execute(statement)


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize(("end", "given"), [("COMMIT", 2), ("ROLLBACK", 1)])
def test_of_two_who_take_a_number_at_once_the_second_waits_and_there_is_no_gap(make, cluster, database, before, end, given):
    url = cluster.url("petstore_owner", database)

    def take(conn, series):
        return conn.execute("SELECT next_number(%s)", (series,)).fetchone()[0]

    for _ in range(before):
        take(make.conn, series="invoice")
    with db.connect(url) as first, db.connect(url) as second, ThreadPoolExecutor(1) as pool:
        first.execute("BEGIN")
        assert take(first, series="invoice").endswith(f"-{before + 1:06}")
        waiting = pool.submit(take, second, series="invoice")
        eventually(
            lambda: make.scalar("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", second.info.backend_pid) == 1
        )
        assert take(make.conn, series="credit_note").endswith("-000001")  # which waits for nobody
        first.execute(end)
        assert waiting.result().endswith(f"-{before + given:06}")
    assert make.rows("SELECT series, last FROM number_series ORDER BY series") == [
        ("credit_note", 1),
        ("invoice", before + given),
    ]


def test_a_status_changed_in_sql_follows_the_transitions_and_gives_the_number(make, ana):
    year = make.scalar("SELECT extract(year FROM now() AT TIME ZONE 'UTC')::int")
    first, second = make.invoice(ana.id), make.invoice(ana.id)
    for statement in ("UPDATE invoices SET status = 'shipped'", "UPDATE invoices SET status = 'refunded' WHERE id = 1"):
        with pytest.raises(psycopg.errors.CheckViolation, match="cannot become"):
            make.conn.execute(statement)
    make.conn.execute("UPDATE invoices SET status = 'paid' WHERE id = %s", (second,))
    make.conn.execute("UPDATE invoices SET status = 'shipped' WHERE id = %s", (second,))
    assert make.rows("SELECT id, status, number FROM invoices ORDER BY id") == [
        (first, "pending", None),
        (second, "shipped", f"{year}-000001"),
    ]


def test_a_credit_note_without_lines_is_none(make, ana):
    paid = make.invoice(ana.id, {make.product(): 1}, status="paid")
    with pytest.raises(psycopg.errors.CheckViolation, match="has no lines"):
        make.conn.execute("INSERT INTO credit_notes (invoice_id, actor_id) VALUES (%s, %s)", (paid, ana.id))
    assert make.rows("SELECT * FROM credit_notes") == make.rows("SELECT * FROM number_series") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE ended_at IS NOT NULL",
        "UPDATE sessions SET ended_at = now() WHERE ended_at IS NOT NULL",
        "UPDATE users SET token_version = 1 WHERE token_version = 2",
        "UPDATE users SET erased_at = NULL, email = 'x@example.com', password = 'x' WHERE erased_at IS NOT NULL",
        "UPDATE users SET role = 'admin' WHERE erased_at IS NOT NULL",
    ],
)
def test_what_has_ended_is_not_revived_by_the_owner_either(make, ana, statement):
    make.conn.execute("UPDATE users SET token_version = 2 WHERE id = %s", (ana.id,))
    make.conn.execute("UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE id = %s", (ana.session_id,))
    gone = make.user()
    erased = "email = NULL, password = NULL, active = false, erased_at = now()"
    make.conn.execute(f"UPDATE users SET {erased} WHERE id = %s", (gone.id,))
    with pytest.raises(psycopg.errors.RestrictViolation):
        make.conn.execute(statement)


def test_every_way_to_change_a_product_in_sql_is_in_the_audit_log(make):
    product_id = make.product()
    for change in ("price = 1", "deleted_at = now()", "price = 2", "deleted_at = NULL", "stock = 3"):
        make.conn.execute(f"UPDATE products SET {change} WHERE id = %s", (product_id,))
    assert make.rows("SELECT action, subject_id, fields, actor_id FROM audit_log ORDER BY id") == [
        ("product.update", product_id, ["price"], None),
        ("product.delete", product_id, ["deleted_at"], None),
        ("product.update", product_id, ["price"], None),
        ("product.update", product_id, ["deleted_at"], None),
    ]


def test_what_was_credited_or_restocked_never_gets_less(make, ana):
    make.invoice(ana.id, {make.product(): 2}, status="paid")
    make.conn.execute("UPDATE invoice_details SET credited = 2, restocked = 1")
    for statement in ("UPDATE invoice_details SET credited = 1", "UPDATE invoice_details SET restocked = 0"):
        with pytest.raises(psycopg.errors.RestrictViolation):
            make.conn.execute(statement)
