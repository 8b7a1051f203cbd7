"""The rate limit: requests a second of one address or user, in this process. Its size stops floods, not people."""

from __future__ import annotations

import math
import threading
import time

from petstore import errors

BURST_SECONDS = 10  # a client may send this many seconds' worth of requests at once
_MAX_CLIENTS = 10_000  # above this, clients whose bucket is empty are dropped, once a second


class RequestRate:
    """A leaky bucket per client (GCRA): all that is kept of a client is the time at which its bucket is empty."""

    def __init__(self, per_second: int) -> None:
        """per_second: 0 for no limit."""
        self._per_second = per_second
        self._empty_at: dict[str, float] = {}
        self._clean_at = 0.0
        self._lock = threading.Lock()

    def count(self, client: str) -> None:
        """Count a request of this client; raise TooManyRequests when it is beyond the limit."""
        if self._per_second == 0:
            return
        now = time.monotonic()
        with self._lock:
            empty_at = max(self._empty_at.get(client, now), now) + 1 / self._per_second
            over = empty_at - now - BURST_SECONDS
            if over <= 0:
                self._empty_at[client] = empty_at
            if len(self._empty_at) > _MAX_CLIENTS and now > self._clean_at:
                self._clean_at = now + 1
                self._empty_at = {client: at for client, at in self._empty_at.items() if at > now}
        if over > 0:
            raise self._refusal(math.ceil(over))

    def _refusal(self, seconds: int) -> errors.TooManyRequests:
        policy = f'"requests";q={self._per_second * BURST_SECONDS};w={BURST_SECONDS}'
        fields = {"RateLimit-Policy": policy, "RateLimit": f'"requests";r=0;t={seconds}'}
        detail = f"No more than {self._per_second} requests a second are taken; try again in {seconds} s."
        return errors.TooManyRequests(detail, seconds, fields)
