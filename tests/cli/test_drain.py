"""The drain: after SIGTERM, for PETSTORE_DRAIN_SECONDS, everything is served, and /readyz says that the service stops."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time

import pytest

from tests.cli.test_supervisor import serve  # noqa: F401
from tests.client import Client
from tests.processes import housekeepers, is_alive

pytestmark = pytest.mark.slow

SECONDS = 4


@pytest.fixture
def running(serve, make):  # noqa: F811
    make.product()
    return serve("--workers", "2", environ={"PETSTORE_DRAIN_SECONDS": str(SECONDS)})


def ask(address, path):
    """On a connection of its own: status, whether the server closes it, body."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.will_close, json.loads(answer.read())
    connection.close()
    return found


def test_a_drain_serves_everything_and_tells_proxies_that_it_stops(running, make, ana, buyer):
    pids = running.workers
    with Client(running.address, buyer.token) as kept:
        assert kept.get("/readyz").status == 200
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        ready = kept.get("/readyz")
        assert (ready.status, ready.json()["service"], ready["Connection"]) == (503, "stopping", "close")
        bought = 0
        while time.monotonic() < began + SECONDS - 0.7:
            assert kept.post("/purchase_product", {"products": [{"product_id": 1, "quantity": 1}]}).status in (201, 409)
            bought += 1
            assert ask(running.address, "/products?id=1")[:2] == (200, True)
            status, closed, body = ask(running.address, "/readyz")
            assert (status, closed, body["service"]) == (503, True, "stopping")
            assert ask(running.address, "/livez")[0] == 200
            time.sleep(0.05)
    assert bought > 10
    assert pids == running.workers
    assert running.process.wait(10) == 0
    assert SECONDS - 0.1 < time.monotonic() - began < SECONDS + 3
    assert not any(map(is_alive, pids))
    assert running.said.endswith("petstore: stopped\n")


def test_a_drain_that_every_process_hears_of_and_twice_lasts_as_long(running):
    """As systemd does it with KillMode=control-group."""
    began = time.monotonic()
    for _ in range(2):
        for pid in (running.process.pid, *running.workers, *housekeepers(running.process.pid)):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)
    assert ask(running.address, "/products?id=1")[0] == 200
    assert running.process.wait(10) == 0
    assert SECONDS - 0.1 < time.monotonic() - began < SECONDS + 3


@pytest.mark.parametrize("before", [(), (signal.SIGTERM,)])
def test_ctrl_c_does_not_wait_for_a_drain_and_ends_one(serve, before):  # noqa: F811
    service = serve("--workers", "2", environ={"PETSTORE_DRAIN_SECONDS": "600"})
    for number in before:
        service.process.send_signal(number)
        time.sleep(0.5)
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(30) == 0


def test_a_drain_ends_with_the_supervisor(running):
    pids = running.workers
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    running.process.kill()
    deadline = time.monotonic() + 2
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
