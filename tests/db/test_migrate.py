"""`petstore migrate`: what happens when a file fails, waits, is interrupted, edited, or run by two at once."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from petstore import db
from petstore.db import schema
from petstore.db.migrations import load_folder, load_migrations, newest_version
from petstore.db.schema import MigrationError
from tests.commands import petstore
from tests.databases import first_release
from tests.proxy import Proxy
from tests.waiting import eventually

NEXT = newest_version() + 1


class Shop:
    """An empty shop at the newest version, and migrations of its own after that."""

    def __init__(self, url, folder):
        self.url, self.folder, self.said = url, folder, []

    def write(self, name, *statements, transaction=True, version=NEXT):
        how = "" if transaction else "-- no transaction\n"
        header = f"-- Tries something.\n{how}--\n-- Locks: some.\n-- Rewrites: nothing.\n-- Safe: yes\n"
        record = f"INSERT INTO schema_version (version, name, safe) VALUES ({version}, '{name}', true)"
        path = self.folder / f"{version:04}_{name}.sql"
        path.write_text(header + "".join(f"{statement};\n" for statement in (*statements, record)))
        return path

    def migrate(self, **options):
        done = schema.migrate(self.url, migrations=load_folder(self.folder), report=self.said.append, **options)
        return [migration.version for migration in done]

    def sql(self, statement):
        with db.connect(self.url, options="-c search_path=m2_be_project") as conn:
            found = conn.execute(statement.encode())
            return found.fetchall() if found.description else []

    def version(self):
        return self.sql("SELECT max(version) FROM schema_version")[0][0]


@pytest.fixture
def shop(cluster, template, tmp_path):
    with cluster.database("migrated", template) as name:
        yield Shop(cluster.url("postgres", name), tmp_path)


def test_a_file_is_recorded_with_its_digest_and_who_ran_it_when_and_how_long(shop):
    path = shop.write("wait", "SELECT pg_sleep(0.05)")
    assert shop.migrate() == [NEXT]
    (row,) = shop.sql(
        "SELECT name, sha256, safe, applied_by, now() - applied_at < interval '1 minute', seconds FROM schema_version"
        f" WHERE version = {NEXT}"
    )
    assert row[:5] == ("wait", sha256(path.read_bytes()).hexdigest(), True, shop.sql("SELECT session_user")[0][0], True)
    assert 0.05 <= row[5] < 5
    assert shop.migrate() == []


def test_an_edited_or_renamed_file_that_was_applied_is_refused_and_nothing_is_run(shop):
    path = shop.write("first", "CREATE TABLE a (a int)")
    shop.migrate()
    original = path.read_text()
    shop.write("second", "CREATE TABLE b (a int)", version=NEXT + 1)
    path.write_text(original.replace("Tries", "Tried"))
    with pytest.raises(MigrationError, match=rf"{path.name} is not the file that was applied .*first, SHA-256 [0-9a-f]{{64}}\)"):
        shop.migrate()
    path.unlink()
    shop.write("other", "CREATE TABLE a (a int)")
    with pytest.raises(MigrationError, match="an applied file is never edited"):
        shop.migrate()
    assert shop.version() == NEXT
    (shop.folder / f"{NEXT:04}_other.sql").unlink()
    path.write_text(original)
    assert shop.migrate() == [NEXT + 1]


def test_a_version_that_was_left_out_is_refused(shop):
    shop.write("first")
    shop.write("second", version=NEXT + 1)
    shop.sql(f"INSERT INTO schema_version (version, name) VALUES ({NEXT + 1}, 'second')")
    with pytest.raises(MigrationError, match=f"has version {NEXT + 1}, but not {NEXT:04}_first.sql"):
        shop.migrate()


@pytest.mark.parametrize("to", [NEXT - 2, NEXT + 2])
def test_there_is_no_way_back_and_none_beyond_the_files(shop, to):
    shop.write("first")
    shop.write("second", version=NEXT + 1)
    with pytest.raises(MigrationError, match=f"the files go up to {NEXT + 1}: {to} is not between them"):
        shop.migrate(to=to)
    assert shop.migrate(to=NEXT - 1) == []
    assert shop.migrate(to=NEXT) == [NEXT]
    assert shop.version() == NEXT


def test_a_file_that_fails_leaves_nothing_and_says_so(shop):
    shop.write("good", "CREATE TABLE a (a int)")
    shop.write("bad", "CREATE TABLE b (a int)", "SELECT 1 / 0", version=NEXT + 1)
    with pytest.raises(MigrationError, match=r"_bad\.sql failed: division by zero\nNothing of it is applied"):
        shop.migrate()
    assert shop.version() == NEXT
    assert shop.sql("SELECT to_regclass('a') IS NULL, to_regclass('b') IS NULL") == [(False, True)]
    shop.write("bad", "CREATE TABLE b (a int)", version=NEXT + 1)
    assert shop.migrate() == [NEXT + 1]


def test_what_a_file_makes_belongs_to_the_owner(shop):
    shop.write("table", "CREATE TABLE a (a int)")
    shop.migrate()
    assert shop.sql("SELECT tableowner, schemaname FROM pg_tables WHERE tablename = 'a'") == [("petstore_owner", "m2_be_project")]


def test_what_a_file_sets_ends_with_it(shop):
    shop.write("first", "SET statement_timeout = 1", "RESET ROLE", "SET search_path = public")
    shop.sql("CREATE TABLE a (a text)")
    shop.write("second", "SELECT pg_sleep(0.05)", "ALTER TABLE users ADD COLUMN x text", version=NEXT + 1)
    with pytest.raises(MigrationError, match='relation "schema_version" does not exist'):
        shop.migrate()
    shop.write("first", "SET statement_timeout = 1", "RESET ROLE")
    assert shop.migrate() == [NEXT, NEXT + 1]


def test_a_database_whose_version_nobody_knows_is_left_alone(shop):
    shop.sql("DELETE FROM schema_version")
    with pytest.raises(MigrationError, match="schema_version has no row, so nobody knows which version this is"):
        shop.migrate()


# ── locks ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_is_waited_for_in_short_turns_so_that_nobody_waits_behind_it(shop, monkeypatch):
    monkeypatch.setattr(schema, "_MAX_PAUSE_SECONDS", 0.1)
    shop.write("column", "ALTER TABLE users ADD COLUMN x text")
    with ThreadPoolExecutor(1) as pool:
        with db.connect(shop.url) as reader, reader.transaction():
            reader.execute("SELECT FROM m2_be_project.users")
            migrating = pool.submit(shop.migrate)
            eventually(lambda: any("trying again (10 of 100)" in line for line in shop.said), 60)
            with db.connect(shop.url, options="-c lock_timeout=1s") as another:  # waits behind one turn, not for the reader
                for _ in range(10):
                    another.execute("SELECT count(*) FROM m2_be_project.users")
            assert not migrating.done()
            pid = reader.execute("SELECT pg_backend_pid()").fetchone()[0]
        assert migrating.result(30) == [NEXT]
    assert any(f"process {pid} (postgres) has locks" in line for line in shop.said)


def test_a_lock_that_is_never_free_ends_it_and_nothing_is_applied(shop, monkeypatch):
    monkeypatch.setattr(schema, "_ATTEMPTS", 3)
    shop.write("column", "CREATE TABLE a (a int)", "ALTER TABLE users ADD COLUMN x text")
    with db.connect(shop.url) as reader, reader.transaction():
        reader.execute("SELECT FROM m2_be_project.users")
        with pytest.raises(MigrationError, match="failed: canceling statement due to lock timeout\nNothing of it is applied"):
            shop.migrate()
    assert shop.version() == NEXT - 1
    assert shop.migrate() == [NEXT]


def test_a_deadlock_with_the_shop_is_only_another_turn(shop):
    shop.write("two", "LOCK TABLE users", "SELECT pg_sleep(0.3)", "LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
    with ThreadPoolExecutor(1) as pool, db.connect(shop.url, options="-c search_path=m2_be_project") as buyer:
        with buyer.transaction():
            buyer.execute("LOCK TABLE products IN ROW EXCLUSIVE MODE")
            migrating = pool.submit(shop.migrate)
            locked = "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'users'::regclass"
            eventually(lambda: bool(shop.sql(locked)))
            buyer.execute("SELECT FROM users")
        assert migrating.result(30) == [NEXT]


def test_a_connection_pooler_is_refused(shop):
    host = parse_qs(urlsplit(shop.url).query).get("host")
    if not host:
        pytest.skip("the server is not on a socket")
    shop.write("first")
    with Proxy(("127.0.0.1", 0), Path(host[0]) / ".s.PGSQL.5432") as pooler:
        # A pooler answers with a process number of its own (PostgreSQL manual, 54.7: BackendKeyData).
        pooler.changing = lambda data: re.sub(rb"(?<=K\0\0\0\x0c)....", lambda _: b"\0\0\0\7", data, flags=re.DOTALL)
        url = urlsplit(shop.url)._replace(query=f"host=127.0.0.1&port={pooler.address[1]}").geturl()
        with pytest.raises(MigrationError, match="this is a connection pooler"):
            schema.migrate(url, migrations=load_folder(shop.folder))
    assert shop.version() == NEXT - 1


def test_of_two_runners_at_once_each_file_is_run_by_one(shop):
    for version in (NEXT, NEXT + 1):
        shop.write("slow", "SELECT pg_sleep(0.5)", version=version)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: shop.migrate(), range(2)))
    assert sorted(done) == [[], [NEXT, NEXT + 1]]
    assert "another process creates or migrates this schema; waiting for it" in shop.said


def test_the_one_who_waits_does_not_stop_an_index_from_being_made(shop):
    shop.write("index", "SELECT pg_sleep(0.5)", "CREATE INDEX CONCURRENTLY x ON users (id)", transaction=False)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda _: shop.migrate(), range(2))) == [[], [NEXT]]


@pytest.mark.parametrize(
    ("name", "safe", "refused"),
    [
        ("petstore", True, True),  # the first release
        (f"petstore 5-{NEXT - 1}", True, False),
        (f"petstore 5-{NEXT - 1}", False, True),
        (f"petstore 5-{NEXT}", False, False),
        ("petstore housekeep", False, False),
    ],
)
def test_it_does_not_run_beside_a_release_that_would_stop_to_serve(shop, name, safe, refused):
    path = shop.write("first")
    if not safe:
        path.write_text(path.read_text().replace("Safe: yes", "Safe: no").replace("true)", "false)"))
    with db.connect(shop.url, application_name=name) as node:
        if refused:
            pid = node.execute("SELECT pg_backend_pid()").fetchone()[0]
            with pytest.raises(
                MigrationError, match=rf"process {pid} of PostgreSQL serves a release \({name}\) for which .*_first"
            ):
                shop.migrate()
            assert shop.version() == NEXT - 1
        else:
            assert shop.migrate() == [NEXT]


# ── without a transaction ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_index_that_cannot_be_made_is_not_recorded_and_the_next_run_makes_it(shop):
    shop.sql("INSERT INTO products (name, price, stock) VALUES ('a', 1, 1), ('a', 1, 1)")
    drop, create = "DROP INDEX CONCURRENTLY IF EXISTS x", "CREATE UNIQUE INDEX CONCURRENTLY x ON products (name)"
    shop.write("index", drop, create, transaction=False)
    with pytest.raises(
        MigrationError, match='could not create unique index "x"\nIts statements up to there are applied; it can be'
    ):
        shop.migrate()
    assert shop.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'x'::regclass") == [(False,)]
    shop.sql("UPDATE products SET name = 'b' WHERE id = 2")
    assert shop.migrate() == [NEXT]
    assert shop.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'x'::regclass") == [(True,)]


def test_an_invalid_index_that_a_file_passes_over_is_seen(shop):
    shop.sql("INSERT INTO products (name, price, stock) VALUES ('a', 1, 1), ('a', 1, 1)")
    shop.write("index", "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS x ON products (name)", transaction=False)
    with pytest.raises(MigrationError, match="could not create"):
        shop.migrate()
    with pytest.raises(MigrationError, match="INVALID index x; drop it"):
        shop.migrate()
    assert shop.version() == NEXT - 1


def test_an_index_waits_for_long_transactions_without_giving_up(shop):
    shop.write("index", "DROP INDEX CONCURRENTLY IF EXISTS x", "CREATE INDEX CONCURRENTLY x ON users (id)", transaction=False)
    with ThreadPoolExecutor(1) as pool:
        with db.connect(shop.url) as backup, backup.transaction():
            backup.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # as pg_dump has it
            backup.execute("SELECT FROM m2_be_project.users")
            migrating = pool.submit(shop.migrate)
            time.sleep(1)
            assert not migrating.done()
        assert migrating.result(30) == [NEXT]
    assert not any("trying again" in line for line in shop.said)


BACKFILL = """DO $$
DECLARE
    done integer := 0;
    batch integer;
BEGIN
    LOOP
        UPDATE a SET b = a WHERE a IN (SELECT a FROM a WHERE b IS NULL ORDER BY a LIMIT 100);
        GET DIAGNOSTICS batch = ROW_COUNT;
        EXIT WHEN batch = 0;
        done := done + batch;
        COMMIT;
        RAISE NOTICE '% rows done', done;
        PERFORM pg_sleep(0.05);
    END LOOP;
END
$$"""


def test_a_backfill_tells_its_progress_and_goes_on_where_it_was_interrupted(shop):
    shop.sql("CREATE TABLE a AS SELECT a, NULL::int AS b FROM generate_series(1, 1000) AS g (a)")
    shop.sql("ALTER TABLE a OWNER TO petstore_owner")
    shop.write("backfill", BACKFILL, transaction=False)
    with ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(shop.migrate)
        eventually(lambda: "  300 rows done" in shop.said)
        shop.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database AS d ON d.oid = database"
            " WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND datname = current_database()"  # not another process's
        )
        with pytest.raises(MigrationError, match="terminating connection"):
            migrating.result(30)
    assert shop.sql("SELECT count(b) BETWEEN 300 AND 900 FROM a") == [(True,)]
    assert shop.version() == NEXT - 1
    shop.said.clear()
    assert shop.migrate() == [NEXT]
    assert shop.sql("SELECT count(b) FROM a") == [(1000,)]
    assert "  100 rows done" in shop.said
    assert "  1000 rows done" not in shop.said


def test_a_backfill_that_meets_a_locked_row_goes_on_when_it_is_free(shop):
    shop.sql("CREATE TABLE a AS SELECT a, NULL::int AS b FROM generate_series(1, 1000) AS g (a)")
    shop.sql("ALTER TABLE a OWNER TO petstore_owner")
    shop.write("backfill", BACKFILL, transaction=False)
    with ThreadPoolExecutor(1) as pool:
        with db.connect(shop.url) as buyer, buyer.transaction():
            buyer.execute("SELECT FROM m2_be_project.a WHERE a = 500 FOR UPDATE")
            migrating = pool.submit(shop.migrate)
            eventually(lambda: any("trying again" in line for line in shop.said))
        assert migrating.result(30) == [NEXT]
    assert shop.sql("SELECT count(b) FROM a") == [(1000,)]


def test_autovacuum_gives_way_before_the_lock_timeout_ends(cluster, template, tmp_path):
    with cluster.database("migrated", template) as name:
        owned = Shop(cluster.url("petstore_owner", name), tmp_path)
        if owned.sql("SHOW server_version_num")[0][0] < "150000":
            pytest.skip("nobody but a superuser may set deadlock_timeout")
        owned.write("look", "CREATE TABLE a AS SELECT current_setting('deadlock_timeout') AS a")
        owned.migrate()
        assert owned.sql("SELECT a FROM a") == [("100ms",)]


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_plan_shows_each_file_with_its_locks_and_runs_nothing(cluster):
    with first_release(cluster, "planned") as name:
        url = cluster.url("petstore_owner", name)
        done = petstore("migrate", "--plan", PETSTORE_OWNER_URL=url)
        assert done.returncode == 0
        for migration in load_migrations().values():
            assert f"{migration.file}: {migration.sentence}\n  Locks: {migration.locks}\n  Rewrites: " in done.stdout
        assert re.search(r"  Safe: yes; one transaction$", done.stdout, re.MULTILINE)
        assert f"schema version 5; {len(load_migrations())} migrations to run" in done.stderr
        assert "0007" not in petstore("migrate", "--plan", "--to", "6", PETSTORE_OWNER_URL=url).stdout
        assert petstore("migrate", "--to", "6", PETSTORE_OWNER_URL=url).returncode == 0
        assert "0006" not in petstore("migrate", "--plan", PETSTORE_OWNER_URL=url).stdout
        done = petstore("migrate", PETSTORE_OWNER_URL=url)
        assert f"schema version {newest_version()} reached" in done.stderr
        assert f"schema version {newest_version()} is there already" in petstore("migrate", PETSTORE_OWNER_URL=url).stderr


def test_the_plan_of_an_empty_database_makes_nothing(cluster):
    with cluster.database("bare") as name:
        done = petstore("migrate", "--plan", PETSTORE_OWNER_URL=cluster.url("postgres", name))
        assert f"it would make schema version {newest_version()} from sql/roles.sql and sql/schema.sql" in done.stderr
        with db.connect(cluster.url("postgres", name)) as conn:
            assert conn.execute("SELECT to_regnamespace('m2_be_project')").fetchone() == (None,)


def test_an_empty_database_is_not_made_up_to_some_version(cluster):
    with cluster.database("bare") as name:
        done = petstore("migrate", "--to", "6", PETSTORE_OWNER_URL=cluster.url("postgres", name))
        assert (done.returncode, "--to is for a database that has a schema" in done.stderr) == (2, True)
        with db.connect(cluster.url("postgres", name)) as conn:
            assert conn.execute("SELECT to_regnamespace('m2_be_project')").fetchone() == (None,)


def test_a_role_that_may_not_migrate_is_told_which_one_may(shop, cluster):
    url = cluster.url("petstore_app", urlsplit(shop.url).path.lstrip("/"))
    done = petstore("migrate", PETSTORE_OWNER_URL=url)
    if done.returncode == 0:
        pytest.skip("the test's own login is a superuser, whatever its role")
    assert (done.returncode, "PETSTORE_OWNER_URL must log in as petstore_owner" in done.stderr) == (2, True)


def test_a_fault_of_a_migration_is_a_message_and_status_2(shop):
    done = petstore("migrate", "--to", "5", PETSTORE_OWNER_URL=shop.url)
    assert (done.returncode, "5 is not between them" in done.stderr) == (2, True)
