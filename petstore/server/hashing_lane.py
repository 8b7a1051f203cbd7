"""Worker threads for requests that hash passwords, with a queue that is fair among clients."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from waitress.task import ThreadedTaskDispatcher

from petstore.limits import hashing
from petstore.limits.clients import client_address, client_key
from petstore.server.waitress_channel import Channel
from petstore.settings import Network


class _FairQueue:
    """A round-robin queue: a client that sends a hundred logins at once delays its own only."""

    def __init__(self, client: Callable[[Any], str]) -> None:
        self._client = client
        self._clients: dict[str, deque[Any]] = {}

    def append(self, request: Any) -> None:
        self._clients.setdefault(self._client(request), deque()).append(request)

    def popleft(self) -> Any:
        client, waiting = next(iter(self._clients.items()))
        del self._clients[client]
        request = waiting.popleft()
        if waiting:
            self._clients[client] = waiting  # behind the other clients
        return request

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))


def hashing_lane(client: Callable[[Any], str]) -> ThreadedTaskDispatcher:
    """Threads of their own, so that requests that wait for a hashing slot do not block all others.

    client: gives the client of a channel's next request.
    """
    lane = ThreadedTaskDispatcher()
    lane.queue = _FairQueue(client)
    lane.set_thread_count(hashing.MAX_CONCURRENT + 1)
    return lane


def client_of(trusted: Sequence[Network], channel: Channel) -> str:
    """The client of a channel's next request. trusted: the proxies whose X-Forwarded-For is believed."""
    forwarded = channel.requests[0].headers.get("X_FORWARDED_FOR")
    environ = {"REMOTE_ADDR": channel.addr[0], **({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})}
    return client_key(client_address(environ, trusted))
