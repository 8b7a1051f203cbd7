"""The open connections of the server, by client: a client has a share, and who is silent makes room for who comes.

A connection is silent while nothing of it is being answered: it is idle, or has not sent a whole request. If no connection is
silent, one makes room whose client does not read its answers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from petstore.limits.clients import client_address, client_networks, is_trusted_peer, subscriber
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
        self.full = False  # a further one could not be accepted
        self._clients: dict[str, dict[Channel, None]] = {}  # of each, the oldest first
        self._client_of: dict[Channel, str] = {}

    def add(self, channel: Channel) -> bool:
        """Count a new connection. If its client has its share already, or all are taken, another one is closed for it.

        False if it must be closed itself: its client has two shares, and all are being answered.
        """
        key = self._client(channel)
        own = self._clients.get(key, {})
        if key and len(own) >= self._share:
            if _make_room([own]):
                logger.warning("%s has more than %d connections: its oldest silent ones are closed", key, self._share)
            elif len(own) >= 2 * self._share:
                logger.warning("%s has %d connections that are being answered: further ones are closed", key, len(own))
                return False
        elif len(self._client_of) >= self.limit:
            _make_room(self._by_size())
        self._clients.setdefault(key, own)[channel] = None
        self._client_of[channel] = key
        return True

    def remove(self, channel: Channel) -> None:
        """A connection was closed. A second call changes nothing."""
        key = self._client_of.pop(channel, None)
        if key is not None:
            self.full = False
            del self._clients[key][channel]
            if not self._clients[key]:
                del self._clients[key]

    def has_room(self) -> bool:
        """Whether one more can be accepted: there is room, or can be made."""
        self.full = len(self._client_of) >= self.limit and _find_victim(self._by_size()) is None
        if self.full:
            logger.warning("all %d connections are busy: others wait until one is free", self.limit)
        return not self.full

    def _by_size(self) -> list[dict[Channel, None]]:
        """The connections of each client, of the one with most first, of the proxies last."""
        clients = sorted(self._clients.items(), key=lambda item: (bool(item[0]), len(item[1])), reverse=True)
        return [own for _, own in clients]

    def _client(self, channel: Channel) -> str:
        """What counts as one client; "" for the trusted proxies."""
        environ = {"REMOTE_ADDR": channel.addr[0]}
        return "" if is_trusted_peer(environ, self._trusted) else subscriber(networks_of(channel.addr[0]))


def networks_of(address: str, trusted: Sequence[Network] = (), forwarded: str | None = None) -> tuple[str, ...]:
    """The networks of the client of a connection, the narrowest first. forwarded: X-Forwarded-For of a request on it."""
    environ = {"REMOTE_ADDR": address, **({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})}
    return client_networks(client_address(environ, trusted))


def _make_room(clients: Sequence[dict[Channel, None]]) -> bool:
    """Close one connection; False if all are being answered."""
    victim = _find_victim(clients)
    if victim is not None:
        victim.close_now()
    return victim is not None


def _find_victim(clients: Sequence[dict[Channel, None]]) -> Channel | None:
    """Of the first client that has any: the oldest silent connection, or else the oldest whose client does not read."""
    for own in clients:
        silent = next((channel for channel in own if channel.is_silent), None)
        victim = silent or next((channel for channel in own if channel.total_outbufs_len), None)
        if victim is not None:
            return victim
    return None
