"""Worker threads for requests that hash passwords, with a queue that is fair among clients."""

from __future__ import annotations

from collections import deque

from waitress.task import ThreadedTaskDispatcher

from petstore.limits import hashing
from petstore.server.waitress_channel import Channel


class _FairQueue:
    """A round-robin queue: a client that sends a hundred logins at once delays its own only."""

    def __init__(self) -> None:
        self._clients: dict[str, deque[Channel]] = {}

    def append(self, channel: Channel) -> None:
        self._clients.setdefault(channel.client, deque()).append(channel)

    def popleft(self) -> Channel:
        client, waiting = next(iter(self._clients.items()))
        del self._clients[client]
        channel = waiting.popleft()
        if waiting:
            self._clients[client] = waiting  # behind the other clients
        return channel

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))


def hashing_lane() -> ThreadedTaskDispatcher:
    """Threads of their own, so that requests that wait for a hashing slot do not block all others."""
    lane = ThreadedTaskDispatcher()
    lane.queue = _FairQueue()
    lane.set_thread_count(hashing.MAX_CONCURRENT + 1)
    return lane
