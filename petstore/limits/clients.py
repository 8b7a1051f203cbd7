"""The address of a client: that of the connection, or the one that a trusted proxy forwards."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from petstore.settings import Network

_WITH_PORT = re.compile(r"\[(.*)\](?::[0-9]+)?|([0-9.]+):[0-9]+")  # as some proxies write it (RFC 7239, 6)
logger = logging.getLogger(__name__)
_warned: set[str] = set()


def client_address(environ: Mapping[str, Any], trusted: Sequence[Network]) -> str:
    """The last address in X-Forwarded-For that is not a trusted proxy. The header counts only when a trusted proxy sends it."""
    address = _plain(environ.get("REMOTE_ADDR", "")) or ""
    forwarded = environ.get("HTTP_X_FORWARDED_FOR")
    if forwarded is None:
        return address
    if not _is_trusted(address, trusted):
        _warn_once(address)
        return address
    for hop in reversed(forwarded.split(",")):
        parsed = _plain(hop.strip())
        if parsed is None:
            break
        address = parsed
        if not _is_trusted(address, trusted):
            break
    return address


def is_trusted_peer(environ: Mapping[str, Any], trusted: Sequence[Network]) -> bool:
    """Whether the connection comes from a trusted proxy."""
    return bool(trusted) and _is_trusted(_plain(environ.get("REMOTE_ADDR", "")) or "", trusted)


@lru_cache(1000)
def client_networks(address: str) -> tuple[str, ...]:
    """What counts as one client, and the networks that may be one client's as well, the narrowest first.

    An IPv4 address alone. Of IPv6 the /64, /56 and /48 networks: a subscriber has one of these (RFC 6177), and shares the wider
    ones with many others.
    """
    if ":" not in address:
        return (address,)
    return tuple(str(ip_network((address, length), strict=False)) for length in (64, 56, 48))


def subscriber(networks: Sequence[str]) -> str:
    """What has one share of what belongs to all: an IPv4 address, or an IPv6 /56. networks: as client_networks gives them."""
    return networks[:2][-1]


@lru_cache(1000)
def _plain(text: str) -> str | None:
    """The canonical form of an address, without port and zone; ::ffff:192.0.2.7 becomes 192.0.2.7. None: not an address."""
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((match[match.lastindex or 0] if match else text).partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    return bool(address) and any(ip_address(address) in network for network in trusted)


def _warn_once(address: str) -> None:
    if address not in _warned and len(_warned) < 100:
        _warned.add(address)
        logger.warning(
            "%s sends X-Forwarded-For and is not in PETSTORE_TRUSTED_PROXIES: all its requests count as one client's", address
        )
