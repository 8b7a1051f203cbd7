"""A process of the race for the cache's truth: writers, of which some die, and readers who check what they get."""

import random
import threading
import time

from petstore.cache import redis_connection
from petstore.cache.decorator import cached
from petstore.cache.redis_cache import BYPASS, HIT, MISS, Cache
from tests.cache import writes

KEYS, WRITERS = 4, 2  # each process has one writer; each writer its own number under each key
DEADLY = KEYS - 1  # the key at which writers die
SECONDS = 2.5


class CachingRequest:
    """What a cached function needs."""

    def __init__(self, cache):
        self.cache = cache

    def encode(self, value):
        return ",".join(map(str, value)).encode()


def run_process(number, url, truth, finished, reports):
    """Write and read for SECONDS; then wait until no mark stands, and read all of it once more."""
    redis_connection.MARK_SECONDS, redis_connection.TIMEOUT_SECONDS = 1, 5
    cache = Cache(url, lambda: "one")
    report = {HIT: 0, MISS: 0, BYPASS: 0, "writes": 0, "deaths": 0, "stale": []}

    @cached("race:{key}", ttl=60)
    def look(call, *, key):
        seen = truth[key * WRITERS : (key + 1) * WRITERS]
        time.sleep(random.random() / 500)
        return seen

    def values(key):
        answer = look(CachingRequest(cache), key=key)
        return [int(value) for value in answer.body.split(b",")], answer.cache

    def write():
        while time.monotonic() < until:
            key = random.randrange(KEYS)
            slot = key * WRITERS + number
            if key == DEADLY and random.random() < 0.8:
                continue  # its mark would stand all the time
            mark = writes.begin(cache, f"race:{key}")
            time.sleep(random.random() / 1000)
            if random.random() < 0.2:
                writes.refuse(mark)  # refused
                continue
            truth[slot] += 1
            if key == DEADLY:
                report["deaths"] += 1
                time.sleep(0.05)
                continue
            written = truth[slot]
            writes.commit(mark)
            finished[slot] = written
            report["writes"] += 1
            time.sleep(random.random() / 500)

    def read():
        while time.monotonic() < until:
            key = random.randrange(KEYS)
            before = finished[key * WRITERS : (key + 1) * WRITERS]
            seen, how = values(key)
            report[how] += 1
            if any(now < then for now, then in zip(seen, before, strict=True)):
                report["stale"].append((key, before, seen, how))

    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=target) for target in (write, read, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(2.5)  # the other process ends, and its marks are overdue
    report["last"] = [value for key in range(KEYS) for value in values(key)[0]]
    cache.close()
    reports.put(report)
