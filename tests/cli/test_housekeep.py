"""Expired rows are deleted outside of any request: all of them, nothing else, whatever else goes wrong."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from petstore import db
from petstore.cli.housekeep import BATCH, PURGES, Housekeeping, _batch
from petstore.db.queries import sql_folder
from petstore.repository import system
from tests.aged import LIMITS, age, left
from tests.cli.test_supervisor import serve  # noqa: F401
from tests.commands import environment, of, run
from tests.processes import housekeepers, is_alive
from tests.proxy import Proxy
from tests.waiting import eventually

TABLES = {
    "idempotency keys": "idempotency_keys",
    "refresh tokens": "refresh_tokens",
    "logins": "sessions",
    "addresses": "audit_addresses",
}
kinds = pytest.mark.parametrize("kind", PURGES)
slow_test = pytest.mark.slow


def once(settings):
    return run(settings, "housekeep", "--once")


# ── what goes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@kinds
def test_what_has_had_its_time_goes_and_what_is_younger_stays(make, ana, settings, kind):
    for hours in (-0.02, 0.02, 1000):
        age(make, ana.id, kind, LIMITS[kind] + hours)
    assert once(settings).returncode == 0
    assert left(make, kind) == [LIMITS[kind] - 1]
    assert make.scalar("SELECT count(*) FROM sessions WHERE id = %s", ana.session_id) == 1


@pytest.fixture
def removals(make):
    """A table to which every removal from one of the tables adds a row: its transaction, the table, how many rows."""
    make.conn.execute("""
        CREATE TABLE removals (id bigint GENERATED ALWAYS AS IDENTITY, xact xid8, source text, removed bigint);
        CREATE FUNCTION note_removal() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            INSERT INTO removals (xact, source, removed) SELECT pg_current_xact_id(), tg_table_name, count(*) FROM gone HAVING count(*) > 0;
            RETURN NULL;
        END
        $$""")
    for table in TABLES.values():
        make.conn.execute(
            f"CREATE TRIGGER note_removal AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone"
            " FOR EACH STATEMENT EXECUTE FUNCTION note_removal()"
        )
    yield
    make.conn.execute("DROP FUNCTION note_removal() CASCADE; DROP TABLE removals")


def test_thousands_of_rows_go_in_short_transactions_of_a_thousand_rows(make, ana, settings, removals):
    for kind in PURGES:
        age(make, ana.id, kind, LIMITS[kind] + 1, 2 * BATCH + 7)
    assert once(settings).returncode == 0
    assert [left(make, kind) for kind in PURGES] == [[], [], [], []]
    for table in TABLES.values():
        batches = make.rows("SELECT sum(removed) FROM removals WHERE source = %s GROUP BY xact ORDER BY 1 DESC", table)
        assert batches == [(BATCH,), (BATCH,), (7,)], table


def test_each_file_removes_as_many_rows_as_a_batch_has():
    for path in sql_folder().glob("queries/*/purge_*.sql"):
        assert re.findall(r"^ +LIMIT (\d+)$", path.read_text("utf-8"), re.MULTILINE) == [str(BATCH)], path
    assert len(PURGES) == len([*sql_folder().glob("queries/*/purge_*.sql")])


# ── of many, one ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_while_another_is_at_it_nothing_is_done_and_nothing_is_wrong(make, ana, settings):
    for kind in PURGES:
        age(make, ana.id, kind, LIMITS[kind] + 1)
    with db.connect(settings.database_url) as other, other.transaction():
        assert system.lock_housekeeping(other)
        assert once(settings).returncode == 0
        assert all(left(make, kind) for kind in PURGES)
    assert once(settings).returncode == 0
    assert not any(left(make, kind) for kind in PURGES)


def test_of_several_at_once_each_removes_what_no_other_does(make, ana, settings, removals):
    for kind in PURGES:
        age(make, ana.id, kind, LIMITS[kind] + 1, 3 * BATCH)
    several = [Housekeeping(settings.database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(Housekeeping.run, several))
    assert several[0].run()  # who had the lock last may have found less than others left
    assert not any(left(make, kind) for kind in PURGES)
    assert make.scalar("SELECT sum(removed) FROM removals") == 4 * 3 * BATCH


# ── what fails ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def forbidden(make, kind):
    make.conn.execute(f"REVOKE DELETE ON {TABLES[kind]} FROM petstore_app")
    try:
        yield f"{kind} cannot be removed: permission denied for table {TABLES[kind]}"
    finally:
        make.conn.execute(f"GRANT DELETE ON {TABLES[kind]} TO petstore_app")


def warnings(caplog, level="WARNING"):
    return [
        record.getMessage() for record in caplog.records if record.name == "petstore.cli.housekeep" and record.levelname == level
    ]


def drift_of(kind):
    """What is said beside: the right that is missing."""
    return f"drift: grant {TABLES[kind]} petstore_app DELETE is missing; `petstore check` shows how to mend it"


@kinds
def test_what_cannot_be_removed_is_told_and_keeps_nothing_else(make, ana, settings, caplog, kind):
    for each in PURGES:
        age(make, ana.id, each, LIMITS[each] + 1)
    with forbidden(make, kind) as fault:
        assert once(settings).returncode == 1
    assert warnings(caplog) == [fault, drift_of(kind)]
    assert [each for each in PURGES if left(make, each)] == [kind]


def test_a_fault_is_told_when_it_begins_and_not_again_until_it_has_ended(make, settings, caplog):
    housekeeping = Housekeeping(settings.database_url)
    with forbidden(make, "logins") as fault:
        assert [housekeeping.run(), housekeeping.run()] == [False, False]
        assert warnings(caplog) == [fault, drift_of("logins")]
    assert housekeeping.run()
    with forbidden(make, "logins"):
        assert not housekeeping.run()
    assert warnings(caplog) == [fault, drift_of("logins")] * 2


@pytest.fixture
def between(settings, tmp_path):
    """A proxy before the database, and the URL to it."""
    url = urlsplit(settings.database_url)
    host = parse_qs(url.query).get("host")
    if not host:
        pytest.skip("the server has no socket of which the name is known")
    with Proxy(tmp_path / ".s.PGSQL.5432", Path(host[0]) / ".s.PGSQL.5432") as proxy:
        yield proxy, url._replace(query=f"host={tmp_path}").geturl()


def test_a_database_that_is_away_or_frozen_is_told_once_and_found_again(make, ana, caplog, between):
    proxy, url = between
    housekeeping = Housekeeping(url)
    age(make, ana.id, "idempotency keys", 25)
    proxy.refusing = True
    assert [housekeeping.run(), housekeeping.run()] == [False, False]
    [told] = warnings(caplog)
    assert told.startswith("the database cannot be reached: ")
    proxy.refusing, proxy.swallowing = False, True
    started = time.monotonic()
    assert not housekeeping.run()
    assert time.monotonic() - started < 3 * len(PURGES)
    proxy.swallowing = False
    assert housekeeping.run()
    assert left(make, "idempotency keys") == []


def test_a_batch_ends_when_the_database_freezes_in_it(make, between):
    proxy, url = between
    with db.connect(url) as conn:
        proxy.swallowing = True
        started = time.monotonic()
        with pytest.raises(db.Error, match="does not answer"):
            _batch(conn, PURGES["logins"])
        assert time.monotonic() - started < 4


# ── as a process ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def process(settings, tmp_path):
    """Starts `petstore housekeep`."""
    started = []

    def start(*arguments, **environ):
        with (tmp_path / "log").open("wb") as log:
            command = (sys.executable, "-m", "petstore", "housekeep", *arguments)
            started.append(subprocess.Popen(command, env=environment(**of(settings) | environ), stdout=log, stderr=log))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()


@slow_test
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_goes_on_and_ends_at_once_when_it_is_told_to(make, ana, process, tmp_path, how):
    age(make, ana.id, "idempotency keys", 25)
    started = process()
    eventually(lambda: not left(make, "idempotency keys"), 20)
    time.sleep(0.5)
    assert started.poll() is None
    started.send_signal(how)
    assert started.wait(1) == 0
    assert re.fullmatch(r".* INFO petstore\.cli\.housekeep: idempotency keys removed: 1\n", (tmp_path / "log").read_text())


@slow_test
def test_a_signal_leaves_a_batch_whole(make, ana, process):
    age(make, ana.id, "addresses", LIMITS["addresses"] + 1, 5)
    with make.conn.transaction():
        make.conn.execute("SELECT FROM audit_addresses FOR UPDATE")
        started = process()
        eventually(lambda: make.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1, 20)
        started.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert started.poll() is None
        make.conn.execute("ROLLBACK")
    assert started.wait(1) == 0
    assert left(make, "addresses") == []


@slow_test
def test_it_outlives_a_database_that_is_away(process, tmp_path):
    started = process(PETSTORE_DATABASE_URL="postgresql://petstore_app@127.0.0.1:1/nothing")
    eventually(lambda: "the database cannot be reached" in (tmp_path / "log").read_text(), 20)
    time.sleep(0.5)
    assert started.poll() is None
    assert (tmp_path / "log").read_text().count("\n") == 1
    started.send_signal(signal.SIGTERM)
    assert started.wait(1) == 0


# ── as a child of `petstore serve` ───────────────────────────────────────────────────────────────────────────────────────


def one_of(service):
    """Its process, once there is one that is at work."""
    eventually(lambda: len(housekeepers(service.process.pid)) == 1, 20)
    return housekeepers(service.process.pid)[0]


@slow_test
def test_serve_keeps_one_beside_its_workers_and_ends_with_it(make, ana, serve):  # noqa: F811
    age(make, ana.id, "idempotency keys", 25)
    service = serve("--workers", "2")
    first = one_of(service)
    eventually(lambda: not left(make, "idempotency keys"), 20)
    os.kill(first, signal.SIGKILL)
    service.wait_for(f"housekeeping {first} died \\(killed by signal 9\\): starting another")
    second = one_of(service)
    age(make, ana.id, "idempotency keys", 25)
    eventually(lambda: not left(make, "idempotency keys"), 20)
    workers = service.workers
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("reloaded")
    eventually(lambda: not is_alive(second), 20)
    third = one_of(service)
    assert len({first, second, third}) == 3
    assert not workers & service.workers
    started = time.monotonic()
    assert service.end(signal.SIGTERM) == 0
    assert time.monotonic() - started < 3
    assert not is_alive(third)
    assert service.said.count(" died ") == 1
    assert service.said.endswith("petstore: stopped\n")


@slow_test
def test_it_ends_when_its_parent_is_killed(make, ana, serve):  # noqa: F811
    age(make, ana.id, "idempotency keys", 25)
    service = serve("--workers", "1")
    pid = one_of(service)
    eventually(lambda: not left(make, "idempotency keys"), 20)
    os.kill(service.process.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid), 2)


@slow_test
def test_one_that_dies_again_and_again_is_started_less_and_less_often_and_the_workers_serve_on(make, serve, tmp_path):  # noqa: F811
    service = serve("--workers", "1")
    seen = {one_of(service)}
    workers = service.workers
    for _ in range(4):
        pid = one_of(service)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: pid not in housekeepers(service.process.pid))
        seen.add(pid)
    started = time.monotonic()
    seen.add(one_of(service))
    assert time.monotonic() - started > 1  # the fifth: after 0, 0.25, 0.75 and 1.75 s
    assert len(seen) == 5
    assert service.workers == workers
    assert service.end(signal.SIGTERM) == 0


def test_without_a_database_it_starts_none_and_says_so(tmp_path):
    nowhere = environment(PETSTORE_HOME=str(tmp_path / "home"), PETSTORE_DATABASE_URL="")
    done = subprocess.run(
        [sys.executable, "-m", "petstore", "housekeep", "--once"], env=nowhere, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, "set PETSTORE_DATABASE_URL" in done.stderr) == (2, True)
    assert not (tmp_path / "home").exists()
