"""The circuit breaker by itself; with Redis behind it, see test_cache.py and tests/faults/test_redis.py."""

import threading

import pytest

from petstore.cache import circuit_breaker
from petstore.cache.circuit_breaker import CircuitBreaker
from tests.waiting import eventually


class Server:
    """A server that may be down, and whatever happens while it is probed."""

    def __init__(self):
        self.down, self.probes, self.meanwhile = False, 0, lambda: None

    def probe(self):
        self.probes += 1
        self.meanwhile()
        if self.down:
            raise ConnectionError


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def breaker(server):
    one = CircuitBreaker("test", server.probe, (ConnectionError,))
    yield one
    one.stop()


def test_a_tripped_breaker_is_open_until_a_probe_succeeds(server, breaker):
    assert breaker.closed
    server.down = True
    assert breaker.trip() is True
    assert breaker.trip() is False
    eventually(lambda: server.probes > 2)
    assert not breaker.closed
    server.down = False
    eventually(lambda: breaker.closed)
    probes = server.probes
    assert breaker.trip() is True
    eventually(lambda: breaker.closed)
    assert server.probes == probes + 1


def test_a_breaker_that_is_tripped_during_a_probe_stays_open_for_one_more(server, breaker, monkeypatch):
    monkeypatch.setattr(circuit_breaker, "PROBE_SECONDS", 60)  # so that only this test probes
    breaker.trip()
    server.meanwhile = breaker.trip
    breaker.probe()
    assert not breaker.closed
    server.meanwhile = lambda: None
    breaker.probe()
    assert breaker.closed


def test_a_stopped_breaker_has_no_thread_and_can_still_be_probed(server, breaker):
    breaker.stop()
    assert "test-probe" not in {thread.name for thread in threading.enumerate()}
    breaker.trip()
    assert not breaker.closed
    breaker.probe()
    assert breaker.closed
