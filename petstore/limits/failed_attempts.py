"""Failed attempts: counted per account and per address, each more of them answered later. In Redis, and without it here too.

A counter has a level, which grows by one with each attempt and sinks by one in so many seconds. From a free number on, the next
attempt must wait: 1 s, 2 s, 4 s, up to five minutes. An attempt is charged before its password is looked at, so guesses at the
same time do not slip through, and given back when it was none. Who is to wait is not charged, so nobody is kept out for good.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Protocol

from petstore import errors
from petstore.cache.redis_connection import CacheDown, Charge, RedisConnection

LONGEST_DELAY = 300  # seconds
_MANY = 50_000  # counters kept in this process


@dataclass(frozen=True)
class Policy:
    """What is counted. free: failures without a delay; sink_seconds: in which one of them is forgotten.

    ends: with a success. That of an address does not, or one's own account would pay for guesses at those of others.
    """

    name: str
    free: int
    sink_seconds: int
    ends: bool = False

    def delay(self, level: float) -> float:
        """Seconds until the next attempt, once a charge has raised the counter to this level."""
        over = failures(level) - self.free
        return min(2.0**over, LONGEST_DELAY) if over >= 0 else 0


ACCOUNT = Policy("account", 10, 60, ends=True)  # from wherever: one stranger, whom the next policy slows, never fills it
ACCOUNT_HERE = Policy("account-here", 5, 300, ends=True)  # from one address
ADDRESS = Policy("address", 20, 60)
# While an account is to wait: the first attempts of addresses that have not failed with it. The owner may be among them.
NEWCOMERS = Policy("newcomers", 20, 60)
# register tells by its 409 who has an account: who asks for many waits, too.
REGISTER = Policy("register", 100, 60)


def failures(level: float) -> int:
    """The failures that a level stands for: one that has begun to sink is still a whole one."""
    return math.ceil(level - 1e-6)


Counters = Mapping[Policy, str]  # whom each policy counts: an email, an address
Keys = Mapping[str, Policy]
Charges = Mapping[str, Charge]


class Store(Protocol):
    """Where counters are. keys: their names, with their policies."""

    def charge(self, keys: Keys) -> Charges:
        """Charge an attempt to all, or to none when one of them is to wait; nothing when it cannot be counted here."""

    def refund(self, charges: Charges) -> None:
        """Take charges back."""

    def forget(self, keys: Sequence[str]) -> None:
        """Begin these counters anew."""


class FailedAttempts:
    """The counters of all processes, in Redis, and of this one: a Redis that goes does not take with it what was counted.

    reach: Cache.reach.
    """

    def __init__(self, reach: Callable[[], AbstractContextManager[RedisConnection]]) -> None:
        self._local = _Local()
        self._stores: tuple[Store, ...] = _Shared(reach), self._local

    def attempt(self, counters: Counters) -> Attempt:
        """Charge an attempt to each counter, or to none: see Attempt.waits."""
        keys = {_key(policy, whom): policy for policy, whom in counters.items()}
        return Attempt(keys, {store: store.charge(keys) for store in self._stores})

    def clear(self) -> None:
        """Forget what this process has counted."""
        self._local.clear()


class Attempt:
    """An attempt that was charged, or that is to wait."""

    def __init__(self, keys: Keys, charges: Mapping[Store, Charges]) -> None:
        waits = any(charge.wait for found in charges.values() for charge in found.values())
        self._keys, self._charged = keys, {store: taken for store, taken in charges.items() if not _waits(taken)}
        if waits:  # in one store: the other one must not have charged it
            charges = {store: _before(found) if store in self._charged else found for store, found in charges.items()}
        self._verdict: Charges = {
            key: max((found[key] for found in charges.values() if key in found), key=lambda charge: charge[:2]) for key in keys
        }
        self.waits: frozenset[Policy] = frozenset(keys[key] for key in _waits(self._verdict))  # for these; then charged to none
        if waits:
            self._take_back()

    def is_first(self, policy: Policy) -> bool:
        """Whether nothing was counted by this policy before."""
        return all(self._verdict[key].level == 0 for key, one in self._keys.items() if one is policy)

    def refusal(self) -> errors.TooManyAttempts:
        """The answer to one that is to wait."""
        seconds = math.ceil(max(charge.wait for charge in self._verdict.values()))
        detail = f"Too many attempts with this account or from this address have failed; try again in {seconds} s."
        return errors.TooManyAttempts(detail, seconds, self.fields())

    def succeeded(self) -> None:
        """It was right: what ends with that begins anew."""
        for store in self._charged:
            store.forget([key for key, policy in self._keys.items() if policy.ends])
        self._keys = {key: policy for key, policy in self._keys.items() if not policy.ends}
        self.was_none()

    def was_none(self) -> None:
        """Nothing was tried after all."""
        self._take_back()
        self._verdict = _before(self._verdict)

    def _take_back(self) -> None:
        for store, charges in self._charged.items():
            store.refund({key: charges[key] for key in self._keys if key in charges})

    def fields(self) -> dict[str, str]:
        """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers): attempts left, seconds until the next."""
        policies, limits = [], []
        for key, policy in self._keys.items():
            wait, level, _ = self._verdict[key]
            left = 0 if wait else max(0, policy.free - failures(level))
            seconds = math.ceil(wait or policy.delay(level) or (policy.sink_seconds if level > 0 else 0))
            policies.append(f'"{policy.name}";q={policy.free};w={policy.free * policy.sink_seconds}')
            limits.append(f'"{policy.name}";r={left};t={seconds}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(limits)} if policies else {}


def _before(charges: Charges) -> Charges:
    """The same before the charge."""
    return {key: charge._replace(level=charge.level - 1) for key, charge in charges.items()}


def _waits(charges: Charges) -> list[str]:
    return [key for key, charge in charges.items() if charge.wait]


def _key(policy: Policy, whom: str) -> str:
    """A name of its own for each; what it is made of cannot be read off it."""
    return f"{policy.name}:{hashlib.sha256(whom.encode()).hexdigest()[:32]}"


class _Shared:
    """Counters in Redis."""

    def __init__(self, reach: Callable[[], AbstractContextManager[RedisConnection]]) -> None:
        self._reach = reach

    def charge(self, keys: Keys) -> Charges:
        with suppress(CacheDown), self._reach() as link:
            numbers = [(policy.free, policy.sink_seconds) for policy in keys.values()]
            return dict(zip(keys, link.charge(list(keys), numbers, LONGEST_DELAY), strict=True))
        return {}

    def refund(self, charges: Charges) -> None:
        with suppress(CacheDown), self._reach() as link:
            link.refund(charges)

    def forget(self, keys: Sequence[str]) -> None:
        with suppress(CacheDown), self._reach() as link:
            link.forget_charges(keys)


@dataclass
class _Counter:
    level: float
    at: float
    until: float


class _Local:
    """Counters in this process: what is left when Redis is gone. The same rules as redis_link._CHARGE and _REFUND."""

    def __init__(self) -> None:
        self._counters: OrderedDict[str, _Counter] = OrderedDict()
        self._lock = threading.Lock()

    def charge(self, keys: Keys) -> Charges:
        now = time.monotonic()
        with self._lock:
            found = {key: self._now(key, policy, now) for key, policy in keys.items()}
            if any(counter.until > now for counter in found.values()):
                return {key: Charge(max(0.0, counter.until - now), counter.level, 0) for key, counter in found.items()}
            for key, policy in keys.items():
                counter = found[key]
                counter.level += 1
                delay = policy.delay(counter.level)
                counter.until = now + delay if delay else 0
                self._counters[key] = counter
                self._counters.move_to_end(key)
            while len(self._counters) > _MANY:
                self._counters.popitem(last=False)
            return {key: Charge(0, counter.level, counter.until) for key, counter in found.items()}

    def refund(self, charges: Charges) -> None:
        with self._lock:
            for key, charge in charges.items():
                counter = self._counters.get(key)
                if counter is not None:
                    counter.level = max(0.0, counter.level - 1)
                    if counter.until == charge.until:
                        counter.until = 0

    def forget(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._counters.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._counters.clear()

    def _now(self, key: str, policy: Policy, now: float) -> _Counter:
        old = self._counters.get(key, _Counter(0, now, 0))
        return _Counter(max(0.0, old.level - (now - old.at) / policy.sink_seconds), now, old.until)
