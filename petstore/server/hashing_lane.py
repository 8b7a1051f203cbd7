"""Worker threads for requests that hash passwords, with a queue that is fair among clients."""

from __future__ import annotations

from collections import deque

from waitress.task import ThreadedTaskDispatcher

from petstore.limits import hashing
from petstore.server.waitress_channel import Channel


class _FairQueue:
    """A round-robin queue: a client that sends a hundred logins at once delays its own only.

    The turns go round the widest networks of the clients, those of each round the narrower ones in it, and so on: a client that
    has many addresses still has only one turn in a round. depth: how many wider networks there are around this one.
    """

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._waiting: dict[str, _FairQueue | deque[Channel]] = {}

    def append(self, channel: Channel) -> None:
        network, *narrower = channel.networks[::-1][self._depth :]
        if network not in self._waiting:
            self._waiting[network] = _FairQueue(self._depth + 1) if narrower else deque()
        self._waiting[network].append(channel)

    def popleft(self) -> Channel:
        network, waiting = next(iter(self._waiting.items()))
        del self._waiting[network]
        channel = waiting.popleft()
        if waiting:
            self._waiting[network] = waiting  # behind the others
        return channel

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))


def hashing_lane() -> ThreadedTaskDispatcher:
    """Threads of their own, so that requests that wait for a hashing slot do not block all others."""
    lane = ThreadedTaskDispatcher()
    lane.queue = _FairQueue()
    lane.set_thread_count(hashing.MAX_CONCURRENT + 1)
    return lane
