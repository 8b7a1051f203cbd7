"""Failed attempts at a password: leaky buckets per account, address and network (policies.py), with exponential back-off.

A counter has a level. Each attempt raises it by one, and it leaks one every `leak_seconds`. From `free` failures on, the next
attempt must wait: 1 s, 2 s, 4 s, up to five minutes. An attempt is charged before its password is checked, so that concurrent
guesses do not slip through; a charge is refunded when no password was checked. An attempt that must wait is not charged, so
nobody is kept out for good. Counters are in Redis, and in this process too: it goes on counting when Redis is down.
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
from petstore.limits.policies import LONGEST_DELAY, Policy, failures

_MAX_COUNTERS = 50_000  # in this process


Counters = Mapping[Policy, str]  # what each policy counts by: an email, an address
Keys = Mapping[str, Policy]  # by the name of the counter
Charges = Mapping[str, Charge]  # the same


class Store(Protocol):
    """A place where counters are kept."""

    def charge(self, keys: Keys) -> Charges:
        """Charge an attempt to all counters, or to none if one of them is blocked. Empty when the store is down."""

    def refund(self, charges: Charges) -> None:
        """Take charges back."""

    def reset(self, keys: Sequence[str]) -> None:
        """Set these counters to 0."""


class FailedAttempts:
    """The counters in Redis, which all processes share, and those of this process, which stay when Redis loses its own.

    reach: Cache.connection.
    """

    def __init__(self, reach: Callable[[], AbstractContextManager[RedisConnection]]) -> None:
        self._local = _LocalStore()
        self._stores: tuple[Store, ...] = _RedisStore(reach), self._local

    def attempt(self, counters: Counters) -> Attempt:
        """Charge an attempt to each counter, or to none if one of them is blocked: see Attempt.blocked_by."""
        keys = {_key(policy, value): policy for policy, value in counters.items()}
        return Attempt(keys, {store: store.charge(keys) for store in self._stores})

    def clear(self) -> None:
        """Forget the counters of this process."""
        self._local.clear()


class Attempt:
    """An attempt that was charged, or that must wait. blocked_by: the policies that make it wait; then nothing is charged."""

    def __init__(self, keys: Keys, charges: Mapping[Store, Charges]) -> None:
        blocked = any(charge.wait for found in charges.values() for charge in found.values())
        self._keys, self._charged = keys, {store: found for store, found in charges.items() if not _blocked(found)}
        if blocked:  # perhaps in one store only: what the other one has charged is refunded below
            charges = {store: _uncharged(found) if store in self._charged else found for store, found in charges.items()}
        self._state: Charges = {  # of each counter, that of the stricter store
            key: max((found[key] for found in charges.values() if key in found), key=lambda charge: charge[:2]) for key in keys
        }
        self.blocked_by: frozenset[Policy] = frozenset(keys[key] for key in _blocked(self._state))
        if blocked:
            self._refund()

    def is_first(self, policy: Policy) -> bool:
        """Whether the counter of this policy was at 0 before this attempt, which is blocked."""
        return all(self._state[key].level == 0 for key, one in self._keys.items() if one is policy)

    def refusal(self) -> errors.TooManyAttempts:
        """The 429 for an attempt that must wait."""
        seconds = math.ceil(max(charge.wait for charge in self._state.values()))
        detail = f"Too many attempts with this account or from this address have failed; try again in {seconds} s."
        return errors.TooManyAttempts(detail, seconds, self.fields())

    def succeed(self) -> None:
        """The password was right: reset the counters whose policy says so, refund the others."""
        for store in self._charged:
            store.reset([key for key, policy in self._keys.items() if policy.reset])
        self._keys = {key: policy for key, policy in self._keys.items() if not policy.reset}
        self.cancel()

    def cancel(self) -> None:
        """No password was checked after all: refund the charges."""
        self._refund()
        self._state = _uncharged(self._state)

    def _refund(self) -> None:
        for store, charges in self._charged.items():
            store.refund({key: charges[key] for key in self._keys if key in charges})

    def fields(self) -> dict[str, str]:
        """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers): attempts left, seconds until the next."""
        policies, limits = [], []
        for key, policy in self._keys.items():
            wait, level, _ = self._state[key]
            left = 0 if wait else max(0, policy.free - failures(level))
            seconds = math.ceil(wait or policy.delay(level) or (policy.leak_seconds if level > 0 else 0))
            policies.append(f'"{policy.name}";q={policy.free};w={policy.free * policy.leak_seconds}')
            limits.append(f'"{policy.name}";r={left};t={seconds}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(limits)} if policies else {}


def _uncharged(charges: Charges) -> Charges:
    """The state of the counters before they were charged."""
    return {key: charge._replace(level=charge.level - 1) for key, charge in charges.items()}


def _blocked(charges: Charges) -> list[str]:
    return [key for key, charge in charges.items() if charge.wait]


def _key(policy: Policy, value: str) -> str:
    """The name of a counter. A hash, so that Redis holds neither emails nor addresses."""
    return f"{policy.name}:{hashlib.sha256(value.encode()).hexdigest()[:32]}"


class _RedisStore:
    """Counters in Redis."""

    def __init__(self, reach: Callable[[], AbstractContextManager[RedisConnection]]) -> None:
        self._reach = reach

    def charge(self, keys: Keys) -> Charges:
        with suppress(CacheDown), self._reach() as connection:
            numbers = [(policy.free, policy.leak_seconds) for policy in keys.values()]
            return dict(zip(keys, connection.charge(list(keys), numbers, LONGEST_DELAY), strict=True))
        return {}

    def refund(self, charges: Charges) -> None:
        with suppress(CacheDown), self._reach() as connection:
            connection.refund(charges)

    def reset(self, keys: Sequence[str]) -> None:
        with suppress(CacheDown), self._reach() as connection:
            connection.reset_counters(keys)


@dataclass
class _Counter:
    """level: at the time `at`; blocked_until: 0 when it is not blocked. Times are time.monotonic()."""

    level: float
    at: float
    blocked_until: float


class _LocalStore:
    """Counters in this process, by the same rules as petstore/cache/lua/charge.lua and refund.lua."""

    def __init__(self) -> None:
        self._counters: OrderedDict[str, _Counter] = OrderedDict()
        self._lock = threading.Lock()

    def charge(self, keys: Keys) -> Charges:
        now = time.monotonic()
        with self._lock:
            found = {key: self._leaked(key, policy, now) for key, policy in keys.items()}
            if any(counter.blocked_until > now for counter in found.values()):
                return {key: Charge(max(0.0, counter.blocked_until - now), counter.level, 0) for key, counter in found.items()}
            for key, policy in keys.items():
                counter = found[key]
                counter.level += 1
                delay = policy.delay(counter.level)
                counter.blocked_until = now + delay if delay else 0
                self._counters[key] = counter
                self._counters.move_to_end(key)
            while len(self._counters) > _MAX_COUNTERS:
                self._counters.popitem(last=False)
            return {key: Charge(0, counter.level, counter.blocked_until) for key, counter in found.items()}

    def refund(self, charges: Charges) -> None:
        with self._lock:
            for key, charge in charges.items():
                counter = self._counters.get(key)
                if counter is not None:
                    counter.level = max(0.0, counter.level - 1)
                    if counter.blocked_until == charge.until:  # this very charge has blocked it
                        counter.blocked_until = 0

    def reset(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._counters.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._counters.clear()

    def _leaked(self, key: str, policy: Policy, now: float) -> _Counter:
        """A copy of the counter with its level of now."""
        old = self._counters.get(key, _Counter(0, now, 0))
        return _Counter(max(0.0, old.level - (now - old.at) / policy.leak_seconds), now, old.blocked_until)
