"""The threads that hash passwords: a queue of their own, fair among clients."""

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
    """Requests that wait, one of each client in turn: who sends a hundred logins at once waits behind himself alone."""

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
            self._clients[client] = waiting  # at the end
        return request

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))


def hashing_lane(client: Callable[[Any], str]) -> ThreadedTaskDispatcher:
    """Threads for those that wait for a turn at hashing: in a queue of their own, they take no thread that others need.

    client: tells whose a request is.
    """
    lane = ThreadedTaskDispatcher()
    lane.queue = _FairQueue(client)
    lane.set_thread_count(hashing.MAX_CONCURRENT + 1)
    return lane


def client_of(trusted: Sequence[Network], channel: Channel) -> str:
    """Whose the next request of a connection is."""
    said = channel.requests[0].headers.get("X_FORWARDED_FOR")
    environ = {"REMOTE_ADDR": channel.addr[0], **({"HTTP_X_FORWARDED_FOR": said} if said else {})}
    return client_key(client_address(environ, trusted))
