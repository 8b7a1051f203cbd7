"""Failed attempts are counted by the same rules in Redis and in the process, and nobody slips through or is kept out for good."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from petstore.cache.namespace import namespace_of
from petstore.cache.redis_connection import CacheDown, RedisPool
from petstore.limits import failed_attempts
from petstore.limits.failed_attempts import FailedAttempts
from petstore.limits.policies import ACCOUNT_HERE, ADDRESS, LONGEST_DELAY, REGISTER, Policy

SPACE = "throttle-tests"
NAMESPACE = namespace_of(SPACE)
NEVER_LEAKS = Policy("account", 3, 10**8)


@contextmanager
def unreachable():
    raise CacheDown
    yield


class Clock:
    """Time that passes when a test says so. In Redis it passes by making what it keeps so much older."""

    def __init__(self, client) -> None:
        self.client, self.now = client, 1000.0

    def monotonic(self) -> float:
        self.now += 0.0001  # as ever, some time has passed
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for key in self.client.scan_iter(f"petstore:{SPACE}:*"):
            for field in ("at", "until"):
                if (kept := float(self.client.hget(key, field))) > 0:
                    self.client.hset(key, field, f"{kept - seconds:.6f}")


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, decode_responses=True) as one:
        yield one


@pytest.fixture
def links(redis_url, client):
    """Ways to an empty Redis."""
    made = RedisPool(redis_url)
    with made.connection(NAMESPACE) as link:
        link.clear()
    yield made
    with made.connection(NAMESPACE) as link:
        link.clear()
    made.close()


@pytest.fixture
def clock(client, monkeypatch):
    one = Clock(client)
    monkeypatch.setattr(failed_attempts, "time", one)
    return one


@pytest.fixture(params=["redis", "process"])
def store(request, links, clock):
    """One of the two."""
    return (
        failed_attempts._RedisStore(lambda: links.connection(NAMESPACE))
        if request.param == "redis"
        else failed_attempts._LocalStore()
    )


def charge(store, key="k", policy=NEVER_LEAKS):
    return store.charge({key: policy})[key]


# ── both by the same rules ───────────────────────────────────────────────────────────────────────────────────────────────

POLICIES = {"a": Policy("account", 2, 8), "b": ACCOUNT_HERE, "c": Policy("address", 4, 1), "d": ADDRESS}
SOME = st.lists(st.sampled_from(sorted(POLICIES)), min_size=1, max_size=4, unique=True)
STEPS = st.one_of(
    st.tuples(st.just("charge"), SOME),
    st.tuples(st.just("charge"), SOME),
    st.tuples(st.just("refund"), st.integers(0, 30)),
    st.tuples(st.just("reset"), SOME),
    st.tuples(st.just("sleep"), st.sampled_from([0.25, 0.75, 1, 2, 5, 17, 60, 299, 300, 5000])),
)


class Twins:
    """Both stores side by side. What Redis says tells the moment at which it said so, and the other is asked at that moment."""

    def __init__(self, links, client) -> None:
        self.client, self.slept, self.now = client, 0.0, 0.0
        self.shared, self.local = failed_attempts._RedisStore(lambda: links.connection(NAMESPACE)), failed_attempts._LocalStore()
        self.charged = []  # what both gave, and how long they had slept by then
        self.outcomes = Counter()

    def charge(self, names) -> None:
        keys = {name: POLICIES[name] for name in names}
        theirs = self.shared.charge(keys)
        kept = {name: self.client.hgetall(self.client.keys(f"petstore:{SPACE}:*:attempts:{name}")[0]) for name in theirs}
        waiting = [name for name, charge in theirs.items() if charge.wait]
        at, ends = float(kept[names[0]]["at"]), float(kept[(waiting or names)[0]]["until"])
        when = ends - theirs[waiting[0]].wait if waiting else at
        self.now = when + self.slept
        ours = self.local.charge(keys)
        assert list(ours) == list(theirs) == list(names)
        for name in names:
            until = theirs[name].until and theirs[name].until + self.slept
            assert ours[name] == pytest.approx((theirs[name].wait, theirs[name].level, until), abs=2e-5, rel=1e-12)
        if not waiting:
            self.charged.append((self.slept, ours, theirs))
        self.outcomes["wait" if waiting else "delayed" if any(one.until for one in ours.values()) else "free"] += 1

    def refund(self, number) -> None:
        if self.charged:
            slept, ours, theirs = self.charged.pop(number % len(self.charged))
            self.local.refund(ours)
            older = {name: one._replace(until=one.until and one.until - (self.slept - slept)) for name, one in theirs.items()}
            self.shared.refund(older)

    def reset(self, names) -> None:
        self.shared.reset(names)
        self.local.reset(names)

    def sleep(self, seconds) -> None:
        self.slept += seconds
        for key in self.client.scan_iter(f"petstore:{SPACE}:*"):
            at, until = map(float, self.client.hmget(key, "at", "until"))
            older = {"at": f"{at - seconds:.6f}", "until": f"{until - seconds:.6f}" if until else "0"}
            self.client.hset(key, mapping=older)


def test_redis_and_the_process_count_by_the_same_rules(links, client, monkeypatch):
    outcomes = Counter()

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(st.lists(STEPS, min_size=5, max_size=40))
    def compare(steps):
        with links.connection(NAMESPACE) as link:
            link.clear()
        twins = Twins(links, client)
        monkeypatch.setattr(failed_attempts, "time", SimpleNamespace(monotonic=lambda: twins.now))
        for what, argument in steps:
            if what == "charge" and any(
                not client.keys(f"petstore:{SPACE}:*:attempts:{name}") for name in argument
            ):  # a first charge that is refused for another one's sake leaves nothing to tell the time by: bring it to life
                for name in argument:
                    twins.charge([name])
            getattr(twins, what)(argument)
        for name in POLICIES:
            twins.charge([name])
        outcomes.update(twins.outcomes)

    compare()
    assert min(outcomes[kind] for kind in ("wait", "delayed", "free")) > 20, outcomes


# ── each of both ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("policy", "last"), [(NEVER_LEAKS, {300}), (ACCOUNT_HERE, {256, 300}), (ADDRESS, {32, 64})])
def test_delays_double_up_to_five_minutes_or_to_where_failures_are_forgotten_as_fast_as_made(store, clock, policy, last):
    for _ in range(policy.free - 1):
        assert charge(store, "k", policy).wait == 0
    waits = []
    for _ in range(18):  # each as early as it may
        assert charge(store, "k", policy).wait == 0
        waits.append(round(charge(store, "k", policy).wait))
        clock.sleep(waits[-1] + 0.1)
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert set(waits[9:]) == last


def test_who_asks_again_too_early_is_charged_nothing_and_waits_no_longer(store, clock):
    for _ in range(5):
        charge(store)
    first = charge(store)
    assert (round(first.wait), round(first.level, 3)) == (1, 3)
    for _ in range(50):
        assert charge(store).wait <= first.wait
    clock.sleep(1.1)
    assert charge(store).wait == 0


def test_a_failure_is_forgotten_after_its_time_and_not_before(store, clock):
    for _ in range(ACCOUNT_HERE.free):
        assert charge(store, "k", ACCOUNT_HERE).wait == 0
    clock.sleep(1.1)
    # One second has forgotten 1/300 of a failure: the next delay is 2 s, but for that much.
    assert charge(store, "k", ACCOUNT_HERE).wait == 0
    assert charge(store, "k", ACCOUNT_HERE).wait == pytest.approx(2, abs=0.1)
    clock.sleep(2 * ACCOUNT_HERE.leak_seconds)
    assert [charge(store, "k", ACCOUNT_HERE).wait for _ in range(2)] == [0, pytest.approx(1, abs=0.1)]
    clock.sleep(ACCOUNT_HERE.free * ACCOUNT_HERE.leak_seconds)
    assert [charge(store, "k", ACCOUNT_HERE).wait for _ in range(ACCOUNT_HERE.free)] == [0] * ACCOUNT_HERE.free


def test_an_attempt_that_is_given_back_lifts_no_block_that_another_one_has_set(store):
    first, second, third = (charge(store) for _ in range(3))
    assert (first.until, second.until, third.until > 0) == (0, 0, True)
    store.refund({"k": first})
    store.refund({"k": second})
    assert charge(store).wait > 0
    store.refund({"k": third})
    assert [charge(store).wait for _ in range(3)] == [0, 0, 0]


def test_giving_back_more_than_was_charged_earns_nothing(store):
    taken = charge(store)
    for _ in range(5):
        store.refund({"k": taken})
    assert [charge(store).wait > 0 for _ in range(4)] == [False, False, False, True]


def test_who_waits_for_one_counter_is_charged_on_no_other(store):
    for _ in range(3):
        charge(store, "blocked")
    for _ in range(10):
        both = store.charge({"free": NEVER_LEAKS, "blocked": NEVER_LEAKS})
        assert (both["free"].wait, both["blocked"].wait > 0) == (0, True)
    assert charge(store, "free").level == 1


def test_resetting_one_counter_leaves_the_others(store):
    for name in ("one", "two"):
        for _ in range(3):
            charge(store, name)
    store.reset(["one"])
    assert charge(store, "one") == (0, 1, 0)
    assert charge(store, "two").wait > 0
    store.reset([])


def test_of_many_at_once_only_the_free_ones_get_through(store):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: charge(store), range(60)))
    assert sum(one.wait == 0 for one in found) == NEVER_LEAKS.free


# ── what each has of its own ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_process_remembers_only_so_many_and_first_forgets_whom_it_has_not_seen_for_long(monkeypatch):
    monkeypatch.setattr(failed_attempts, "_MAX_COUNTERS", 20)
    local = failed_attempts._LocalStore()
    for _ in range(3):
        charge(local, "old")
    for number in range(30):
        charge(local, "seen again", Policy("account", 1000, 10**6))
        charge(local, f"other {number}")
    assert len(local._counters) == 20
    assert charge(local, "old").level == 1
    assert charge(local, "seen again", Policy("account", 1000, 10**6)).level > 30


def test_redis_forgets_a_counter_when_it_no_longer_matters_and_no_sooner(links, client):
    shared = failed_attempts._RedisStore(lambda: links.connection(NAMESPACE))
    for policy, times in ((ACCOUNT_HERE, 1), (ACCOUNT_HERE, 5), (ADDRESS, 20), (REGISTER, 100)):
        name = f"{policy.name}{times}"
        for _ in range(times):
            charge(shared, name, policy)
        (key,) = client.keys(f"petstore:{SPACE}:*:attempts:{name}")
        assert 0 <= client.ttl(key) - times * policy.leak_seconds <= LONGEST_DELAY
        shared.refund({name: failed_attempts.Charge(0, 0, 0)})
        assert client.ttl(key) > 0


def test_a_clock_of_redis_that_is_set_back_makes_nobody_wait_longer(links, client):
    shared = failed_attempts._RedisStore(lambda: links.connection(NAMESPACE))
    for name, times in (("once", 1), ("blocked", ACCOUNT_HERE.free)):
        for _ in range(times):
            charge(shared, name, ACCOUNT_HERE)
        (key,) = client.keys(f"petstore:{SPACE}:*:attempts:{name}")
        for field in ("at", "until"):
            kept = float(client.hget(key, field))
            client.hset(key, field, f"{kept + 7200 if kept else 0:.6f}")
    assert charge(shared, "once", ACCOUNT_HERE).level == 2
    assert charge(shared, "blocked", ACCOUNT_HERE).wait == LONGEST_DELAY


def test_a_refund_of_what_redis_has_forgotten_makes_no_counter(links, client):
    shared = failed_attempts._RedisStore(lambda: links.connection(NAMESPACE))
    shared.refund({"never seen": failed_attempts.Charge(0, 1, 0)})
    assert client.keys(f"petstore:{SPACE}:*") == []


# ── together ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["with redis", "without"])
def guard(request, links, clock):
    """A throttle of one service."""
    return FailedAttempts((lambda: links.connection(NAMESPACE)) if request.param == "with redis" else unreachable)


WHO = {ACCOUNT_HERE: "ana@example.com", ADDRESS: "192.0.2.7"}


def test_the_fields_of_every_answer(guard):
    policy = '"account-here";q=5;w=1500, "address";q=20;w=1200'
    for left in (4, 3, 2, 1, 0):
        tried = guard.attempt(WHO)
        assert tried.blocked_by == set()
        assert tried.fields()["RateLimit-Policy"] == policy
        # The last one that is looked at says itself how long the next will have to wait.
        assert tried.fields()["RateLimit"] == f'"account-here";r={left};t={300 if left else 1}, "address";r={left + 15};t=60'
    tried = guard.attempt(WHO)
    assert tried.blocked_by == {ACCOUNT_HERE}
    refusal = tried.refusal()
    assert (refusal.status, refusal.headers["Retry-After"]) == (429, "1")
    assert refusal.headers["RateLimit-Policy"] == policy
    assert refusal.headers["RateLimit"] == '"account-here";r=0;t=1, "address";r=15;t=60'
    fresh = guard.attempt({ACCOUNT_HERE: "bob@example.com", ADDRESS: "192.0.2.8"})
    fresh.succeed()
    assert fresh.fields() == {"RateLimit-Policy": '"address";q=20;w=1200', "RateLimit": '"address";r=20;t=0'}


def test_half_a_failure_is_one_attempt_less(guard, clock):
    guard.attempt(WHO)
    clock.sleep(ACCOUNT_HERE.leak_seconds / 2)
    assert guard.attempt(WHO).fields()["RateLimit"] == '"account-here";r=3;t=300, "address";r=19;t=60'


def test_a_success_begins_the_account_anew_and_not_the_address(guard):
    for _ in range(4):
        guard.attempt(WHO)
    tried = guard.attempt(WHO)
    tried.succeed()
    # The success itself is on no account; the four before it stay on the address.
    assert guard.attempt(WHO).fields()["RateLimit"] == '"account-here";r=4;t=300, "address";r=15;t=60'


def test_a_cancelled_attempt_leaves_no_trace(guard):
    for _ in range(30):
        tried = guard.attempt(WHO)
        assert not tried.blocked_by
        tried.cancel()
        assert tried.fields()["RateLimit"] == '"account-here";r=5;t=0, "address";r=20;t=0'


def test_other_accounts_and_other_addresses_are_counted_apart(guard):
    for _ in range(5):
        guard.attempt(WHO)
    assert guard.attempt(WHO).blocked_by == {ACCOUNT_HERE}
    assert guard.attempt({ACCOUNT_HERE: "bob@example.com", ADDRESS: "192.0.2.7"}).blocked_by == set()
    assert guard.attempt({ACCOUNT_HERE: "ana@example.com", ADDRESS: "192.0.2.8"}).blocked_by == {ACCOUNT_HERE}
    # An address is no account, though both may be called the same.
    assert guard.attempt({ADDRESS: "ana@example.com"}).blocked_by == set()


def test_two_services_count_together_in_redis(links):
    one, two = (FailedAttempts(lambda: links.connection(NAMESPACE)) for _ in range(2))
    assert [bool((one, two)[number % 2].attempt(WHO).blocked_by) for number in range(6)] == [False] * 5 + [True]


def test_who_waits_at_redis_is_not_charged_in_the_process(links):
    one, two = (FailedAttempts(lambda: links.connection(NAMESPACE)) for _ in range(2))
    for _ in range(5):
        one.attempt(WHO)
    for _ in range(10):
        assert two.attempt(WHO).blocked_by == {ACCOUNT_HERE}
    with links.connection(NAMESPACE) as link:
        link.clear()
    assert two.attempt(WHO).fields()["RateLimit"] == '"account-here";r=4;t=300, "address";r=19;t=60'


def test_when_redis_goes_and_when_it_has_forgotten_the_process_still_knows(links, client):
    state = {"up": True}

    @contextmanager
    def reach():
        if not state["up"]:
            raise CacheDown
        with links.connection(NAMESPACE) as link:
            yield link

    guard = FailedAttempts(reach)
    for _ in range(3):
        guard.attempt(WHO)
    state["up"] = False
    for _ in range(2):
        assert not guard.attempt(WHO).blocked_by
    assert guard.attempt(WHO).blocked_by == {ACCOUNT_HERE}
    state["up"] = True
    assert guard.attempt(WHO).blocked_by == {ACCOUNT_HERE}
    for key in client.keys(f"petstore:{SPACE}:*"):
        client.delete(key)
    assert guard.attempt(WHO).blocked_by == {ACCOUNT_HERE}


def test_redis_is_told_neither_emails_nor_addresses(links, client):
    guard = FailedAttempts(lambda: links.connection(NAMESPACE))
    guard.attempt({**WHO, REGISTER: "2001:db8::/64"})
    keys = client.keys(f"petstore:{SPACE}:*")
    assert len(keys) == 3
    for key in keys:
        assert re.search(r":attempts:(account-here|address|register):[0-9a-f]{32}$", key)
        assert set(client.hgetall(key)) == {"level", "at", "until"}
