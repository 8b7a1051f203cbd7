"""The open connections of the server, by client: a client has a share, and who is silent makes room for who comes.

A connection is silent while nothing of it is being answered: it is idle, or has not sent a whole request.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from petstore.limits.clients import client_address, client_networks, is_trusted_peer
from petstore.settings import Network

if TYPE_CHECKING:
    from petstore.server.waitress_channel import Channel

ACCEPTS = 100  # connections that are accepted before the open ones are looked at again
SHARE = 4  # one client has a quarter of all connections, if others are silent
logger = logging.getLogger(__name__)


class Connections:
    """Used by the I/O thread alone.

    limit: connections in all. trusted: the proxies, whose connections have no share of their own.
    """

    def __init__(self, limit: int, trusted: Sequence[Network]) -> None:
        self.limit, self._trusted = limit, trusted
        self._share = max(1, limit // SHARE)
        self._count = 0
        self.full = False  # a further one could not be accepted
        self._clients: dict[str, dict[Channel, None]] = {}  # of each, the oldest first

    def add(self, channel: Channel) -> None:
        """Count a new connection. If its client has its share already, the oldest silent one of that client is closed.

        If the limit is reached, it is the oldest silent one of the client with most connections.
        """
        key = self._client(channel)
        own = self._clients.setdefault(key, {})
        if key and len(own) >= self._share and _close_silent(own):
            logger.warning("%s has more than %d connections: its oldest silent ones are closed", key, self._share)
        elif self._count >= self.limit:
            clients = sorted(self._clients.items(), key=lambda item: (bool(item[0]), len(item[1])), reverse=True)
            any(_close_silent(connections) for _, connections in clients)
        self._clients.setdefault(key, own)[channel] = None
        self._count += 1

    def remove(self, channel: Channel) -> None:
        """A connection was closed. A second call changes nothing."""
        key = self._client(channel)
        own = self._clients.get(key, {})
        if channel in own:
            del own[channel]
            self._count -= 1
            self.full = False
            if not own:
                del self._clients[key]

    def has_room(self) -> bool:
        """Whether one more can be accepted: there is room, or somebody is silent."""
        self.full = self._count >= self.limit and not any(map(_find_silent, self._clients.values()))
        if self.full:
            logger.warning("all %d connections are busy: others wait until one is free", self.limit)
        return not self.full

    def _client(self, channel: Channel) -> str:
        """What counts as one client; "" for the trusted proxies."""
        environ = {"REMOTE_ADDR": channel.addr[0]}
        return "" if is_trusted_peer(environ, self._trusted) else subscriber(networks_of(channel.addr[0]))


def networks_of(address: str, trusted: Sequence[Network] = (), forwarded: str | None = None) -> tuple[str, ...]:
    """The networks of the client of a connection, the narrowest first. forwarded: X-Forwarded-For of a request on it."""
    environ = {"REMOTE_ADDR": address, **({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})}
    return client_networks(client_address(environ, trusted))


def subscriber(networks: Sequence[str]) -> str:
    """What counts as one client for connections and memory: an IPv4 address, or an IPv6 /56."""
    return networks[:2][-1]


def _find_silent(channels: dict[Channel, None]) -> Channel | None:
    """The oldest silent one."""
    return next((channel for channel in channels if channel.is_silent), None)


def _close_silent(channels: dict[Channel, None]) -> bool:
    """Close the oldest silent one; False if there is none."""
    silent = _find_silent(channels)
    if silent is not None:
        silent.close_now()
    return silent is not None
