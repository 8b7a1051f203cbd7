"""What a process keeps in its own memory, and the generations that tell every process of one machine whether it is still true."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from petstore.cache.document import Fresh

_MOST_BYTES = 8 * 2**20  # of everything that a Memory keeps, as its keepers count it


@dataclass(frozen=True)
class Entry:
    """Something kept. prefix, generation: it is true while they belong together; until: time.monotonic() of its end."""

    value: Any
    prefix: str
    generation: str
    until: float
    size: int


class LocalCache:
    """Things kept under keys, the oldest thrown away when there are too many."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._kept: dict[Hashable, Entry] = {}
        self._bytes, self._most_bytes = 0, most_bytes
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Entry | None:
        """What is kept, if its time is not over. Whether its generation is still the current one is for the caller to ask."""
        kept = self._kept.get(key)
        return kept if kept is not None and monotonic() < kept.until else None

    def keep(self, key: Hashable, value: Any, fresh: Fresh, size: int) -> None:
        """Keep something of about `size` bytes."""
        kept = Entry(value, fresh.prefix, fresh.generation, monotonic() + fresh.seconds, size)
        with self._lock:
            self._drop(key)
            self._kept[key] = kept
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        old = self._kept.pop(key, None)
        self._bytes -= old.size if old else 0
