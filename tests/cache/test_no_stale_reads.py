"""No read is older than the last acknowledged write: with writers that die, overlap or are refused, and a Redis that forgets."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import redis

from petstore.cache import redis_connection
from petstore.cache.decorator import cached
from petstore.cache.document import document
from petstore.cache.redis_cache import BYPASS, HIT, MISS, Cache
from tests.cache import writes
from tests.faults.race import KEYS, WRITERS, run_process
from tests.snapshot_redis import SnapshotRedis
from tests.waiting import eventually


@pytest.fixture
def server(tmp_path):
    one = SnapshotRedis(tmp_path)
    try:
        one.start()
        yield one
    finally:
        one.kill()


@pytest.fixture
def raw(server):
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def make_cache(server):
    with ExitStack() as stack:

        def make():
            cache = Cache(server.url, lambda: "one")
            stack.callback(cache.close)
            return cache

        yield make


class CachingRequest:
    """What a cached function needs, and the truth that it reads."""

    truth, asked = 1, 0

    def __init__(self, cache):
        self.cache = cache
        self.before_answer = lambda: None

    def encode(self, value):
        return repr(value).encode()


@cached("thing:{number}", ttl=60)
def read(call, *, number):
    call.asked += 1
    seen = call.truth
    call.before_answer()
    return seen


def look(call, number=1):
    """What a read gives, and how."""
    answer = read(call, number=number)
    return int(answer.body), answer.cache


@pytest.fixture
def call(make_cache):
    """A reader that has the truth, 1, in its cache."""
    one = CachingRequest(make_cache())
    assert [look(one), look(one)] == [(1, MISS), (1, HIT)]
    return one


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """On a busy machine a Redis that is slow is not to be taken for one that is down."""
    monkeypatch.setattr(redis_connection, "TIMEOUT_SECONDS", 10)


@pytest.fixture
def short_marks(monkeypatch):
    monkeypatch.setattr(redis_connection, "MARK_SECONDS", 1)


# ── writers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def until_overdue(call):
    """What is read while a dead writer's mark stands, and the first read after it."""
    seen = []
    eventually(lambda: seen.append(look(call)) or seen[-1][1] != BYPASS, 5)
    return set(seen[:-1]), seen[-1]


def test_a_writer_that_dies_before_it_tells_the_cache_leaves_no_old_entry(call, make_cache, short_marks):
    writes.begin(make_cache(), "thing:1", "thing:2")
    call.truth = 2  # committed, and that was the last thing it did
    assert until_overdue(call) == ({(2, BYPASS)}, (2, MISS))
    assert look(call) == (2, HIT)


def test_a_write_under_way_is_not_served_from_the_cache_on_any_process_and_only_where_it_writes(call, make_cache):
    other = CachingRequest(make_cache())
    look(call, 3)
    mark = writes.begin(make_cache(), "thing:1", "thing:2")
    assert [look(call), look(other), look(call, 2), look(call, 3)] == [(1, BYPASS), (1, BYPASS), (1, BYPASS), (1, HIT)]
    call.truth = other.truth = 2
    writes.commit(mark)
    assert [look(call), look(other), look(call, 2), look(call, 3)] == [(2, MISS), (2, HIT), (2, MISS), (1, HIT)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_writers_at_once_may_end_in_any_order(call, make_cache, order):
    writers = [make_cache(), make_cache()]
    marks = [writes.begin(writer, "thing:1") for writer in writers]
    for number in order:
        assert look(call)[1] == BYPASS
        call.truth += 1
        writes.commit(marks[number])
    assert [look(call), look(call)] == [(3, MISS), (3, HIT)]


@pytest.mark.parametrize("survivor", [0, 1])
def test_of_two_writers_one_dies_and_the_other_does_not_speak_for_it(call, make_cache, short_marks, survivor):
    writers = [make_cache(), make_cache()]
    marks = [writes.begin(writer, "thing:1") for writer in writers]
    call.truth = 2
    writes.commit(marks[survivor])
    assert look(call) == (2, BYPASS)
    call.truth = 3  # by the one that dies
    assert until_overdue(call) == ({(3, BYPASS)}, (3, MISS))


def test_a_refused_write_leaves_every_entry(call, make_cache):
    writer = make_cache()
    mark = writes.begin(writer, "thing:1", "thing:2")
    writes.refuse(mark)
    assert look(call) == (1, HIT)
    assert call.asked == 1


@pytest.mark.parametrize("what", ["*marks*", "*generation*", "*entry*", "everything"])
def test_what_redis_forgets_during_a_write_is_no_lie_after_it(call, make_cache, raw, what):
    slow, writer = CachingRequest(make_cache()), make_cache()
    generation = slow.cache.read("thing:1", "read:1").generation
    mark = writes.begin(writer, "thing:1")
    raw.flushall() if what == "everything" else raw.delete(*raw.keys(what))
    for _ in range(2):
        assert look(call)[0] == 1  # not committed yet: stored again, perhaps
    slow.cache.store("thing:1", "read:1", generation, read(call, number=1), 60)
    call.truth = 2
    writes.commit(mark)
    slow.cache.store("thing:1", "read:1", generation, document(b"1"), 60)
    assert [look(call), look(call)] == [(2, MISS), (2, HIT)]


@pytest.mark.parametrize("moment", ["after the write", "during the write"])
def test_a_redis_that_was_killed_and_comes_back_with_old_data_serves_none_of_it(call, make_cache, server, raw, moment):
    writer, late = make_cache(), CachingRequest(make_cache())
    raw.execute_command("SAVE")
    mark = writes.begin(writer, "thing:1")
    call.truth = late.truth = 2
    if moment == "after the write":
        writes.commit(mark)
        assert look(call) == (2, MISS)
    server.kill()
    assert look(call) == (2, BYPASS)
    server.start()
    if moment == "during the write":
        writes.commit(mark)
    assert raw.keys("*entry:thing:1*") != []  # the old one is there
    fresh = CachingRequest(make_cache())  # a process that has seen nothing of it
    fresh.truth = 2
    assert look(fresh)[0] == 2
    eventually(lambda: call.cache.check() == late.cache.check() == "ok")
    assert {look(one)[0] for one in (call, late, fresh) for _ in range(3)} == {2}
    assert look(call) == (2, HIT)


# ── readers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("marked", [False, True])
def test_two_hundred_readers_of_a_cold_key_ask_the_database_once_per_process(make_cache, marked):
    processes = [CachingRequest(make_cache()), CachingRequest(make_cache())]
    if marked:
        writes.begin(processes[0].cache, "thing:1")
    arrived = threading.Semaphore(0)
    for one in processes:
        share = one.cache.single_flight.share
        one.cache.single_flight.share = lambda *arguments, share=share: arrived.release() or share(*arguments)
    all_here = threading.Event()
    for one in processes:
        one.before_answer = lambda: all_here.wait(30) and time.sleep(0.3)
    with ThreadPoolExecutor(200) as pool:
        answers = [pool.submit(look, processes[number % 2]) for number in range(200)]
        for _ in range(200):
            assert arrived.acquire(timeout=30)
        all_here.set()
        assert {answer.result() for answer in answers} == {(1, BYPASS if marked else MISS)}
    assert [one.asked for one in processes] == [1, 1]


@pytest.mark.parametrize("when", ["before the mark", "after the mark"])
def test_who_comes_after_an_acknowledged_write_takes_no_flight_that_began_before_it(make_cache, when):
    call, writer = CachingRequest(make_cache()), make_cache()
    begun, go_on = threading.Event(), threading.Event()
    mark = writes.begin(writer, "thing:1") if when == "after the mark" else None
    call.before_answer = lambda: begun.set() or go_on.wait(10)
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(look, call)
        assert begun.wait(10)
        call.before_answer = lambda: None
        mark = mark or writes.begin(writer, "thing:1")
        call.truth = 2
        writes.commit(mark)
        started = time.monotonic()
        assert look(call) == (2, MISS)
        assert time.monotonic() - started < 1
        go_on.set()
        assert early.result()[0] == 1  # it began before the write was answered
    assert [look(call)[0], look(call)] == [2, (2, HIT)]


def test_a_failure_is_nobody_elses(make_cache):
    call = CachingRequest(make_cache())
    begun, go_on = threading.Event(), threading.Event()

    def fail():
        call.before_answer = lambda: None
        begun.set()
        go_on.wait(10)
        raise LookupError("only mine")

    call.before_answer = fail
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(look, call)
        assert begun.wait(10)
        others = [pool.submit(look, call) for _ in range(5)]
        time.sleep(0.2)
        go_on.set()
        with pytest.raises(LookupError):
            first.result()
        assert {other.result()[0] for other in others} == {1}
    assert look(call) == (1, HIT)
    assert call.cache.single_flight._calls == {}


def test_nobody_waits_for_a_flight_that_does_not_land(make_cache, monkeypatch):
    monkeypatch.setattr("petstore.cache.decorator.WAIT_SECONDS", 0.2)
    call = CachingRequest(make_cache())
    begun, go_on = threading.Event(), threading.Event()
    call.before_answer = lambda: begun.set() or go_on.wait(10)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(look, call)
        assert begun.wait(10)
        call.before_answer = lambda: None
        assert look(call) == (1, MISS)
        assert not first.done()
        go_on.set()


@pytest.mark.slow
def test_under_a_race_of_processes_no_read_is_older_than_a_finished_write_and_the_dead_leave_nothing(server, make_cache):
    spawn = multiprocessing.get_context("spawn")
    truth, finished = spawn.Array("q", KEYS * WRITERS), spawn.Array("q", KEYS * WRITERS)
    reports = spawn.SimpleQueue()
    processes = [
        spawn.Process(target=run_process, args=(number, server.url, truth, finished, reports)) for number in range(WRITERS)
    ]
    for one in processes:
        one.start()
    found = [reports.get() for _ in processes]
    for one in processes:
        one.join()
    assert [stale for report in found for stale in report["stale"]] == []
    assert [report["last"] for report in found] == [list(truth)] * len(found)
    assert all(min(report["writes"], report["deaths"], report[HIT], report[MISS], report[BYPASS]) > 0 for report in found), found
