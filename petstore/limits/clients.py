"""Where a request comes from: the peer, or what a trusted proxy says of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from petstore.settings import Network

_NODE = re.compile(r"\[(.*)\](?::[0-9]+)?|([0-9.]+):[0-9]+")  # with a port, as some proxies write it (RFC 7239, 6)
logger = logging.getLogger(__name__)
_warned: set[str] = set()


def client_address(environ: Mapping[str, Any], trusted: Sequence[Network]) -> str:
    """The address of the client: the last hop of X-Forwarded-For that is no trusted proxy. Of others, it is not read."""
    address = _plain(environ.get("REMOTE_ADDR", "")) or ""
    forwarded = environ.get("HTTP_X_FORWARDED_FOR")
    if forwarded is None:
        return address
    if not _is_trusted(address, trusted):
        _warn_once(address)
        return address
    for hop in reversed(forwarded.split(",")):
        known = _plain(hop.strip())
        if known is None:
            break
        address = known
        if not _is_trusted(address, trusted):
            break
    return address


def is_trusted_peer(environ: Mapping[str, Any], trusted: Sequence[Network]) -> bool:
    """Whether the peer itself is one of the trusted proxies."""
    return bool(trusted) and _is_trusted(_plain(environ.get("REMOTE_ADDR", "")) or "", trusted)


def client_key(address: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 network of 64 bits, which one subscriber has at the least."""
    return str(ip_network((address, 64), strict=False)) if ":" in address else address


@lru_cache(1000)
def _plain(text: str) -> str | None:
    """The address in its usual form, without a port, of ::ffff:192.0.2.7 the IPv4 one; None for what is none."""
    node = _NODE.fullmatch(text)
    try:
        address = ip_address((node[node.lastindex or 0] if node else text).partition("%")[0])
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
        logger.warning("%s sends X-Forwarded-For and is not in PETSTORE_TRUSTED_PROXIES: it counts as one client", address)
