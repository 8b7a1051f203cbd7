import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from petstore.cache import circuit_breaker, redis_connection, redis_scripts
from petstore.cache.decorator import cached
from petstore.cache.document import Document, document
from petstore.cache.redis_cache import BYPASS, HIT, MISS, Cache
from petstore.cache.redis_connection import CacheDown
from petstore.cache.shared_generations import SharedGenerations
from tests.cache import writes
from tests.waiting import eventually


@pytest.fixture
def make_cache(own_redis):
    made = []

    def make(url=None, namespace="one", shared=None):
        made.append(Cache(url or own_redis.url, lambda: namespace, shared))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def raw(own_redis):
    with redis.Redis.from_url(own_redis.url) as client:
        yield client


class CachingRequest:
    """What a cached function needs."""

    def __init__(self, cache):
        self.cache, self.asked = cache, 0

    def encode(self, value):
        return repr(value).encode()


@cached("things", ttl=60)
def read(call, *, number):
    call.asked += 1
    return {"number": number, "asked": call.asked}


@cached("things:{owner}", ttl=60)
def read_own(call, *, owner):
    call.asked += 1
    return call.asked


def test_the_second_read_is_a_hit_with_the_same_bytes(make_cache):
    call = CachingRequest(make_cache())
    first, second, other = read(call, number=1), read(call, number=1), read(call, number=2)
    assert [answer.cache for answer in (first, second, other)] == [MISS, HIT, MISS]
    assert (first.body, first.etag) == (second.body, second.etag)
    assert call.asked == 2


def test_invalidating_a_prefix_reaches_every_cache_and_no_other_prefix(make_cache):
    writer, reader = make_cache(), CachingRequest(make_cache())
    read(reader, number=1), read_own(reader, owner=1), read_own(reader, owner=2)
    writer.invalidate("things:1")
    assert read(reader, number=1).cache == HIT
    assert read_own(reader, owner=1).cache == MISS
    assert read_own(reader, owner=2).cache == HIT
    writer.invalidate("things", "things:2")
    assert read(reader, number=1).cache == MISS
    assert read_own(reader, owner=1).cache == HIT
    assert read_own(reader, owner=2).cache == MISS


def test_what_raises_is_not_cached(make_cache):
    call = CachingRequest(make_cache())

    @cached("things", ttl=60)
    def failing(call, *, number):
        call.asked += 1
        raise LookupError(number)

    for _ in range(2):
        with pytest.raises(LookupError):
            failing(call, number=1)
    assert call.asked == 2


def test_an_entry_lives_for_its_ttl(make_cache, raw):
    read(CachingRequest(make_cache()), number=1)
    (entry,) = raw.keys("*entry*")
    assert 55 <= raw.ttl(entry) <= 60
    raw.delete(entry)
    assert read(CachingRequest(make_cache()), number=1).cache == MISS


def test_two_databases_in_one_redis_do_not_see_each_other(make_cache):
    one, two = CachingRequest(make_cache(namespace="one")), CachingRequest(make_cache(namespace="two"))
    assert [read(one, number=1).cache, read(two, number=1).cache] == [MISS, MISS]
    two.cache.invalidate("things")
    assert read(one, number=1).cache == HIT
    one.cache.clear()
    assert [read(one, number=1).cache, read(two, number=1).cache] == [MISS, MISS]
    assert [read(one, number=1).cache, read(two, number=1).cache] == [HIT, HIT]


def test_a_lost_generation_makes_a_miss_and_never_comes_back(make_cache, raw):
    call = CachingRequest(make_cache())
    read(call, number=1)
    (entry,), (generation,) = raw.keys("*entry*"), raw.keys("*generation*")
    old, first = raw.get(entry), raw.get(generation)
    raw.delete(generation)
    assert read(call, number=1).cache == MISS
    assert raw.get(generation) != first
    call.cache.invalidate("things")
    raw.set(entry, old)  # what a slow reader of long ago might still write
    assert read(call, number=1).cache == MISS


def test_a_slow_reader_cannot_store_over_a_write(make_cache):
    """The reader asks the database, a write commits and invalidates, then the reader stores what it saw."""
    reader, writer = make_cache(), make_cache()
    generation = reader.read("things", "key").generation
    writer.invalidate("things")
    reader.store("things", "key", generation, document(b"old"), 60)
    assert reader.read("things", "key").entry is None


def test_under_a_race_no_read_is_older_than_the_last_finished_write(make_cache):
    """One writer, eight readers; `truth` is the database, changed before the invalidation as a commit is."""
    truth, finished, stale, reads = [0], [0], [], [0]
    stop = threading.Event()
    cache = make_cache()

    @cached("race", ttl=60)
    def look(call):
        seen = truth[0]
        time.sleep(0.0005)
        return seen

    def reader():
        while not stop.is_set():
            before = finished[0]
            seen = int(look(CachingRequest(cache)).body)
            reads[0] += 1
            if seen < before:
                stale.append((seen, before))

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(reader)
        for number in range(1, 400):
            truth[0] = number
            cache.invalidate("race")
            finished[0] = number
            time.sleep(0.001)
        stop.set()
    assert reads[0] > 500
    assert stale == []


def test_with_redis_frozen_one_read_waits_a_fifth_of_a_second_and_the_rest_do_not(make_cache, own_redis):
    call = CachingRequest(make_cache())
    read(call, number=1)
    os.kill(own_redis.pid, signal.SIGSTOP)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        assert read(call, number=1).cache == BYPASS
        times.append(time.perf_counter() - started)
    call.cache.invalidate("things")
    assert times[0] < 0.4
    assert max(times[1:]) < 0.1
    assert call.cache.state == "down"
    os.kill(own_redis.pid, signal.SIGCONT)
    eventually(lambda: call.cache.state == "ok")
    assert read(call, number=1).cache == MISS  # the invalidation that Redis did not hear was made up for
    assert read(call, number=1).cache == HIT


def test_with_redis_gone_everything_bypasses_and_it_is_used_again_when_it_is_back(own_redis, tmp_path):
    address = tmp_path / "address"  # stays the same while the server's own socket folder is a new one at each start

    def point():
        address.unlink(missing_ok=True)
        address.symlink_to(own_redis.url.removeprefix("unix://"))

    point()
    cache = Cache(f"unix://{address}", lambda: "one")
    call = CachingRequest(cache)
    read(call, number=1)
    own_redis.stop()
    assert [read(call, number=1).cache for _ in range(3)] == [BYPASS] * 3
    with pytest.raises(CacheDown):
        cache.clear()
    own_redis.start()
    point()
    eventually(lambda: cache.state == "ok")
    assert [read(call, number=1).cache for _ in range(2)] == [MISS, HIT]
    cache.close()


def test_closing_makes_up_for_what_redis_did_not_hear(make_cache, own_redis, monkeypatch):
    monkeypatch.setattr(circuit_breaker, "PROBE_SECONDS", 60)  # so that only close() can do it
    reader, writer = CachingRequest(make_cache()), make_cache()
    read(reader, number=1)
    os.kill(own_redis.pid, signal.SIGSTOP)
    writer.invalidate("things")
    os.kill(own_redis.pid, signal.SIGCONT)
    writer.close()
    assert read(reader, number=1).cache == MISS


def test_whatever_redis_py_raises_is_a_bypass(make_cache):
    for url in ("redis://redis..internal:6379", "redis://127.0.0.1:6379?foo=1", "redis://[::1"):
        with suppress(ValueError):  # what it refuses at once
            call = CachingRequest(make_cache(url))
            assert read(call, number=1).cache == BYPASS
            call.cache.invalidate("things")


def test_no_redis_at_all_is_a_bypass(make_cache):
    for cache in (Cache(None, lambda: "one"), make_cache("redis://127.0.0.1:1/0"), make_cache(namespace=None)):
        call = CachingRequest(cache)
        assert [read(call, number=1).cache for _ in range(2)] == [BYPASS, BYPASS]
        cache.invalidate("things")
        cache.close()


def test_a_generation_outlives_its_entries_and_not_for_ever(make_cache, raw):
    call = CachingRequest(make_cache())
    read(call, number=1)
    (generation,) = raw.keys("*generation*")
    assert 3600 < raw.ttl(generation) <= 86_400
    mark = writes.begin(call.cache, "things", "others")
    assert [3600 < raw.ttl(key) <= 86_400 for key in raw.keys("*marks*")] == [True, True]
    writes.commit(mark)
    assert raw.keys("*generation*") == raw.keys("*marks*") == []


def test_clearing_leaves_what_is_not_ours(make_cache, raw):
    raw.set("somebody", "else")
    call = CachingRequest(make_cache())
    read(call, number=1)
    assert call.cache.clear() == 2
    assert raw.keys("*") == [b"somebody"]


def test_an_entry_that_somebody_spoiled_is_a_miss(make_cache, raw):
    call = CachingRequest(make_cache())
    read(call, number=1)
    (entry,) = raw.keys("*entry*")
    raw.set(entry, b"spoiled")
    assert read(call, number=1).cache == MISS


def test_a_document_is_bytes_and_a_strong_etag_of_just_them():
    assert document(b"x") == document(b"x") == Document(b"x", document(b"x").etag)
    assert document(b"x").etag != document(b"y").etag
    assert redis_connection.TIMEOUT_SECONDS == 0.2


def test_a_redis_that_is_full_or_slow_for_a_moment_is_told_of_a_write_all_the_same(make_cache, raw):
    """It refuses or misses the mark, and goes on to serve what it has to others."""
    writer, reader = make_cache(), CachingRequest(make_cache())
    for trouble in ("full", "slow"):
        read(reader, number=1)
        assert read(reader, number=1).cache == HIT
        if trouble == "full":
            raw.config_set("maxmemory-policy", "noeviction")
            raw.config_set("maxmemory", 1)
        else:
            raw.client_pause(300)
        writes.commit(writes.begin(writer, "things"))
        raw.config_set("maxmemory", 0)
        assert read(reader, number=1).cache != HIT
        eventually(lambda: writer.state == reader.cache.state == "ok")


def test_a_mark_that_redis_heard_too_late_is_taken_away_again(make_cache, raw, own_redis):
    writer, reader = make_cache(), CachingRequest(make_cache())
    os.kill(own_redis.pid, signal.SIGSTOP)
    mark = writes.begin(writer, "things")
    writes.commit(mark)
    os.kill(own_redis.pid, signal.SIGCONT)
    eventually(lambda: writer.state == "ok")
    assert raw.keys("*marks*") == []
    assert [read(reader, number=1).cache for _ in range(2)] == [MISS, HIT]


@contextmanager
def scripts_refused(raw):
    """Redis answers a PING and refuses every script, for the block."""
    raw.execute_command("ACL", "SETUSER", "default", "-eval")
    try:
        yield
    finally:
        raw.execute_command("ACL", "SETUSER", "default", "+eval")


@pytest.fixture
def probed_by_hand(monkeypatch):
    monkeypatch.setattr(circuit_breaker, "PROBE_SECONDS", 60)


def test_what_redis_missed_is_kept_when_it_fails_again_while_it_is_told(make_cache, raw, probed_by_hand):
    writer, reader = make_cache(), CachingRequest(make_cache())
    assert [read(reader, number=1).cache for _ in range(2)] == [MISS, HIT]
    mark = writes.begin(writer, "things")
    with scripts_refused(raw):
        writes.commit(mark)
        for _ in range(2):
            writer._breaker.probe()
            assert writer.state == "down"
    writer._breaker.probe()
    assert writer.state == "ok"
    assert raw.keys("*marks*") == []
    assert [read(reader, number=1).cache for _ in range(2)] == [MISS, HIT]


def test_what_was_kept_before_redis_was_told_is_dropped_by_every_process_of_the_machine(
    make_cache, raw, tmp_path, probed_by_hand
):
    writer, reader = (make_cache(shared=SharedGenerations(tmp_path / "generations")) for _ in range(2))
    read(CachingRequest(reader), number=1)
    with scripts_refused(raw):
        writer.invalidate("things")
    kept = read(CachingRequest(reader), number=1)
    assert (kept.cache, kept.validity.generation) == (HIT, reader.generations(["things"])["things"])
    writer._breaker.probe()
    assert reader.generations(["things"])["things"] != kept.validity.generation
    assert read(CachingRequest(reader), number=1).cache == MISS


def test_the_mark_of_a_write_that_was_refused_without_redis_is_removed_when_redis_is_back(make_cache, raw, probed_by_hand):
    writer, reader = make_cache(), CachingRequest(make_cache())
    assert [read(reader, number=1).cache for _ in range(2)] == [MISS, HIT]
    mark = writes.begin(writer, "things")
    with scripts_refused(raw):
        writes.refuse(mark)
        assert writer.state == "down"
    assert read(reader, number=1).cache == BYPASS
    writer._breaker.probe()
    assert writer.state == "ok"
    assert read(reader, number=1).cache == HIT  # nothing was written, so the entry is still there


def test_a_write_of_unknown_outcome_keeps_its_mark_for_longer(make_cache, raw, monkeypatch):
    monkeypatch.setattr(redis_connection, "MARK_SECONDS", 1)
    writer, reader = make_cache(), CachingRequest(make_cache())
    writes.begin(writer, "things").outcome_unknown()
    time.sleep(2.1)
    assert read(reader, number=1).cache == BYPASS
    ((_, overdue),) = raw.zrange(raw.keys("*marks*")[0], 0, -1, withscores=True)
    assert 50 <= overdue - time.time() <= redis_connection.UNKNOWN_OUTCOME_SECONDS


def test_without_redis_nothing_is_remembered(make_cache):
    cache = Cache(None, lambda: "one")
    for number in range(3):
        writes.commit(writes.begin(cache, f"things:{number}"))
        writes.refuse(writes.begin(cache, f"things:{number}"))
    assert not cache._missed
    assert not cache._lost_marks
    cache.close()


def test_every_script_is_used_and_says_what_it_takes():
    module = Path(redis_connection.__file__)
    scripts = {path.stem: path.read_text("utf-8") for path in (module.parent / "lua").iterdir()}
    assert set(re.findall(r'_script\("(\w+)"', module.read_text("utf-8"))) == set(scripts)
    for name, text in scripts.items():
        assert re.match(r"-- [A-Z].*\.\n--\n-- KEYS    \S.*\n-- ARGV    \S", text), name
        assert ("return " in text) == ("-- Result  " in text), name
        assert not re.search(rb"^--", redis_scripts.load_script(name), re.MULTILINE), name


def test_scripts_are_loaded_with_the_pool_and_not_read_again(monkeypatch, make_cache):
    """An upgrade replaces files under a running service: what it runs stays what it has loaded."""
    redis_scripts.load_script.cache_clear()
    cache = make_cache()
    monkeypatch.setattr(redis_scripts.resources, "files", lambda _: 1 / 0)
    with writes.begin(cache, "things"):
        pass
    assert cache.state == "ok"
