"""Reloads and restarts of workers that the database does not let in: who serves goes on serving, and the reason is said once."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from petstore import db
from tests.cli.test_housekeep import one_of
from tests.cli.test_supervisor import Crowd, serve  # noqa: F401
from tests.client import Client
from tests.databases import open_folder, own_postgres
from tests.factories import Factory
from tests.processes import is_alive
from tests.waiting import eventually

pytestmark = pytest.mark.slow

PASSWORD = "the first password"
REFUSED = 'password authentication failed for user "petstore_app"'


class Login:
    """A server of the test's own that asks petstore_app for a password."""

    def __init__(self, server):
        self.url = server.url("petstore_app").replace("petstore_app@", f"petstore_app:{PASSWORD.replace(' ', '%20')}@")
        self._admin = server.url("postgres")
        (file,) = self.sql("SHOW hba_file")
        hba = Path(file)
        hba.write_text(f"local all petstore_app scram-sha-256\n{hba.read_text()}")
        self.sql("SELECT pg_reload_conf()")
        self.reset()

    def sql(self, statement):
        with db.connect(self._admin) as conn:
            cursor = conn.execute(statement)
            return cursor.fetchone() if cursor.description else ()

    def alter(self, what):
        self.sql(f"ALTER ROLE petstore_app {what}")

    def reset(self):
        self.alter(f"PASSWORD '{PASSWORD}'")
        self.alter("CONNECTION LIMIT -1")

    def connections(self):
        return self.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'petstore_app'")[0]

    def refuse_password(self):
        """It is changed, as in a rotation."""
        self.alter("PASSWORD 'another'")

    def refuse_more(self):
        """No more connections than there are now."""
        self.alter(f"CONNECTION LIMIT {self.connections()}")


@pytest.fixture(scope="module")
def server():
    with open_folder() as folder, own_postgres(folder, "fsync=off") as server:
        with db.connect(server.url("petstore_owner")) as conn:
            Factory(conn).product()
        yield Login(server)


@pytest.fixture
def login(server):
    yield server
    server.reset()


@pytest.fixture
def start(serve, settings, login):  # noqa: F811
    """Starts a service that asks PostgreSQL for each answer. All workers have all connections that they will ever have."""

    def start(count):
        changed = replace(settings, database_url=login.url, owner_url=None, report_url=None, redis_url=None)
        # One connection each: a pool that grows later would be refused, too.
        service = serve("--workers", str(count), settings=changed, environ={"PETSTORE_POOL_SIZE": "1"})
        one_of(service)
        eventually(lambda: login.connections() == count)
        return service

    return start


def reload(service):
    service.process.send_signal(signal.SIGHUP)


def told(service, reason):
    """How often its supervisor has told it. Housekeeping tells it for itself, in the log."""
    return len(re.findall(f"petstore: .*{reason}", service.said))


def new_workers(service, before):
    """Those that are being started."""
    eventually(lambda: bool(service.workers - before))
    return service.workers - before


REASONS = {"refuse_password": REFUSED, "refuse_more": 'too many connections for role "petstore_app"'}


@pytest.mark.parametrize(("refuse", "reason"), REASONS.items())
def test_a_reload_whose_workers_the_database_refuses_leaves_the_old_ones_serving_and_says_why_once(start, login, refuse, reason):
    service = start(2)
    before, housekeeper = service.workers, one_of(service)
    with Crowd(service.address, 8) as crowd:
        getattr(login, refuse)()
        reload(service)
        service.wait_for(
            f"reload failed: a new worker does not get ready: the database cannot be reached: .*{reason}.*; the old workers"
        )
        crowd.asks_on()
        time.sleep(5)
        assert service.workers == before
        assert one_of(service) == housekeeper
        assert told(service, reason) == 1
        assert "reloaded" not in service.said
        login.reset()
        reload(service)
        service.wait_for("reloaded")
        crowd.asks_on()
    assert crowd.failed == [[]] * 8
    assert not before & service.workers
    eventually(lambda: not is_alive(housekeeper))
    one_of(service)
    assert service.end(signal.SIGTERM) == 0


def test_a_worker_that_dies_amid_a_reload_that_fails_is_replaced_as_soon_as_the_database_lets_one_in(start, login):
    service = start(2)
    before = service.workers
    login.refuse_password()
    reload(service)
    new_workers(service, before)
    os.kill(min(before), signal.SIGKILL)
    service.wait_for(f"worker {min(before)} died \\(killed by signal 9\\)")
    service.wait_for("reload failed")
    with Crowd(service.address, 4) as crowd:
        time.sleep(8)
        assert max(before) in service.workers
        assert told(service, REFUSED) == 1
        login.reset()
        service.wait_for("a new worker process is ready again")
        crowd.asks_on()
    assert crowd.failed == [[]] * 4
    assert len(service.workers) == 2
    assert told(service, REFUSED) == 1
    assert service.end(signal.SIGTERM) == 0


def test_the_last_worker_is_replaced_even_if_the_database_lets_none_in(start, login):
    service = start(1)
    (only,) = service.workers
    login.refuse_password()
    reload(service)
    new_workers(service, {only})
    os.kill(only, signal.SIGKILL)
    service.wait_for("reload failed: .*; no worker is left; ")
    with Client(service.address) as client:  # it waits for the worker that is started
        assert client.get("/livez").status == 200
        assert client.get("/products?id=1").status == 503
        login.reset()
        eventually(lambda: client.get("/products?id=1").status == 200)
    assert service.end(signal.SIGTERM) == 0


def test_a_dead_worker_is_not_replaced_by_one_that_the_database_refuses_while_another_serves(start, login):
    service = start(2)
    before = service.workers
    login.refuse_password()
    os.kill(min(before), signal.SIGKILL)
    service.wait_for(f"a new worker process does not get ready: the database cannot be reached: .*{REFUSED}")
    with Crowd(service.address, 8, keeping=False) as crowd:
        time.sleep(3)
        login.reset()
        service.wait_for("ready again")
        crowd.asks_on()
    assert crowd.failed == [[]] * 8
    assert told(service, REFUSED) == 1
    assert service.end(signal.SIGTERM) == 0


def test_a_new_worker_that_is_killed_amid_a_reload_ends_it_and_the_next_reload_succeeds(start):
    service = start(2)
    before, housekeeper = service.workers, one_of(service)
    with Crowd(service.address, 4) as crowd:
        reload(service)
        (new,) = new_workers(service, before)
        os.kill(new, signal.SIGKILL)
        service.wait_for("reload failed: a new worker does not get ready: killed by signal 9; the old workers go on serving")
        assert service.workers == before
        assert one_of(service) == housekeeper
        reload(service)
        service.wait_for("reloaded")
    assert crowd.failed == [[]] * 4
    assert not before & service.workers
    assert service.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("count", [1, 2])
def test_a_reload_amid_which_an_old_worker_is_killed_replaces_them_all(start, count):
    service = start(count)
    before = service.workers
    reload(service)
    new_workers(service, before)
    os.kill(min(before), signal.SIGKILL)
    service.wait_for("reloaded")
    assert not before & service.workers
    assert len(service.workers) == count
    assert "reload failed" not in service.said
    assert service.end(signal.SIGTERM) == 0


def test_a_reload_amid_a_reload_replaces_those_too_that_the_first_one_has_started(start, login):
    service = start(2)
    seen = service.workers
    housekeeper = one_of(service)
    with Crowd(service.address, 4) as crowd:
        login.refuse_password()
        reload(service)
        seen = seen | new_workers(service, seen)
        login.reset()
        reload(service)
        service.wait_for("reloading", times=2)
        service.wait_for("reloaded")
    assert crowd.failed == [[]] * 4
    assert not seen & service.workers
    eventually(lambda: not is_alive(housekeeper))
    one_of(service)
    assert "failed" not in service.said
    assert service.end(signal.SIGTERM) == 0
