"""The files of sql/migrations: what they make, and that their headers tell the truth."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from petstore import db
from petstore.db import schema
from petstore.db.migrations import OLDEST_VERSION, load_folder, load_migrations, newest_version
from petstore.db.queries import QueryFileError, sql_folder
from petstore.embedded import find_program
from tests.databases import BASELINE, dump_schema, first_release

MIGRATIONS = load_migrations().values()
TRIALS = Path(__file__).parent / "trials"
GOOD = """-- Does something.
--
-- Locks: ACCESS EXCLUSIVE on users,
--   for milliseconds.
-- Rewrites: nothing.
-- Safe: no\x20
-- psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/0006_something.sql
SELECT 'a;b', $$ c;d $$, $x1$ e;f $x1$, E'it\\'s; g'; -- h;i

INSERT INTO schema_version (version, name, safe) VALUES (6, 'something', false);
"""


@pytest.fixture
def old_shop(cluster):
    with first_release(cluster, "old") as name:
        yield name


def test_the_first_release_and_the_migrations_make_what_schema_sql_makes(cluster, template, old_shop):
    assert OLDEST_VERSION == 5
    assert "INSERT INTO schema_version (version) VALUES (5);" in BASELINE.read_text()
    schema.migrate(cluster.url("postgres", old_shop))
    made, migrated = (dump_schema(cluster.url("postgres", name)) for name in (template, old_shop))
    assert len(made) > 50_000
    assert migrated == made


def test_schema_sql_lists_the_migrations_that_it_contains(cluster, template):
    with db.connect(cluster.url("petstore_app", template)) as conn:
        rows = conn.execute("SELECT version, name, safe FROM schema_version ORDER BY version").fetchall()
    assert rows == [(migration.version, migration.name, migration.safe) for migration in MIGRATIONS]
    assert rows[-1][0] == newest_version()


LOCKED = """
    SELECT c.relname, l.mode FROM pg_locks AS l INNER JOIN pg_class AS c ON l.relation = c.oid
    INNER JOIN unnest('{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'::text[]) WITH ORDINALITY
        AS m (mode, strength) ON l.mode = m.mode
    WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'm2_be_project'::regnamespace AND c.relkind = 'r'
    ORDER BY m.strength
"""
STORED = "SELECT relname, relfilenode FROM pg_class WHERE relnamespace = 'm2_be_project'::regnamespace AND relkind = 'r'"


def run_and_compare(cluster, database, migrations):
    """Run files, and compare what each locked and wrote anew with what its header says."""
    for version, migration in migrations.items():
        if not migration.one_transaction:
            schema.migrate(cluster.url("postgres", database), to=version, migrations=migrations)
            continue
        with db.connect(cluster.url("petstore_owner", database)) as conn, conn.transaction():
            before = dict(conn.execute(STORED).fetchall())
            conn.execute(migration.text.encode())
            strongest = {name: mode for name, mode in conn.execute(LOCKED).fetchall() if name in before}
            for name, found in strongest.items():
                mode = re.sub("(?<=[a-z])(?=[A-Z])", " ", found.removesuffix("Lock")).upper()
                assert re.search(rf"{mode} on [a-z_, ]*\b{name}\b", migration.locks), (migration.file, mode, name)
            after = dict(conn.execute(STORED).fetchall())
            rewritten = [name for name, number in before.items() if after.get(name, number) != number]
            assert (rewritten == []) == (migration.rewrites == "nothing"), migration.file


def test_the_header_of_each_file_tells_its_locks_and_rewrites(cluster, old_shop):
    run_and_compare(cluster, old_shop, load_migrations())


def test_the_header_of_each_trial_does_so_too_because_people_copy_it(cluster, template):
    trials = {**load_folder(TRIALS), **load_folder(TRIALS / "blocking")}
    with cluster.database("tried", template) as name:
        run_and_compare(cluster, name, trials)
    for migration in trials.values():
        assert f"\n-- {psql_line(migration)}\n" in migration.text


def psql_line(migration):
    how = "PGOPTIONS='-c lock_timeout=200ms' psql -1" if migration.one_transaction else "psql"
    return f"{how} -v ON_ERROR_STOP=1 -f sql/migrations/{migration.file}"


def test_psql_runs_each_file_by_the_line_in_its_header_and_records_it(cluster, template, old_shop):
    for migration in MIGRATIONS:
        (line,) = re.findall(r"^-- (.*psql .*)$", migration.text, re.MULTILINE)
        assert line == psql_line(migration)
        run = line.replace("psql", f"{find_program('psql')} -X -d '{cluster.url('petstore_owner', old_shop)}'", 1)
        subprocess.run(run, shell=True, cwd=sql_folder().parent, check=True, capture_output=True)
    assert schema.migrate(cluster.url("postgres", old_shop)) == []
    assert dump_schema(cluster.url("postgres", old_shop)) == dump_schema(cluster.url("postgres", template))


def test_a_good_file_is_read(tmp_path):
    (tmp_path / "0006_something.sql").write_text(GOOD)
    (migration,) = load_folder(tmp_path).values()
    facts = (migration.version, migration.name, migration.sentence, migration.locks, migration.rewrites, migration.safe)
    assert facts == (6, "something", "Does something.", "ACCESS EXCLUSIVE on users, for milliseconds", "nothing", False)
    assert migration.statements == (
        "SELECT 'a;b', $$ c;d $$, $x1$ e;f $x1$, E'it\\'s; g'",
        "INSERT INTO schema_version (version, name, safe) VALUES (6, 'something', false)",
    )
    assert migration.one_transaction


@pytest.mark.parametrize(
    ("name", "changed", "to", "words"),
    [
        ("6_something.sql", "", "", "its name is not NNNN_words.sql"),
        ("0006_something.sql", "-- Locks: ", "-- ", "its header does not tell"),
        ("0006_something.sql", "-- Rewrites: ", "-- ", "its header does not tell"),
        ("0006_something.sql", "Safe: no", "Safe: perhaps", "its header does not tell"),
        ("0006_something.sql", "(6, 'something', false)", "(6, 'something', true)", "its last statement is not INSERT"),
        ("0006_something.sql", "(6, 'something', false)", "(7, 'something', false)", "its last statement is not INSERT"),
        ("0006_otherwise.sql", "", "", "its last statement is not INSERT"),
        ("0006_something.sql", "SELECT 'a;b'", "COMMIT; SELECT 'a;b'", "the transaction is the runner's"),
        ("0006_something.sql", "SELECT 'a;b'", "ABORT; SELECT 'a;b'", "the transaction is the runner's"),
        ("0006_something.sql", "-- Does", "\ufeff-- Does", "begins with a BOM or has CRLF line ends"),
        ("0006_something.sql", "something.\n", "something.\r\n", "begins with a BOM or has CRLF line ends"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(tmp_path, name, changed, to, words):
    (tmp_path / name).write_text(GOOD.replace(changed, to, 1) if changed else GOOD, newline="")
    with pytest.raises(QueryFileError, match=f"{name} cannot be used: .*{re.escape(words)}"):
        load_folder(tmp_path)


@pytest.mark.parametrize("number", ["0006", "0008"])
def test_a_number_that_is_there_twice_or_missing_is_refused(tmp_path, number):
    (tmp_path / "0006_a.sql").write_text(GOOD.replace("something", "a"))
    second = GOOD.replace("something", "b").replace("(6,", f"({int(number)},")
    (tmp_path / f"{number}_b.sql").write_text(second)
    with pytest.raises(QueryFileError, match=f"{number}_b.sql cannot be used: the next number is 0007"):
        load_folder(tmp_path)
