"""The limit of live Idempotency-Keys of an account, which PostgreSQL counts. An ordinary customer's are never counted.

A worker lets an account claim 1 % of the limit, then lets its keys be counted, and so on. So an account has at most the limit,
2 % of it for each worker that there was in 24 hours (on all machines; a restarted one is another one), and what it claims at
the same time.
"""

from __future__ import annotations

import math
import threading
import time
from typing import NamedTuple, Protocol

from petstore import errors
from petstore.limits.policies import used_up

KEY_SECONDS = 86_400  # the life of a key: 24 hours, as sql/queries/idempotency say
_FRACTION = 100  # of the limit may be claimed without a count
_RECOUNT_SECONDS = 10  # keys may have been deleted by a DBA since the last count
_MAX_ACCOUNTS = 10_000  # above this, the half with the fewest claims is forgotten


class GetWait(Protocol):
    """petstore.repository.idempotency.get_wait, with a connection."""

    def __call__(self, *, user_id: int, most: int) -> int | None: ...


class _Full(NamedTuple):
    """An account that has more keys than the limit. Times are time.monotonic(); ends_at: when it may claim again."""

    known_until: float
    ends_at: float


class LiveKeys:
    """How many keys each account has claimed in this process since its keys were counted."""

    def __init__(self, limit: int) -> None:
        """limit: keys of one account; 0 for no limit."""
        self._limit, self._uncounted_limit = limit, max(1, limit // _FRACTION)
        self._uncounted: dict[int, int] = {}
        self._forgotten = 0  # the most claims of an account that was forgotten: an unknown one may have made so many
        self._full: dict[int, _Full] = {}
        self._renew_at = time.monotonic() + KEY_SECONDS
        self._lock = threading.Lock()

    def known_refusal(self, account: int) -> errors.TooManyKeys | None:
        """The refusal of a new key, if the last count found too many; None if that is not known."""
        full = self._full.get(account)
        now = time.monotonic() if full else 0.0
        return self._refusal(math.ceil(full.ends_at - now)) if full and now < full.known_until else None

    def claimed(self, account: int, get_wait: GetWait) -> None:
        """Note that a transaction of this account has claimed a key. TooManyKeys, so that it is rolled back, if it has too many.

        get_wait: is called if it is time to count.
        """
        if not self._limit or not self._note(account):
            return
        seconds = get_wait(user_id=account, most=self._limit)
        now = time.monotonic()
        with self._lock:
            if seconds is None:
                self._uncounted[account] = 0
            else:
                self._full = {one: full for one, full in self._full.items() if now < full.known_until}
                self._full[account] = _Full(now + min(seconds, _RECOUNT_SECONDS), now + seconds)
        if seconds is not None:
            raise self._refusal(seconds)

    def _note(self, account: int) -> bool:
        """Note a claim; whether to count."""
        with self._lock:
            if time.monotonic() >= self._renew_at:  # what was claimed before has ended
                self._uncounted, self._forgotten, self._renew_at = {}, 0, time.monotonic() + KEY_SECONDS
            claims = self._uncounted[account] = self._uncounted.get(account, self._forgotten) + 1
            if len(self._uncounted) > _MAX_ACCOUNTS:
                self._forgotten = max(self._forgotten, sorted(self._uncounted.values())[_MAX_ACCOUNTS // 2])
                self._uncounted = {one: number for one, number in self._uncounted.items() if number > self._forgotten}
        return claims >= self._uncounted_limit

    def _refusal(self, seconds: int) -> errors.TooManyKeys:
        fields = used_up("idempotency-keys", f"q={self._limit};w={KEY_SECONDS}", seconds)
        detail = f"An account can have {self._limit:,} Idempotency-Keys, each for 24 hours; try again in {seconds:,} s."
        return errors.TooManyKeys(detail, seconds, fields)
