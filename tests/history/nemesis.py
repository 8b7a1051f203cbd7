"""What happens to the shop while the clients are at work, and when."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from petstore import db
from tests.history.servers import Shop

Fault = Callable[[Shop, random.Random], None]


def kill_postgres(shop: Shop, chance: random.Random) -> None:
    shop.kill_postgres()


def kill_service(shop: Shop, chance: random.Random) -> None:
    """kill -9, while what it says to Redis is on a slow way: so some die between COMMIT and telling the cache."""
    service = chance.choice(shop.services)
    service.cache.delay = 0.03
    time.sleep(0.2)
    service.kill()
    service.cache.cut()
    service.cache.delay = 0
    service.start()
    service.wait_until_ready()


def stop_service(shop: Shop, chance: random.Random) -> None:
    service = chance.choice(shop.services)
    assert service.stop() == 0
    service.start()
    service.wait_until_ready()


def terminate_backends(shop: Shop, chance: random.Random) -> None:
    """Some of the backends, five times in half a second."""
    with db.connect(shop.postgres.url("postgres")) as conn:
        for _ in range(5):
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^petstore [0-9]' AND random() < 0.3"
            )
            time.sleep(0.1)


def cut_database(shop: Shop, chance: random.Random) -> None:
    """The connections of one service to PostgreSQL, and for a moment no new ones."""
    proxy = chance.choice(shop.services).database
    proxy.refusing = True
    proxy.cut()
    time.sleep(0.1)
    proxy.refusing = False


def slow_database(shop: Shop, chance: random.Random) -> None:
    """Each message between the services and PostgreSQL is late, so transactions take longer and meet more often."""
    for service in shop.services:
        service.database.delay = 0.004
    time.sleep(1)
    for service in shop.services:
        service.database.delay = 0


def cut_redis(shop: Shop, chance: random.Random) -> None:
    chance.choice(shop.services).cache.cut()


def freeze_redis(shop: Shop, chance: random.Random) -> None:
    shop.redis.signal(signal.SIGSTOP)
    time.sleep(0.5)
    shop.redis.signal(signal.SIGCONT)


def flush_cache(shop: Shop, chance: random.Random) -> None:
    """Everything is forgotten. The writers have not been cut off, so this excuses no stale read."""
    for _ in range(10):
        shop.redis.run("FLUSHALL")
        time.sleep(0.03)


def lose_answers(shop: Shop, chance: random.Random) -> None:
    """Exactly the answers to COMMITs, some of which reach the server only later; and some COMMITs that never do."""
    for service in shop.services:
        service.database.lose_answers(2)
        service.database.lose_answers(1, late=0.3)
        service.database.lose_commits(1)
    time.sleep(0.6)


def kill_redis(shop: Shop, chance: random.Random) -> None:
    """kill -9; it comes back with what it had saved before."""
    shop.redis.kill()
    time.sleep(chance.choice((0, 0.4)))
    shop.redis.start()


def swallow_redis(shop: Shop, chance: random.Random) -> None:
    """One service gets no answer from Redis; the other does."""
    proxy = chance.choice(shop.services).cache
    proxy.swallowing = True
    time.sleep(0.5)
    proxy.swallowing = False


def swallow_database(shop: Shop, chance: random.Random) -> None:
    """One service gets no answer from PostgreSQL for longer than a request may take; then what it had sent arrives."""
    proxy = chance.choice(shop.services).database
    proxy.swallowing = True
    time.sleep(3.3)
    proxy.swallowing = False


FAULTS: tuple[Fault, ...] = (
    lose_answers, freeze_redis, kill_service, cut_database, flush_cache, terminate_backends, kill_redis, kill_postgres,
    cut_redis, stop_service,
)  # fmt: skip
SLOW_FAULTS = (*FAULTS, slow_database, swallow_redis, swallow_database)


class Nemesis:
    """Does one fault after the other, each once and then by chance; keeps when it did what."""

    def __init__(self, shop: Shop, faults: tuple[Fault, ...] = FAULTS, *, seed: int = 0, pause: float = 0.4) -> None:
        self._shop, self._faults, self._pause = shop, faults, pause
        self._chance = random.Random(seed)
        self.done: list[tuple[str, float, float]] = []

    def run(self, until: float) -> None:
        queue = list(self._faults)
        while self._faults and time.monotonic() < until:
            fault = queue.pop(0) if queue else self._chance.choice(self._faults)
            if fault is kill_redis:
                self._shop.redis.run("SAVE")
                time.sleep(0.8)  # what was saved is to be old by then
            time.sleep(self._pause)
            started = time.monotonic()
            fault(self._shop, self._chance)
            self.done.append((fault.__name__, started, time.monotonic()))
        time.sleep(max(0, until - time.monotonic()))
