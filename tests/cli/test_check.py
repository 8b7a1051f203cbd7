"""`petstore check`: finds what was done to a database, and nothing else, and what it prints mends it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from petstore import db
from petstore.db import schema
from petstore.db.differences import Difference, differences
from petstore.db.migrations import newest_version
from petstore.db.queries import split_statements
from petstore.embedded import find_program
from tests.cli.drift import HARMLESS, MUTANTS, OWN, ROLES, SAME, SUPERUSER, TABLE, Mutant
from tests.commands import petstore
from tests.databases import first_release

CLEAN = r"\S+Z INFO petstore: the database is as schema version (\d+) makes it: (\d+) facts compared\n"
# What deletes data, or hides that it is gone.
LIVE = r"^(?:CREATE TABLE|DROP (?:TABLE|MATERIALIZED|FOREIGN TABLE|SEQUENCE)|ALTER TABLE \S+ DROP COLUMN) .*"
ADD = "INSERT INTO m2_be_project.products (name, price, stock) VALUES ('Ball', 1, 1)"


class Shop:
    """A database that a test may change, and `petstore check` on it."""

    def __init__(self, cluster: Any, name: str, home: Path, conn: db.Connection) -> None:
        self.name, self._url, self._home, self.conn = name, cluster.url, home, conn

    def run(self, sql: str) -> None:
        """Run statements one by one, as a superuser."""
        for statement in split_statements(sql.replace("{database}", f'"{self.name}"')):
            self.conn.execute(statement.encode())

    def check(self, role: str = "petstore_app") -> subprocess.CompletedProcess:
        url = self._url(role, self.name)
        return petstore("check", PETSTORE_DATABASE_URL=url, PETSTORE_REDIS_URL="", PETSTORE_HOME=str(self._home))

    def differences(self) -> list[Difference]:
        return differences(self.conn, newest_version(), 2)

    def harmful(self) -> bool:
        return any(one.harmful for one in self.differences())

    def mend(self, script: str, role: str = "petstore_owner") -> None:
        """What is printed goes through psql: as petstore_owner, unless it says that a superuser has to mend it."""
        url = self._url("postgres" if SUPERUSER in script else role, self.name)
        command = [find_program("psql"), "-X", "-q", "-d", url]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def rights_of_an_owner(self) -> str:
        usual = "SELECT DISTINCT privilege_type FROM aclexplode(acldefault('r', 10)) ORDER BY 1"
        return ", ".join(right for (right,) in self.conn.execute(usual))

    def decided(self, script: str) -> str:
        """The script after somebody has read it, and wants also what it only shows as a comment."""
        for one in self.differences():
            for sql in filter(None, (one.mend, one.afterwards)):
                if one.held:
                    script = script.replace("\n".join(f"-- {line}" for line in sql.split("\n")), sql)
        return script

    def is_clean(self, version: int = newest_version()) -> bool:
        done = self.check()
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
        said = re.fullmatch(CLEAN, done.stderr)
        return said is not None and int(said[1]) == version


@contextmanager
def opened(cluster: Any, name: str, home: Path) -> Iterator[Shop]:
    """The shop in a database, which is connected to as a superuser for the block."""
    with db.connect(cluster.url("postgres", name)) as conn:
        yield Shop(cluster, name, home, conn)


@pytest.fixture(scope="module")
def clean_shop(cluster, template, tmp_path_factory) -> Iterator[Callable[[], Shop]]:
    """Gives one and the same shop, as each test mends it at its end; another one if a test has failed before it did."""
    shops: list[Shop] = []
    with ExitStack() as stack:

        def take() -> Shop:
            if not shops or shops[-1].differences():
                name = stack.enter_context(cluster.database(f"drift_{len(shops)}", template))
                shops.append(stack.enter_context(opened(cluster, name, tmp_path_factory.mktemp("drift"))))
            return shops[-1]

        yield take


@pytest.fixture
def shop(clean_shop) -> Shop:
    """For a test that leaves no row in it, and no difference."""
    return clean_shop()


@pytest.fixture
def new_shop(cluster, template, tmp_path) -> Iterator[Shop]:
    """For a test that leaves something."""
    with cluster.database("drift", template) as name, opened(cluster, name, tmp_path) as made:
        yield made


def comments(script: str) -> list[str]:
    """The comments that say what is wrong, without `(harmful)`."""
    blocks = re.findall(r"^-- (.*[^;\n])$", "\n".join(block.partition("\n")[0] for block in script.split("\n\n")), re.MULTILINE)
    return [line.removesuffix(" (harmful)") for line in blocks]


def test_a_database_that_nobody_has_changed_is_as_its_version_makes_it_whoever_asks(shop):
    for role in ("petstore_app", "petstore_owner", "petstore_report", "postgres"):
        done = shop.check(role)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout
        version, facts = re.fullmatch(CLEAN, done.stderr).groups()
        assert int(version) == newest_version()
        assert int(facts) > 500


@pytest.mark.parametrize("name", MUTANTS)
def test_what_was_changed_is_found_and_nothing_else_and_what_is_printed_mends_it(shop, name):
    mutant = MUTANTS[name]
    shop.run(mutant.sql)
    done = shop.check()
    assert done.returncode == 1
    assert comments(done.stdout) == [line.replace(OWN, shop.rights_of_an_owner()) for line in mutant.said]
    number, harmful = len(mutant.said), len(re.findall(r"^-- .* \(harmful\)$", done.stdout, re.MULTILINE))
    said = f"petstore: {number} difference{'s' if number > 1 else ''}, {harmful} of them harmful; review the lines above"
    assert said in done.stderr
    assert shop.harmful() == mutant.harmful == (harmful > 0)
    assert re.findall(LIVE, done.stdout, re.MULTILINE) == []
    decided = shop.decided(done.stdout)
    shop.mend(done.stdout)
    if decided != done.stdout:
        assert shop.differences()
        shop.mend(shop.decided(shop.check().stdout))
    assert shop.differences() == []


@pytest.mark.parametrize("name", ROLES)
def test_what_was_changed_in_a_role_is_found_and_mended(cluster, shop, name):
    mutant: Mutant = ROLES[name]
    with cluster.changing_roles(), shop.conn.transaction(force_rollback=True):
        shop.run(mutant.sql)
        found = shop.differences()
        assert [f"{one.kind} {one.name} {one.fault}" for one in found] == mutant.said
        assert [one.harmful for one in found] == [mutant.harmful]
        assert all(one.superuser for one in found)
        for one in found:
            shop.conn.execute(one.mend.encode())
        assert shop.differences() == []


def test_a_setting_in_other_words_is_the_same(cluster, shop):
    with cluster.changing_roles(), shop.conn.transaction(force_rollback=True):
        shop.run(SAME)
        assert shop.differences() == []
        shop.run("ALTER ROLE petstore_report SET statement_timeout = 60")  # milliseconds
        assert [one.mend for one in shop.differences()] == ["ALTER ROLE petstore_report SET statement_timeout = '60s';"]


def test_what_a_dba_may_do_is_no_difference(new_shop):
    role = f'"{new_shop.name}_dba"'
    try:
        new_shop.run(HARMLESS.replace("{role}", role))
        assert new_shop.is_clean()
    finally:
        new_shop.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_another_role_that_may_write_is_named(shop):
    role = f"{shop.name}_dba"
    shop.run(f'CREATE ROLE "{role}"; GRANT SELECT, UPDATE ON m2_be_project.products TO "{role}"')
    try:
        assert comments(shop.check().stdout) == [f"grant products {role} UPDATE is not Petstore's"]
    finally:
        shop.run(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def duplicate(shop: Shop, statement: str, table: str) -> None:
    """Make an index CONCURRENTLY that two rows keep from becoming valid."""
    with pytest.raises(psycopg.errors.UniqueViolation):
        shop.run(statement)
    invalid = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass AND NOT indisvalid"
    assert shop.conn.execute(invalid, (f"m2_be_project.{table}",)).fetchone() == (1,)


def test_an_index_that_was_left_invalid_is_dropped_if_it_is_nobodys(new_shop):
    new_shop.run("INSERT INTO m2_be_project.products (name, price, stock) VALUES ('Ball', 1, 1), ('Ball', 1, 1)")
    duplicate(new_shop, "CREATE UNIQUE INDEX CONCURRENTLY by_name ON m2_be_project.products (name)", "products")
    done = new_shop.check()
    assert comments(done.stdout) == ["index products.by_name is not Petstore's, and not valid"]
    assert new_shop.harmful()
    new_shop.mend(done.stdout)
    assert new_shop.is_clean()


def test_an_index_of_petstores_that_was_left_invalid_is_made_again(new_shop):
    hashed = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"
    (made,) = new_shop.conn.execute("SELECT pg_get_indexdef('m2_be_project.users_email_key'::regclass)").fetchone()
    new_shop.run("DROP INDEX m2_be_project.users_email_key")
    for email in ("ana@example.com", "Ana@example.com"):
        new_shop.conn.execute("INSERT INTO m2_be_project.users (email, password) VALUES (%s, %s)", (email, hashed))
    duplicate(new_shop, made.replace("INDEX", "INDEX CONCURRENTLY", 1), "users")
    new_shop.run("UPDATE m2_be_project.users SET email = 'bob@example.com' WHERE id = 2")
    done = new_shop.check()
    assert comments(done.stdout) == ["index users.users_email_key is not valid"]
    assert new_shop.harmful()
    new_shop.mend(done.stdout)
    assert new_shop.is_clean()


def test_a_column_that_numbers_again_goes_on_after_the_last_number(new_shop):
    new_shop.run("; ".join([ADD] * 3))
    new_shop.run("ALTER TABLE m2_be_project.products ALTER COLUMN id DROP IDENTITY")
    new_shop.mend(new_shop.check().stdout)
    assert new_shop.conn.execute(f"{ADD} RETURNING id".encode()).fetchone() == (4,)


SECRET = """
    ALTER TABLE m2_be_project.users ADD COLUMN secret text;
    ALTER TABLE m2_be_project.users ADD CONSTRAINT secret CHECK (secret <> '');
    CREATE UNIQUE INDEX secret ON m2_be_project.users (secret);
    CREATE TRIGGER secret AFTER DELETE ON m2_be_project.users EXECUTE FUNCTION m2_be_project.refuse_change();
    ALTER TRIGGER users_stay ON m2_be_project.users RENAME TO secret_2;
    ALTER TABLE m2_be_project.users DISABLE TRIGGER users_update_audit;
    CREATE TABLE m2_be_project.secret_2 ();
    CREATE TABLE public.secret () INHERITS (m2_be_project.number_series);
    ALTER DATABASE {database} SET petstore.secret = 'secret'
"""


def test_what_others_have_named_is_not_named_in_public(new_shop):
    new_shop.run(SECRET)
    found = new_shop.differences()
    assert sum("secret" in one.sentence for one in found) == len(found) - 1
    assert sorted(one.public_sentence for one in found) == [
        "a column that is not Petstore's, in users",
        "a constraint that is not Petstore's, in users",
        "a database setting that is not Petstore's",
        "a table that is not Petstore's",
        "a trigger that is not Petstore's, in users",
        "an index that is not Petstore's, in users",
        "an inheritance that is not Petstore's, in number_series",
        "trigger users.users_stay has another name",
        "trigger users.users_update_audit is disabled",
    ]


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ledger(shop: Shop, table: str) -> list[tuple[Any, ...]]:
    return shop.conn.execute(f"SELECT * FROM m2_be_project.{table} ORDER BY 1".encode()).fetchall()


def test_a_table_and_a_column_that_have_another_name_keep_what_they_hold(new_shop):
    new_shop.run(f"{ADD}; {ADD}")
    rows = ledger(new_shop, "stock_movements")
    assert len(rows) == 2
    new_shop.run(f"{TABLE}stock_movements RENAME TO stock_ledger; {TABLE}stock_ledger RENAME delta TO change")
    assert "stock_ledger is not Petstore's" in new_shop.check().stdout  # a table is known by its columns
    new_shop.run(f"{TABLE}stock_ledger RENAME change TO delta; {TABLE}products RENAME stock TO pieces")
    new_shop.mend(new_shop.check().stdout)
    assert new_shop.conn.execute("SELECT stock FROM m2_be_project.products").fetchall() == [(1,), (1,)]
    assert new_shop.is_clean()
    assert ledger(new_shop, "stock_movements") == rows


def test_a_table_that_is_not_found_again_is_not_made_and_nothing_is_dropped(new_shop):
    new_shop.run(f"{ADD}; {ADD}")
    rows = ledger(new_shop, "stock_movements")
    new_shop.run(f"{TABLE}stock_movements RENAME TO stock_ledger; {TABLE}stock_ledger ADD COLUMN note text")
    done = new_shop.check()
    assert "\n-- it deletes what it holds: decide yourself\n-- DROP TABLE m2_be_project.stock_ledger;\n" in done.stdout
    gone = (
        "-- its rows are gone or elsewhere: restore it from a backup\n-- CREATE TABLE m2_be_project.stock_movements ();\n-- ALTER"
    )
    assert gone in done.stdout
    new_shop.mend(done.stdout)
    assert new_shop.check().stdout == done.stdout
    assert [row[:-1] for row in ledger(new_shop, "stock_ledger")] == rows


def test_of_two_tables_that_may_be_the_missing_one_none_is_renamed(new_shop):
    table = "m2_be_project.invoice_transitions"
    new_shop.run(f"CREATE TABLE m2_be_project.copy AS TABLE {table}; ALTER TABLE {table} RENAME TO transitions")
    rows = ledger(new_shop, "transitions")
    done = new_shop.check()
    assert "RENAME" not in done.stdout
    assert (
        "\n-- it needs the table invoice_transitions\n-- ALTER TABLE m2_be_project.invoice_events DROP CONSTRAINT" in done.stdout
    )
    new_shop.mend(done.stdout)
    assert new_shop.check().stdout == done.stdout
    new_shop.run("DROP TABLE m2_be_project.copy")
    new_shop.mend(new_shop.check().stdout)
    assert new_shop.is_clean()
    assert ledger(new_shop, "invoice_transitions") == rows


def test_a_column_that_is_not_found_again_is_not_made_and_nothing_is_dropped(new_shop):
    new_shop.run(ADD)
    new_shop.run(f"{TABLE}products RENAME stock TO pieces; {TABLE}products ALTER pieces TYPE bigint")
    done = new_shop.check()
    assert "\n-- another column of its table may hold its values: decide yourself\n-- ALTER TABLE" in done.stdout
    new_shop.mend(done.stdout)
    assert comments(new_shop.check().stdout) == comments(done.stdout)
    assert new_shop.conn.execute("SELECT pieces FROM m2_be_project.products").fetchall() == [(1,)]


def test_a_column_that_is_no_longer_computed_is_not_dropped(new_shop):
    new_shop.run(f"{TABLE}invoice_details ALTER COLUMN line_total DROP EXPRESSION")
    done = new_shop.check()
    assert "\n-- ALTER TABLE m2_be_project.invoice_details DROP COLUMN line_total;\n" in done.stdout
    new_shop.mend(done.stdout)
    assert new_shop.check().stdout == done.stdout


def test_a_function_that_is_made_again_cannot_be_called_by_everybody(shop):
    shop.run("DROP FUNCTION m2_be_project.record_audit() CASCADE")
    done = shop.check()
    said = comments(done.stdout)
    assert said[0] == "function record_audit() is missing"
    assert {re.sub(r" \S+ ", " ... ", one) for one in said[1:]} == {"trigger ... is missing"}
    shop.mend(done.stdout)
    assert shop.is_clean()
    may = "SELECT has_function_privilege('petstore_report', 'm2_be_project.record_audit()', 'EXECUTE')"
    assert shop.conn.execute(may).fetchone() == (False,)


def test_a_superuser_makes_again_all_that_is_gone_and_it_belongs_to_the_owner(new_shop):
    namespace = "= 'm2_be_project'::regnamespace"
    tables = f"SELECT oid::regclass FROM pg_class WHERE relnamespace {namespace} AND relkind = 'r'"
    functions = f"SELECT oid::regprocedure FROM pg_proc WHERE pronamespace {namespace}"
    for (table,) in new_shop.conn.execute(f"{tables} AND relname NOT IN ('shop', 'schema_version')".encode()).fetchall():
        new_shop.run(f"DROP TABLE {table} CASCADE")
    for (function,) in new_shop.conn.execute(functions.encode()).fetchall():
        new_shop.run(f"DROP FUNCTION {function}")
    new_shop.run("DROP DOMAIN m2_be_project.amount")
    done = new_shop.check()
    assert len(comments(done.stdout)) > 150
    new_shop.mend(new_shop.decided(done.stdout), "postgres")
    assert new_shop.is_clean()


def test_the_versions_of_collations_are_compared(shop):
    versions = "SELECT to_jsonb(d) ->> 'datcollversion' FROM pg_database AS d WHERE datname = current_database()"
    if shop.conn.execute(versions).fetchone() == (None,):
        pytest.skip("the database's collation has no version here")
    shop.run("UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()")
    done = shop.check()
    assert comments(done.stdout) == [f"collation version of the database is not that of the library{SUPERUSER}"]
    assert not shop.harmful()
    shop.mend(done.stdout)
    assert shop.is_clean()


def test_the_present_definition_is_shown_as_a_comment_and_no_name_ends_one(shop):
    shop.run("ALTER TABLE m2_be_project.users ALTER role SET DEFAULT 'admin'; CREATE TABLE m2_be_project.\"a\nDROP b\" ()")
    out = shop.check().stdout
    assert "\n-- now: ALTER TABLE m2_be_project.users ALTER COLUMN role SET DEFAULT 'admin'::text\nALTER TABLE" in out
    assert '-- table "a DROP b" is not Petstore\'s' in out
    shop.mend(shop.decided(out))
    assert shop.is_clean()


# ── the script ───────────────────────────────────────────────────────────────────────────────────────────────────────────

FAULTS = """
    DROP TRIGGER products_update_record_stock ON m2_be_project.products;
    CREATE TRIGGER products_update_record_stock AFTER UPDATE OF name ON m2_be_project.products
        FOR EACH STATEMENT EXECUTE FUNCTION m2_be_project.refuse_change();
    ALTER TABLE m2_be_project.products DROP CONSTRAINT products_stock_range;
    ALTER TABLE m2_be_project.sessions DROP CONSTRAINT sessions_user_id_fkey;
    DROP FUNCTION m2_be_project.next_number(text);
    CREATE FUNCTION m2_be_project.next_number(wanted text) RETURNS text[] LANGUAGE sql AS 'SELECT ARRAY[$1]';
    DROP INDEX m2_be_project.invoices_age;
    DROP INDEX m2_be_project.invoices_of_user;
    CREATE INDEX invoices_of_user ON m2_be_project.invoices (user_id);
    CREATE INDEX mine ON m2_be_project.invoices (user_id);
    ALTER TABLE m2_be_project.products OWNER TO CURRENT_USER;
    ALTER TABLE m2_be_project.products DISABLE TRIGGER ALL
"""


def test_what_can_be_done_at_once_is_and_what_reads_whole_tables_comes_after_it(shop):
    shop.run(FAULTS)
    script = shop.check().stdout
    assert script.startswith("\\set ON_ERROR_STOP on\nSET lock_timeout = '200ms';\n")
    first, _, rest = script.partition("\nSET ROLE petstore_owner;\nBEGIN;\n")
    once, _, rest = rest.partition("\nCOMMIT;\n\nSET ROLE petstore_owner;\nSET lock_timeout = 0;\n")
    alone, _, last = rest.partition("\nRESET ROLE;\nSET lock_timeout = '200ms';\n")
    assert ("OWNER TO" in first, "ENABLE TRIGGER ALL" in last) == (True, True)
    for added in ("CHECK .*", "FOREIGN KEY .*"):
        assert re.search(rf"ADD CONSTRAINT \w+ {added} NOT VALID;\n", once)
    assert "DROP FUNCTION m2_be_project.next_number(text);\nCREATE OR REPLACE FUNCTION m2_be_project.next_number" in once
    assert not re.search("CONCURRENTLY|VALIDATE CONSTRAINT", first + once + last)
    statements = [line for line in alone.splitlines() if line and not line.startswith("--")]
    assert [" ".join(line.split()[:3]) for line in statements[:2]] == [
        "ALTER TABLE m2_be_project.products",
        "ALTER TABLE m2_be_project.sessions",
    ]
    assert [re.sub(" ON .*", "", line) for line in statements[2:]] == [
        "CREATE INDEX CONCURRENTLY invoices_age",
        "DROP INDEX CONCURRENTLY IF EXISTS m2_be_project.invoices_of_user_new;",
        "CREATE INDEX CONCURRENTLY invoices_of_user_new",
        "DROP INDEX CONCURRENTLY IF EXISTS m2_be_project.invoices_of_user;",
        "ALTER INDEX m2_be_project.invoices_of_user_new RENAME TO invoices_of_user;",
        "DROP INDEX CONCURRENTLY IF EXISTS m2_be_project.mine;",
    ]
    shop.mend(script)
    assert shop.is_clean()


def test_an_error_leaves_everything_of_the_transaction_as_it_was(new_shop):
    new_shop.run(f"{ADD}; {FAULTS}")
    new_shop.run(f"{TABLE}users DISABLE TRIGGER users_stay; CREATE TABLE m2_be_project.notes ()")
    done = new_shop.check()
    new_shop.run("DROP FUNCTION m2_be_project.next_number(text)")  # which the script drops
    with pytest.raises(AssertionError, match="next_number"):
        new_shop.mend(done.stdout)
    assert "trigger users.users_stay is disabled" in comments(new_shop.check().stdout)
    new_shop.mend(new_shop.check().stdout)
    assert comments(new_shop.check().stdout) == ["table notes is not Petstore's"]


def test_a_lock_that_is_held_stops_the_script_and_it_can_be_run_again(shop):
    shop.run(f"{TABLE}products DISABLE TRIGGER products_update_record_stock")
    script = shop.check().stdout
    with shop.conn.transaction():
        shop.run("LOCK TABLE m2_be_project.products IN ROW EXCLUSIVE MODE")
        with pytest.raises(AssertionError, match="lock timeout"):
            shop.mend(script)
    shop.mend(script)
    assert shop.is_clean()


# ── other versions and currencies ────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_release_and_every_version_since_is_as_its_version_makes_it(cluster, tmp_path):
    with first_release(cluster, "drift") as name, opened(cluster, name, tmp_path) as made:
        for version in range(5, newest_version() + 1):
            schema.migrate(cluster.url("postgres", name), to=version)
            assert made.is_clean(version)


@pytest.mark.parametrize(("currency", "digits"), [("JPY", 0), ("KWD", 3)])
def test_a_shop_of_another_currency_is_as_its_version_makes_it(cluster, tmp_path, currency, digits):
    with cluster.database("drift") as name:
        with cluster.changing_roles():
            schema.create_schema(cluster.url("postgres", name), currency=currency, minor_digits=digits)
        with opened(cluster, name, tmp_path) as made:
            assert made.is_clean()


# ── what cannot be compared ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_version_that_this_release_does_not_know_cannot_be_compared(new_shop):
    new_shop.run("INSERT INTO m2_be_project.schema_version (version) VALUES (9999)")
    done = new_shop.check()
    assert (done.returncode, done.stdout) == (2, "")
    assert f"sql/catalog.csv describes schema version 5 to {newest_version()}, not 9999" in done.stderr


def test_a_database_without_a_schema_or_no_database_cannot_be_compared(cluster, tmp_path):
    with cluster.database("drift") as name, opened(cluster, name, tmp_path) as made:
        done = made.check("postgres")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no Petstore schema" in done.stderr
    done = petstore("check", PETSTORE_HOME=str(tmp_path / "home"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "set PETSTORE_DATABASE_URL" in done.stderr
    assert not (tmp_path / "home").exists()
