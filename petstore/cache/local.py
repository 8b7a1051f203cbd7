"""The cache in a process's own memory. Whether an entry is still true is for its reader to ask: Cache.generations."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from petstore.cache.document import Validity

_MAX_BYTES = 8 * 2**20  # of all entries, in sizes as their writers estimate them


@dataclass(frozen=True)
class Entry:
    """A value in memory. It is true while `prefix` has this generation; expires_at: time.monotonic()."""

    value: Any
    prefix: str
    generation: str
    expires_at: float
    size: int


class LocalCache:
    """Entries by key, in at most `max_bytes`; the oldest are dropped first."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._entries: dict[Hashable, Entry] = {}
        self._bytes, self._max_bytes = 0, max_bytes
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Entry | None:
        """The entry, if it has not expired. The caller compares its generation with the current one."""
        entry = self._entries.get(key)
        return entry if entry is not None and monotonic() < entry.expires_at else None

    def keep(self, key: Hashable, value: Any, validity: Validity, size: int) -> None:
        """Store a value of about `size` bytes."""
        entry = Entry(value, validity.prefix, validity.generation, monotonic() + validity.seconds, size)
        with self._lock:
            self._drop(key)
            self._put(key, entry)

    def resize(self, key: Hashable, value: Any, size: int) -> None:
        """The value that was kept takes about `size` bytes by now. Nothing is done if it is no longer kept."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.value is value:
                self._bytes -= entry.size
                self._put(key, replace(entry, size=size))

    def _put(self, key: Hashable, entry: Entry) -> None:
        self._entries[key] = entry
        self._bytes += entry.size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        old = self._entries.pop(key, None)
        self._bytes -= old.size if old else 0
