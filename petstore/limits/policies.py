"""How many attempts may fail before the next one must wait: per account, per address and network, and for registrations.

Also how a limit that is used up is told: see `used_up`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_DELAY = 300  # seconds


@dataclass(frozen=True)
class Policy:
    """How failures are counted. name: shown in the RateLimit header; free: failures without a delay.

    leak_seconds: the time after which one failure is forgotten; reset: a success sets the counter to 0. That is not so for an
    address: else an attacker could reset it with logins to an account of their own.
    """

    name: str
    free: int
    leak_seconds: int
    reset: bool = False

    def delay(self, level: float) -> float:
        """Seconds until the next attempt, after a charge has raised the counter to this level."""
        over = failures(level) - self.free
        return min(2.0**over, LONGEST_DELAY) if over >= 0 else 0


def failures(level: float) -> int:
    """The number of failures at this level. A failure that has leaked in part still counts as one."""
    return math.ceil(level - 1e-6)


def used_up(name: str, parameters: str, seconds: int) -> dict[str, str]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers) of a limit of which nothing is left for `seconds`.

    parameters: of the policy, such as "q=100;w=10".
    """
    return {"RateLimit-Policy": f'"{name}";{parameters}', "RateLimit": f'"{name}";r=0;t={seconds}'}


def counters_of(policies: Sequence[Policy], networks: Sequence[str], account: str = "") -> dict[Policy, str]:
    """What each policy counts by: a network of the client, together with the account if one is given. See client_networks."""
    return {policy: f"{account} {network}".strip() for policy, network in zip(policies, networks, strict=False)}


# Where there are three policies, they are for what client_networks gives: an IPv4 address or an IPv6 /64, a /56, a /48. A client
# may have any of these for itself. So each wider one lets through what a narrower one can fill, and three attempts more: who
# shares a /48 with somebody who guesses still gets in, also after two mistakes, and so does everybody if a whole /48 guesses. And
# a /48 gets at most five times as many guesses at once as an IPv4 address (tests/limits/test_policies.py).
ACCOUNT = Policy("account", 44, 60, reset=True)  # from all addresses; who has a /48 and an IPv4 address does not fill it
ACCOUNT_HERE = Policy("account-here", 5, 300, reset=True)  # an account from one address
ACCOUNT_NEAR = ACCOUNT_HERE, Policy("account-56", 14, 120, reset=True), Policy("account-48", 24, 120, reset=True)
ADDRESS = Policy("address", 20, 60)
ADDRESSES = ADDRESS, Policy("address-56", 40, 30), Policy("address-48", 100, 12)
# While an account is blocked: first attempts from addresses that have not failed with it. The owner may be at one of them.
NEWCOMERS = Policy("newcomers", 20, 60)
# The 409 of POST /register tells that an email has an account, so asking for many emails is slowed down.
REGISTER = Policy("register", 100, 60)
REGISTERS = REGISTER, Policy("register-56", 200, 30), Policy("register-48", 500, 12)
