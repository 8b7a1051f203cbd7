"""Whether the nodes of a shop can verify each other's tokens. Each tells the others, by Redis, which keys it has.

Their signing keys may differ: in a rotation one signs with the new key while another still signs with the old one. What counts is
that each node has the key that each other one signs with. The refresh key must be the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from petstore.auth.signing_keys import Keyring, Keys
from petstore.cache.redis_connection import CacheDown, RedisConnection

ANNOUNCED_SECONDS = (
    60  # that a node counts after its last announcement; shorter than any rotation publishes a key (PUBLISH_SECONDS)
)
OK, DIFFER, UNKNOWN = "ok", "differ", "unknown"
_REFRESH = "refresh:"  # before a hash of the refresh key; releases up to 0.2.0 announce none
logger = logging.getLogger(__name__)


class KeyAgreement:
    """The keys of this node and of the others. reach: Cache.connection."""

    def __init__(self, keyring: Keyring, folder: Path, reach: Callable[[], AbstractContextManager[RedisConnection]]) -> None:
        self._keyring, self._reach = keyring, reach
        self._node = _node(folder)
        self._logged = False

    def check(self) -> str:
        """Announce the keys of this node, and compare them with those of the others: OK, DIFFER, or UNKNOWN without Redis."""
        own = self._keyring.now()
        try:
            with self._reach() as connection:
                announced = connection.announce(
                    "signing keys", self._node, " ".join([own.kid, *own.verifying, _refresh_word(own)]), ANNOUNCED_SECONDS
                )
        except CacheDown:
            return UNKNOWN
        fault = _fault(own, [text.split() for text in announced])
        if fault and not self._logged:
            logger.warning("the nodes of this database do not have the same signing keys: %s", fault)
        self._logged = fault is not None
        return DIFFER if fault else OK


def _fault(own: Keys, nodes: list[list[str]]) -> str | None:
    """Which key is missing where. nodes: of each the kid that it signs with, and those that it verifies with."""
    for signs, *_ in nodes:
        if signs not in own.verifying:
            return f"another one signs with {signs}, and this one does not have it, so it refuses those tokens; copy the folder"
    for _, *verifies in nodes:
        if own.kid not in verifies:
            return f"this one signs with {own.kid}, and another one does not have it, so it refuses those tokens; copy the folder"
    for _, *words in nodes:
        if any(word.startswith(_REFRESH) and word != _refresh_word(own) for word in words):
            return "another one has another refresh key, so a lost answer of /refresh is not given again; copy the folder"
    return None


def _refresh_word(keys: Keys) -> str:
    return _REFRESH + hashlib.sha256(keys.refresh).hexdigest()


def _node(folder: Path) -> str:
    """The folder on this machine, until it is started again: all processes that read the same folder are one node."""
    try:
        boot, status = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.stat(folder)
    except OSError:
        return uuid.uuid4().hex
    return f"{boot}:{status.st_dev}:{status.st_ino}"
