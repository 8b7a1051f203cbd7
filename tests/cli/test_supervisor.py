"""Several processes on one socket: they are healed, drained and replaced, and no client is any the wiser."""

import contextlib
import errno
import http.client
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from petstore.limits import hashing
from petstore.server.limits import listen
from petstore.server.waitress import Server
from petstore.settings import Settings
from tests.client import Client
from tests.commands import environment, of, petstore
from tests.processes import connections, end, is_alive, workers
from tests.raw_http import answers, get, read_all
from tests.waiting import eventually

PETSTORE = (sys.executable, "-m", "petstore")
# `petstore` with something in petstore.cli changed.
CHANGED = (
    "import sys; from petstore.cli import child, supervisor; from petstore.__main__ import main; {} = {}; main(sys.argv[1:])"
)


class Service:
    """A `petstore serve` on the tests' database and Redis."""

    def __init__(self, settings, folder, *arguments, command=PETSTORE, wait=True, environ=(), **how):
        self.log = folder / "log"
        usual = {"PETSTORE_LISTEN": "127.0.0.1:0", "PETSTORE_RATE_LIMIT": "0", **of(settings)}
        environ = environment(**usual | dict(environ))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "serve", *arguments], env=environ, **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **how}
            )
        if wait:
            found = self.wait_for(r"serves on http://([0-9.]+):(\d+)")
            self.address = found[1], int(found[2])

    @property
    def said(self):
        return self.log.read_text()

    @property
    def workers(self):
        return set(workers(self.process.pid))

    def wait_for(self, pattern, times=1):
        eventually(lambda: len(re.findall(pattern, self.said)) >= times or self.process.poll() is not None, 30)
        found = list(re.finditer(pattern, self.said))
        assert len(found) >= times, self.said
        return found[-1]

    def end(self, how):
        return end(self.process, how, 30)


@pytest.fixture
def serve(make, settings, tmp_path):
    """Starts services."""
    started = []

    def start(*arguments, **how):
        changed = how.pop("settings", settings)
        started.append(Service(changed, tmp_path, *arguments, **how))
        return started[-1]

    yield start
    for one in started:
        one.end(signal.SIGKILL)
        assert "Traceback" not in one.said


class Crowd:
    """Clients that ask and ask, each in a thread of its own; `every` seconds apart, on the same connection or on new ones."""

    def __init__(self, address, count, every=0.0, keeping=True):
        self.address, self.every, self.keeping = address, every, keeping
        self.over = threading.Event()
        self.answered, self.failed = [0] * count, [[] for _ in range(count)]
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        eventually(lambda: all(self.answered))
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(40)

    def _run(self, number):
        while not self.over.is_set():
            connection = http.client.HTTPConnection(*self.address, timeout=30)
            try:
                self._ask(connection, number)
            except (OSError, http.client.HTTPException) as error:
                self.failed[number].append(error)
            finally:
                connection.close()

    def _ask(self, connection, number):
        """As long as the server lets the connection be: http.client opens another after `Connection: close`."""
        while not self.over.is_set():
            connection.request("GET", "/products?id=1")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                self.failed[number].append(answer.status)
            self.answered[number] += 1
            self.over.wait(self.every)
            if not self.keeping:
                return

    def asks_on(self, seconds=1.0):
        """Each client has been answered again."""
        before = list(self.answered)
        eventually(lambda: all(now > then + 1 for now, then in zip(self.answered, before, strict=True)), seconds + 10)


# ── how many ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", ["0", "65", "two", "-1", "1.0"])
def test_a_number_of_workers_that_cannot_be_is_refused(number):
    done = petstore("serve", f"--workers={number}")
    assert done.returncode == 2
    assert "argument --workers: must be a whole number from 1 to 64" in done.stderr


def test_the_command_of_a_worker_is_not_shown_to_people():
    shown = petstore("--help").stdout
    assert "rotate-keys" in shown
    assert "worker" not in shown


@pytest.mark.slow
def test_there_is_a_worker_for_each_core_or_as_many_as_are_asked_for(serve, monkeypatch):
    monkeypatch.setitem(os.environ, "PETSTORE_WORKERS", "3")  # which environment() leaves out
    assert len(serve().workers) == hashing.CORES
    service = serve("--workers", "3")
    assert len(service.workers) == 3
    assert "with 3 workers" in service.said
    for pid in service.workers:
        assert os.getsid(pid) == pid


# ── what dies ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_only_what_was_in_it_fails(serve, make):
    make.product()
    service = serve("--workers", "2")
    before = service.workers
    with contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(Crowd(service.address, 16))]
        while not all(connections(pid, service.address[1]) for pid in before):  # on a busy machine one may have taken them all
            crowds.append(stack.enter_context(Crowd(service.address, 2)))
            assert len(crowds) < 50
        os.kill(min(before), signal.SIGKILL)
        eventually(lambda: len(service.workers) == 2 and min(before) not in service.workers)
        service.wait_for(f"worker {min(before)} died \\(killed by signal 9\\)")
        for crowd in crowds:
            crowd.asks_on()
    failures = [one for crowd in crowds for one in crowd.failed]
    failed = [len(one) for one in failures]
    assert max(failed) == 1  # what was asked of it at that moment; nobody was refused afterwards
    assert min(failed) == 0  # the other worker knew nothing of it
    assert not any(isinstance(error, ConnectionRefusedError) for one in failures for error in one)
    assert max(before) in service.workers
    assert service.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_when_the_parent_is_killed_its_workers_finish_what_they_do_and_end(serve, make, ana, settings, service):
    make.product()
    own = serve("--workers", "2")
    pids = own.workers
    with make.conn.transaction():
        make.conn.execute("SELECT FROM products FOR UPDATE")
        with Client(own.address, service[0].tokens.issue(ana)) as client:
            asked = ask_to_buy(client)
            eventually(lambda: make.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1)
            os.kill(own.process.pid, signal.SIGKILL)
            eventually(lambda: is_refused(own.address), 2)
            make.conn.execute("ROLLBACK")
            assert asked() == 201
    eventually(lambda: not any(map(is_alive, pids)), 12)


def is_refused(address):
    """Whether nobody listens there."""
    with socket.socket() as connection:
        return connection.connect_ex(address) == errno.ECONNREFUSED


def ask_to_buy(client):
    """Send a purchase now; gives a function that reads the status of its answer."""
    body = b'{"products":[{"product_id":1,"quantity":1}]}'
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
    client._connection.request("POST", "/purchase_product", body, headers)
    return lambda: client._connection.getresponse().status


@pytest.mark.slow
def test_a_worker_that_cannot_start_again_is_tried_less_and_less_often_until_it_can(serve, make, settings, tmp_path):
    make.product()
    keys = tmp_path / "keys"
    keys.mkdir()
    pem = keys / "private.pem"
    pem.touch(0o600)
    pem.write_bytes((settings.keys / "private.pem").read_bytes())
    service = serve("--workers", "2", settings=replace(settings, keys=keys))
    before = service.workers
    pem.chmod(0o644)
    os.kill(min(before), signal.SIGKILL)
    service.wait_for("a new worker process does not get ready: .*chmod 600.*; it is tried again until it does")
    tried = set()
    began = time.monotonic()
    while time.monotonic() < began + 6:
        tried |= service.workers - before
        time.sleep(0.01)
    assert 2 <= len(tried) <= 6  # after 0, 0.25, 0.75, 1.75 s and the second that each takes
    with Client(service.address) as client:
        assert client.get("/products?id=1").status == 200  # from the other one
    assert service.said.count("chmod 600") == 1
    pem.chmod(0o600)
    service.wait_for("a new worker process is ready again")
    eventually(lambda: len(service.workers) == 2)
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("reloaded")
    assert service.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_a_service_of_which_no_worker_gets_ready_ends(serve):
    dying = CHANGED.format("child.COMMAND", "(sys.executable, '-c', 'import sys; sys.exit(\"its own words\")')")
    service = serve(command=(sys.executable, "-c", dying), wait=False)
    assert service.process.wait(30) == 2
    assert "its own words" in service.said
    assert "no worker gets ready (status 1)" in service.said


@pytest.mark.slow
def test_a_worker_that_hangs_keeps_no_service_from_ending(serve):
    impatient = CHANGED.format("supervisor._STOP_SECONDS", "1")
    service = serve("--workers", "2", command=(sys.executable, "-c", impatient))
    pids = service.workers
    os.kill(min(pids), signal.SIGSTOP)
    assert service.end(signal.SIGTERM) == 0
    assert not any(map(is_alive, pids))


# ── the stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("count", ["1", "2"])
def test_ctrl_c_in_a_terminal_lets_what_runs_finish(serve, make, ana, service, count):
    make.product()
    own = serve("--workers", count, start_new_session=True)
    pids = own.workers
    with make.conn.transaction():
        make.conn.execute("SELECT FROM products FOR UPDATE")
        with Client(own.address, service[0].tokens.issue(ana)) as client:
            asked = ask_to_buy(client)
            eventually(lambda: make.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1)
            os.killpg(own.process.pid, signal.SIGINT)
            os.killpg(own.process.pid, signal.SIGINT)  # who is impatient does it again
            time.sleep(0.5)
            make.conn.execute("ROLLBACK")
            assert asked() == 201
    assert own.process.wait(20) == 0
    assert not any(map(is_alive, pids))
    assert own.said.endswith("petstore: stopped\n")
    assert " died " not in own.said


@pytest.mark.slow
def test_the_end_of_the_terminal_that_it_was_started_on_ends_a_service(serve):
    master, terminal = pty.openpty()
    begun = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = (sys.executable, "-c", begun, *PETSTORE)
    service = serve("--workers", "2", command=command, stdin=terminal, start_new_session=True)
    os.close(terminal)
    pids = service.workers
    service.process.send_signal(signal.SIGHUP)  # while it is there, this is a reload
    service.wait_for("reloaded")
    assert not pids & service.workers
    pids = service.workers
    os.close(master)
    assert service.process.wait(20) == 0
    assert not any(map(is_alive, pids))


# ── the reload ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_reload_under_load_replaces_every_worker_and_fails_no_request(serve, make, count):
    make.product()
    service = serve("--workers", str(count))
    with contextlib.ExitStack() as stack:
        crowds = [
            stack.enter_context(Crowd(service.address, *how))
            for how in ((12,), (6, 0.01), (3, 1.5), (6, 0.0, False))  # busy, calm, nearly idle; and on new connections
        ]
        for times in range(2):
            before = service.workers
            service.process.send_signal(signal.SIGHUP)
            service.wait_for("reloaded", times + 1)
            assert len(service.workers) == count
            assert not before & service.workers
            assert not any(map(is_alive, before))
        for crowd in crowds:
            crowd.asks_on(2)
    assert [error for crowd in crowds for one in crowd.failed for error in one] == []
    assert service.end(signal.SIGTERM) == 0


@pytest.mark.slow
def test_a_reload_to_what_cannot_start_leaves_the_old_workers_serving(serve, make, settings, tmp_path):
    make.product()
    keys = tmp_path / "keys"
    keys.mkdir()
    pem = keys / "private.pem"
    pem.touch(0o600)
    pem.write_bytes((settings.keys / "private.pem").read_bytes())
    service = serve("--workers", "2", settings=replace(settings, keys=keys))
    before = service.workers
    with Crowd(service.address, 8) as crowd:
        pem.chmod(0o644)
        service.process.send_signal(signal.SIGHUP)
        service.wait_for(
            "reload failed: a new worker does not get ready: .*chmod 600.*; the old workers go on serving; reload again"
        )
        crowd.asks_on()
        assert service.workers == before
        pem.chmod(0o600)
        service.process.send_signal(signal.SIGHUP)
        service.wait_for("reloaded")
    assert crowd.failed == [[]] * 8
    assert not before & service.workers
    assert service.end(signal.SIGTERM) == 0


@contextlib.contextmanager
def two_servers():
    """Two on one socket, in threads of ours; each application says which of the two it is."""

    def application(name):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "1")])
            return [name]

        return app

    listener = listen("127.0.0.1", 0)
    servers = [Server(application(name), Settings(), listener.dup()) for name in (b"1", b"2")]
    threads = [threading.Thread(target=server.run) for server in servers]
    threads[0].start()
    try:
        yield listener.getsockname(), servers, threads
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.stop()
            if not thread.ident:
                thread.start()  # what it has open is closed at its end
            thread.join(15)
        listener.close()


def asked_once(connection):
    """It has been used, and may be used again."""
    connection.sendall(get())
    answer = b""
    while not answer.endswith(b"\r\n\r\n1"):
        answer += connection.recv(1000)
    assert b"Connection:" not in answer


def test_a_server_that_retires_closes_a_connection_with_its_next_answer_and_leaves_new_ones_to_others():
    with two_servers() as (address, servers, threads), socket.create_connection(address, timeout=10) as kept:
        asked_once(kept)
        servers[0].retire()
        time.sleep(0.3)
        threads[1].start()
        with socket.create_connection(address, timeout=10) as new:
            new.sendall(get(more=b"Connection: close\r\n"))
            assert answers(read_all(new))[0][2] == b"2"
        assert threads[0].is_alive()  # for whom it still has
        kept.sendall(get())
        ((status, headers, body),) = answers(read_all(kept))
        assert (status, headers["connection"], body) == (200, "close", b"1")
        threads[0].join(2)
        assert not threads[0].is_alive()


@pytest.mark.slow
def test_a_server_that_retires_does_not_wait_long_for_who_asks_nothing():
    with two_servers() as (address, servers, threads), socket.create_connection(address, timeout=20) as kept:
        asked_once(kept)
        servers[0].retire()
        time.sleep(2)
        assert threads[0].is_alive()
        threads[0].join(6)
        assert not threads[0].is_alive()
        assert kept.recv(1000) == b""


def test_a_stop_ends_a_server_that_retires_at_once():
    with two_servers() as (address, servers, threads), socket.create_connection(address, timeout=10) as kept:
        asked_once(kept)
        servers[0].retire()
        time.sleep(0.3)
        servers[0].stop()
        threads[0].join(1)
        assert not threads[0].is_alive()
