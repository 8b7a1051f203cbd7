"""Everybody who comes to one service through a proxy that tells their addresses."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import redis

from petstore.limits import failed_attempts
from petstore.limits.policies import ACCOUNT
from petstore.settings import networks
from tests.client import Client
from tests.factories import PASSWORD
from tests.services import running

ANA, BOB = "ana@example.com", "bob@example.com"
WRONG = "not this one, alas"
HERE = "192.0.2.7"


class Street:
    """Everybody who comes to one service through a proxy that tells their addresses."""

    def __init__(self, services, server) -> None:
        self.services, self.server = services, server
        self.client = Client(server.address)

    def post(self, path, body, address=HERE, client=None, **headers):
        return (client or self.client).post(path, body, headers={"X-Forwarded-For": address, **headers})

    def login(self, email=ANA, password=PASSWORD, address=HERE, **how):
        return self.post("/login", {"email": email, "password": password}, address, **how)

    def guess(self, email=ANA, address=HERE, **how):
        return self.login(email, WRONG, address, **how)

    def register(self, email, address=HERE):
        return self.post("/register", {"email": email, "password": PASSWORD}, address)

    def block(self, email=ANA):
        """Strangers have guessed, a few times each, and whoever guesses again has to wait."""
        self.charge(ACCOUNT, email, ACCOUNT.free)

    def charge(self, policy, whom, times):
        """As so many failures would."""
        for _ in range(times):
            assert not self.services.failed_attempts.attempt({policy: whom}).blocked_by

    def pass_time(self, seconds):
        """As if so long had gone by: in the process, whose clock is ours, and in Redis, whose counters are made older."""
        failed_attempts.time.now += seconds
        with redis.Redis.from_url(self.services.settings.redis_url) as client:
            for key in client.scan_iter("petstore:*:attempts:*"):
                at, until = map(float, client.hmget(key, "at", "until"))
                client.hset(key, mapping={"at": f"{at - seconds:.6f}", "until": f"{until - seconds:.6f}"})


class Clock:
    """The time of the counters in the process: nearly none goes by, however busy the machine is."""

    now = 1000.0

    def monotonic(self):
        self.now += 0.00001
        return self.now


@contextmanager
def opened(settings, **changes):
    with running(replace(settings, trusted_proxies=networks("127.0.0.1"), **changes)) as (services, server):
        services.db.check()
        street = Street(services, server)
        with street.client:
            yield street
