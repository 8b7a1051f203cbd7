"""When the keys of an account are counted, and how much an account can have at most."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from petstore import errors
from petstore.limits import live_keys
from petstore.limits.live_keys import LiveKeys


class Keys:
    """The keys of all accounts, as the database has them. counted: how often each account's were counted."""

    def __init__(self, *workers):
        self.workers, self.live, self.counted = workers, Counter(), Counter()

    def claim(self, account, worker=0):
        """Whether it may; a refused key is rolled back."""
        limits = self.workers[worker]
        if limits.known_refusal(account):
            return False

        def get_wait(*, user_id, most):
            assert user_id == account
            self.counted[account] += 1
            return 3600 if self.live[account] > most else None

        self.live[account] += 1
        try:
            limits.claimed(account, get_wait)
        except errors.TooManyKeys:
            self.live[account] -= 1
            return False
        return True


def test_the_keys_of_an_ordinary_customer_are_never_counted_and_of_others_once_per_cent_of_the_limit():
    keys = Keys(LiveKeys(10_000))
    for account in range(50):
        assert all(keys.claim(account) for _ in range(99))
    assert not keys.counted
    assert all(keys.claim(7) for _ in range(901))
    assert keys.counted == {7: 10}


def test_nothing_is_counted_without_a_limit():
    keys = Keys(LiveKeys(0))
    assert all(keys.claim(1) for _ in range(1000))
    assert not keys.counted


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("limit", [1, 5, 200, 1000])
def test_an_account_gets_its_limit_and_at_most_one_per_cent_more_by_each_worker(limit, workers):
    keys = Keys(*(LiveKeys(limit) for _ in range(workers)))
    for _ in range(3 * limit):
        for worker in range(workers):
            keys.claim(1, worker)
    assert limit <= keys.live[1] <= limit + workers * (limit // 100)
    assert keys.claim(2)


def test_a_refusal_is_known_for_a_while_and_then_the_keys_are_counted_again(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(live_keys, "time", clock := Clock())
    keys = Keys(limits := LiveKeys(10))
    assert [keys.claim(1) for _ in range(12)] == [True] * 10 + [False] * 2
    assert keys.counted[1] == 11
    clock.now += 9
    assert limits.known_refusal(1).headers["Retry-After"] == "3591"
    assert limits.known_refusal(2) is None
    keys.live[1] -= 1
    assert not keys.claim(1)
    clock.now += 1.1
    assert [keys.claim(1), keys.claim(1)] == [True, False]


def test_more_accounts_than_can_be_remembered_gain_nothing_and_cost_little(monkeypatch):
    monkeypatch.setattr(live_keys, "_MAX_ACCOUNTS", 20)
    limit = 500
    keys = Keys(limits := LiveKeys(limit))
    for _ in range(100 * limit):
        keys.claim(random.randrange(100))
        assert len(limits._uncounted) <= 20
    for _ in range(2 * limit):  # each as often as the others, so that each is forgotten before it comes again
        for account in range(100):
            keys.claim(account)
    assert {keys.live[account] for account in range(100)} <= set(range(limit, limit + limit // 100 + 1))


def test_after_a_day_old_claims_count_no_more(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(live_keys, "time", clock := Clock())
    keys = Keys(LiveKeys(10_000))
    assert all(keys.claim(1) for _ in range(99))
    clock.now += live_keys.KEY_SECONDS
    assert keys.claim(1)
    assert not keys.counted
