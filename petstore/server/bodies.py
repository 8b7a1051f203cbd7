"""The memory of request bodies: all that a worker holds has a bound, and the client that holds most makes room."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from petstore.limits.clients import subscriber
from petstore.web.validation import MAX_BODY

if TYPE_CHECKING:
    from petstore.server.waitress_channel import Channel

MAX_BODIES = 64 * MAX_BODY  # bytes of large bodies in a worker, whether they are complete or not
LARGE = 8192  # bytes: smaller bodies are bounded by the number of connections


class Bodies:
    """What the large bodies of a worker hold. limit: bytes in all."""

    def __init__(self, limit: int = MAX_BODIES) -> None:
        self._limit, self._total = limit, 0
        self._held: dict[Channel, int] = {}  # the oldest first
        self._lock = threading.Lock()  # the I/O thread adds, worker threads take away

    def update(self, channel: Channel) -> bool:
        """Count what a connection holds now. False if all together is too much."""
        with self._lock:
            size = channel.body_size  # read here, so that of two threads the later one counts what is so in the end
            self._total += size - self._held.get(channel, 0)
            channel.holds_body = size > 0
            if size:
                self._held[channel] = size
            else:
                self._held.pop(channel, None)
            return self._total <= self._limit

    def make_room(self, channel: Channel) -> None:
        """Count what a connection holds, and refuse unfinished bodies while all together is too much (I/O thread)."""
        while not self.update(channel) and (largest := self._largest()):
            largest.refuse_body()

    def _largest(self) -> Channel | None:
        """Of the client that holds most, the connection whose unfinished body is the oldest; None if all bodies are complete."""
        with self._lock:
            held = dict(self._held)
        clients = {channel: subscriber(channel.networks) for channel in held if channel.is_receiving_body}
        sizes: Counter[str] = Counter()
        for channel, client in clients.items():
            sizes[client] += held[channel]
        return max(clients, key=lambda channel: sizes[clients[channel]], default=None)
