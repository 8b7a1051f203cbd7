"""The rate limit: requests a second of one address, network or user, in this process. Its size stops floods, not people."""

from __future__ import annotations

import math
import threading
import time

from petstore import errors
from petstore.limits.policies import used_up

BURST_SECONDS = 10  # a client may send this many seconds' worth of requests at once
_SHARES = (1, 2, 5)  # how much a client may send from an IPv4 address or a /64, how much comes from a /56, and from a /48
_MAX_CLIENTS = 10_000  # above this, clients whose bucket is empty are dropped, once a second


class RequestRate:
    """A leaky bucket per client (GCRA): all that is kept of a client is the time at which its bucket is empty."""

    def __init__(self, per_second: int) -> None:
        """per_second: 0 for no limit."""
        self._per_second = per_second
        self._empty_at: dict[str, float] = {}
        self._clean_at = 0.0
        self._lock = threading.Lock()

    def count(self, *clients: str) -> None:
        """Count a request of this client; raise TooManyRequests when it is beyond the limit.

        clients: a user; or what client_networks gives, of which the wider ones may send more.
        """
        if self._per_second == 0:
            return
        now = time.monotonic()
        empty_at, over, limit = {}, 0.0, 0
        with self._lock:
            for client, share in zip(clients, _SHARES, strict=False):
                per_second = self._per_second * share
                empty_at[client] = at = max(self._empty_at.get(client, now), now) + 1 / per_second
                if at - now - BURST_SECONDS > over:
                    over, limit = at - now - BURST_SECONDS, per_second
            if not limit:
                self._empty_at.update(empty_at)
            if len(self._empty_at) > _MAX_CLIENTS and now > self._clean_at:
                self._clean_at = now + 1
                self._empty_at = {client: at for client, at in self._empty_at.items() if at > now}
        if limit:
            raise _refusal(limit, math.ceil(over))


def _refusal(per_second: int, seconds: int) -> errors.TooManyRequests:
    fields = used_up("requests", f"q={per_second * BURST_SECONDS};w={BURST_SECONDS}", seconds)
    detail = f"No more than {per_second} requests a second are taken; try again in {seconds} s."
    return errors.TooManyRequests(detail, seconds, fields)
