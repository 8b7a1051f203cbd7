"""The numbers of the limits on failed attempts: each wider counter lets through what a narrower one can fill, and a bit more."""

from __future__ import annotations

from itertools import pairwise

import pytest

from petstore.limits import failed_attempts
from petstore.limits.policies import ACCOUNT, ACCOUNT_NEAR, ADDRESSES, NEWCOMERS, REGISTERS, Policy, failures

DAY = 86_400
MISTAKES = 3  # two wrong passwords, and then the right one, which is charged before it is looked at


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def guess(monkeypatch):
    """guess(policies, seconds): guess for so long, each time as early as these policies let one; the times of the guesses."""
    clock = Clock()
    monkeypatch.setattr(failed_attempts, "time", clock)

    def run(policies, seconds):
        store, times, start = failed_attempts._LocalStore(), [], clock.now
        while clock.now <= start + seconds:
            charges = store.charge({policy.name: policy for policy in policies})
            wait = max(charge.wait for charge in charges.values())
            if not wait:
                times.append(clock.now - start)
            clock.now += wait + 0.0001
        return times

    return run


def highest(times, policy: Policy) -> int:
    """The failures that a counter of this policy shows at most, if nothing blocks it."""
    level, last, most = 0.0, 0.0, 0
    for time in times:
        level, last = max(0.0, level - (time - last) / policy.leak_seconds) + 1, time
        most = max(most, failures(level))
    return most


PAIRS = [
    *zip(ACCOUNT_NEAR, (*ACCOUNT_NEAR[1:], ACCOUNT), strict=True),
    *pairwise(ADDRESSES),
    *pairwise(REGISTERS),
    (ACCOUNT_NEAR[0], ACCOUNT),  # IPv4 has no wider counters
    (ACCOUNT_NEAR[0], NEWCOMERS),
]


@pytest.mark.parametrize(("narrow", "wide"), PAIRS, ids=lambda policy: policy.name)
def test_one_who_fills_a_narrow_counter_leaves_room_in_the_wider_one(guess, narrow, wide):
    assert highest(guess([narrow], DAY), wide) + MISTAKES <= wide.free


def test_not_even_one_who_has_an_ipv4_address_besides_fills_the_counter_of_the_account(guess):
    for network in ACCOUNT_NEAR:
        times = sorted([*guess([network], DAY), *guess([ACCOUNT_NEAR[0]], DAY)])
        assert highest(times, ACCOUNT) + MISTAKES <= ACCOUNT.free


# How many times as many guesses as from an IPv4 address, at once and in a day.
@pytest.mark.parametrize(
    ("policies", "at_once", "a_day"),
    [(ACCOUNT_NEAR[1:2], 2.8, 2.5), (ACCOUNT_NEAR[2:], 4.8, 2.5), (ADDRESSES[1:2], 2, 2), (ADDRESSES[2:], 5, 5)],
    ids=lambda given: given[0].name if isinstance(given, tuple) else str(given),
)
def test_a_network_gets_a_few_times_as_many_guesses_as_an_ipv4_address(guess, policies, at_once, a_day):
    address = ACCOUNT_NEAR[0] if policies[0] in ACCOUNT_NEAR else ADDRESSES[0]
    for seconds, times in ((0, at_once), (DAY, a_day)):
        assert len(guess(policies, seconds)) <= times * len(guess([address], seconds))
