"""Money and stock stay right while everything under the shop is killed, frozen and cut; and what is not right is found."""

from functools import cache

import pytest

from tests.databases import open_folder
from tests.history.nemesis import FAULTS, SLOW_FAULTS, kill_postgres, lose_answers
from tests.history.run import perform
from tests.history.servers import Shop


def judge(seconds, faults=FAULTS, seed=0, keyless=0.15, **how):
    """The rules that a run broke, with an account of how."""
    with open_folder() as folder, Shop(folder, **how) as shop:
        run = perform(shop, seconds, faults, seed=seed, keyless=keyless)
    print(run.summary())
    return {violation.rule for violation in run.violations}, run.account()


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["machines", "machine"])
def test_a_short_history_with_every_fault_in_it_is_right(scope):
    broken, how = judge(10, scope=scope)
    assert not broken, how


@pytest.mark.deep
@pytest.mark.parametrize("scope", ["machines", "machine"])
def test_a_long_history_with_every_fault_in_it_is_right(scope):
    broken, how = judge(60, SLOW_FAULTS, seed=1, scope=scope)
    assert not broken, how


# What is taken out, how that is run, the faults under which it shows, and rules of which one must be found broken.
SABOTAGE = "tests.history.sabotage"
FORGETFUL = (
    "fsync=off",
    "synchronous_commit=off",
    "wal_writer_delay=10s",
    "wal_writer_flush_after=1GB",
    "bgwriter_lru_maxpages=0",
)
TAKEN_OUT = {
    "the row lock of a purchase": ({"serve": (SABOTAGE, "row_lock")}, (), {"answers", "refusals"}),
    "the uniqueness of a key": ({"serve": (SABOTAGE, "unique_key")}, (lose_answers,), {"purchases"}),
    "the generation of a cached entry": ({"serve": (SABOTAGE, "generation")}, (), {"reads"}),
    "the shared generation of a page in memory": ({"serve": (SABOTAGE, "shared_generation"), "scope": "machine"}, (), {"reads"}),
    "the question about a page in memory": ({"serve": (SABOTAGE, "asked_generation")}, (), {"reads"}),
    "the doubt about a COMMIT": ({"serve": (SABOTAGE, "outcome"), "keyless": 0.5}, (lose_answers,), {"happened"}),
    "synchronous_commit": ({"postgres": FORGETFUL}, (kill_postgres,), {"purchases"}),
}


@cache
def judge_whole(faults, keyless):
    """The verdict on a shop of which nothing is taken out, under the same faults."""
    return judge(4, faults, keyless=keyless)


@pytest.mark.slow
@pytest.mark.parametrize("name", TAKEN_OUT)
def test_the_checker_finds_what_is_taken_out_and_nothing_else(name):
    how, faults, rules = TAKEN_OUT[name]
    broken, told = judge_whole(faults, how.get("keyless", 0.15))
    assert not broken, told
    for seed in range(3):  # on a busy machine little happens in a run
        broken, told = judge(4, faults, seed, **how)
        if rules & broken:
            return
    pytest.fail(f"not found; {told}")
