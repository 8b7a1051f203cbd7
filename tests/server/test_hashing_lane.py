"""What hashes passwords waits in a queue of its own, fair to every client; nothing else waits with it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from petstore.limits import hashing
from petstore.limits.clients import client_networks
from petstore.server.hashing_lane import _FairQueue
from petstore.settings import networks
from tests.client import Client
from tests.factories import PASSWORD
from tests.waiting import eventually


@contextmanager
def nobody_hashes():
    """Every turn of this machine is taken, for the block."""
    ends, begun = threading.Event(), []

    def hold():
        with hashing.hashing_slot(time.monotonic() + 30):
            begun.append(1)
            ends.wait()

    holders = [threading.Thread(target=hold) for _ in range(hashing.MAX_CONCURRENT)]
    for holder in holders:
        holder.start()
    eventually(lambda: len(begun) == hashing.MAX_CONCURRENT)
    try:
        yield
    finally:
        ends.set()
        for holder in holders:
            holder.join()


@pytest.fixture
def lane(make, with_settings):
    """A service that believes what X-Forwarded-For says, and a crowd that logs in: `crowd(address)` gives a status."""
    make.user("ana@example.com")
    with (
        with_settings(trusted_proxies=networks("127.0.0.1"), threads=2) as (services, server),
        ThreadPoolExecutor(30) as pool,
    ):
        services.db.check()

        def login(address):
            with Client(server.address) as client:
                credentials = {"email": "ana@example.com", "password": PASSWORD}
                return client.post("/login", credentials, headers={"X-Forwarded-For": address}).status

        yield server, lambda address: pool.submit(login, address)


def waiting(server):
    return len(server._hashing_lane.queue)


def test_who_sends_many_logins_at_once_waits_behind_himself_alone(lane):
    server, login = lane
    with nobody_hashes():
        crowd = [login("192.0.2.1") for _ in range(hashing.MAX_CONCURRENT + 1 + 6)]  # all of the lane's threads, and six who wait
        eventually(lambda: waiting(server) == 6)
        one = login("192.0.2.2")
        eventually(lambda: waiting(server) == 7)
    assert one.result() == 200
    assert sum(not other.done() for other in crowd) >= 3
    assert {other.result() for other in crowd} <= {200, 503}


def test_who_has_many_networks_waits_behind_himself_alone_too():
    queue = _FairQueue()
    crowd = [f"2001:db8:0:{number:x}::1" for number in (0, 1, 2, 0x100, 0x200, 0x300)]
    neighbour, far, old = "2001:db8:0:400::1", "2001:db8:1::1", "192.0.2.7"
    for address in (*crowd, crowd[0], neighbour, far, old):
        queue.append(SimpleNamespace(address=address, networks=client_networks(address)))
    assert len(queue) == 10
    turns = [queue.popleft().address for _ in range(10)]
    # Each of the three widest networks in turn, then the /56 of the crowd's in turn, and in its first one the /64.
    assert turns[:3] == [crowd[0], far, old]
    assert turns[3:7] == [*crowd[3:], neighbour]
    assert turns[7:] == [crowd[1], crowd[2], crowd[0]]
    assert not queue


def test_nothing_else_waits_with_those_who_log_in(lane):
    server, login = lane
    with nobody_hashes():
        crowd = [login(f"192.0.2.{number}") for number in range(20)]
        eventually(lambda: waiting(server) >= 10)
        with Client(server.address) as client:
            assert client.get("/livez").status == 200
            assert client.get("/login").status == 405
            assert client.post("/logout", {"refresh_token": "x"}).status == 204
        assert not any(other.done() for other in crowd)
    assert {other.result() for other in crowd} <= {200, 503}


@pytest.mark.slow
def test_who_waits_too_long_is_told_so_and_not_hashed_for(lane):
    _, login = lane
    started = time.monotonic()
    with nobody_hashes():
        crowd = [login(f"192.0.2.{number}") for number in range(hashing.MAX_CONCURRENT + 5)]
        assert {other.result() for other in crowd} == {503}
    assert time.monotonic() - started >= 2


def test_a_stop_waits_for_those_who_wait_to_log_in(lane):
    server, login = lane
    with nobody_hashes():
        crowd = [login(f"192.0.2.{number}") for number in range(hashing.MAX_CONCURRENT + 4)]
        eventually(lambda: waiting(server) >= 3)
        server.stop()
    assert {other.result() for other in crowd} == {200}
