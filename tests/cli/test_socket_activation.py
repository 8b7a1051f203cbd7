"""Socket activation: the socket is systemd's, so who connects while the service restarts waits and is not refused."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import activation
from tests.cli.test_supervisor import Crowd, Service, is_refused, serve  # noqa: F401
from tests.commands import environment, of
from tests.processes import end, free_port, is_alive
from tests.waiting import eventually

pytestmark = pytest.mark.slow

TOOL = shutil.which("systemd-socket-activate")


@pytest.fixture
def listener():
    with activation.listening() as listener:
        yield listener


def get(address, path="/livez"):
    connection = http.client.HTTPConnection(*address, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def test_a_stop_and_a_start_refuse_nobody(serve, make, listener):  # noqa: F811
    make.product()
    how = activation.how(listener, PETSTORE_DRAIN_SECONDS="1")
    service = serve("--workers", "2", **how)
    assert service.address == listener.getsockname()
    with contextlib.ExitStack() as stack:
        crowds = [
            stack.enter_context(Crowd(service.address, *how))
            for how in ((8,), (6, 0.01), (4, 0.3), (6, 0.0, False))  # busy, calm, nearly idle; and on new connections
        ]
        for _ in range(2):
            assert service.end(signal.SIGTERM) == 0
            time.sleep(1)  # nobody is there
            service = serve("--workers", "2", **how)
            for crowd in crowds:
                crowd.asks_on(2)
    assert [error for crowd in crowds for one in crowd.failed for error in one] == []
    assert service.end(signal.SIGTERM) == 0


def test_who_connects_before_the_service_is_there_is_answered_when_it_is(serve, listener):  # noqa: F811
    with socket.create_connection(listener.getsockname(), timeout=30) as early:
        early.sendall(b"GET /livez HTTP/1.1\r\nHost: shop\r\n\r\n")
        service = serve("--workers", "1", **activation.how(listener))
        assert early.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    assert service.end(signal.SIGTERM) == 0
    assert not is_refused(listener.getsockname())


def test_the_workers_see_nothing_of_it_and_a_reload_keeps_the_socket(serve, listener):  # noqa: F811
    service = serve("--workers", "2", **activation.how(listener))
    before = service.workers
    for pid in before:
        assert b"LISTEN_" not in Path(f"/proc/{pid}/environ").read_bytes()
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("reloaded")
    assert not before & service.workers
    assert get(listener.getsockname()) == 200
    assert service.end(signal.SIGTERM) == 0


def test_variables_for_another_process_are_not_for_the_service(serve, listener):  # noqa: F811
    service = serve("--workers", "1", environ={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert service.address != listener.getsockname()
    assert get(service.address) == 200


def unix_socket(folder):
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(folder / "socket"))
    one.listen()
    return one


def datagram_socket(_folder):
    one = socket.socket(type=socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    return one


def connected_socket(_folder):
    return socket.socket()


@pytest.mark.parametrize("made", [unix_socket, datagram_socket, connected_socket])
def test_a_socket_on_which_it_cannot_serve_is_refused(settings, tmp_path, made):
    with made(tmp_path) as one:
        service = Service(settings, tmp_path, wait=False, **activation.how(one))
        assert service.process.wait(30) == 2
    assert "the socket unit must listen on TCP" in service.said


@pytest.mark.parametrize("count", ["0", "2", "many"])
def test_any_other_number_of_sockets_is_refused(settings, tmp_path, listener, count):
    service = Service(settings, tmp_path, wait=False, **activation.how(listener, LISTEN_FDS=count))
    assert service.process.wait(30) == 2
    assert f"LISTEN_FDS is {count}: the service needs one socket" in service.said


@pytest.mark.skipif(not TOOL, reason="there is no systemd-socket-activate: apt-get install systemd")
def test_it_is_started_by_the_tool_of_systemd(settings, tmp_path):
    address = ("127.0.0.1", free_port())
    environ = environment(PETSTORE_WORKERS="1", PETSTORE_HOME=str(tmp_path), **of(settings))
    passed = [f"--setenv={name}" for name in environ]  # it passes on nothing else
    command = [TOOL, "--listen={}:{}".format(*address), *passed, sys.executable, "-m", "petstore", "serve"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: not is_refused_yet(process, address))  # which connects, and so starts it
        assert get(address) == 200
        assert b"serves on http://%s:%d" % (address[0].encode(), address[1]) in (tmp_path / "log").read_bytes()
    finally:
        assert end(process, signal.SIGTERM, 30) == 0
    assert not is_alive(process.pid)


def is_refused_yet(process, address):
    assert process.poll() is None
    return is_refused(address)
