"""What a process keeps in its own memory, and the generations that tell every process of one machine whether it is still true."""

from __future__ import annotations

import mmap
import os
import threading
import zlib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from petstore.documents import Fresh

_MOST_BYTES = 8 * 2**20  # of everything that a Memory keeps, as its keepers count it
_SLOTS = 65_536  # of the generations of a machine: prefixes that share one make each other's entries begin anew, no more


@dataclass(frozen=True)
class Kept:
    """Something kept. prefix, generation: it is true while they belong together; until: time.monotonic() of its end."""

    value: Any
    prefix: str
    generation: str
    until: float
    size: int


class Memory:
    """Things kept under keys, the oldest thrown away when there are too many."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._kept: dict[Hashable, Kept] = {}
        self._bytes, self._most_bytes = 0, most_bytes
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Kept | None:
        """What is kept, if its time is not over. Whether its generation is still the current one is for the caller to ask."""
        kept = self._kept.get(key)
        return kept if kept is not None and monotonic() < kept.until else None

    def keep(self, key: Hashable, value: Any, fresh: Fresh, size: int) -> None:
        """Keep something of about `size` bytes."""
        kept = Kept(value, fresh.prefix, fresh.generation, monotonic() + fresh.seconds, size)
        with self._lock:
            self._drop(key)
            self._kept[key] = kept
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        old = self._kept.pop(key, None)
        self._bytes -= old.size if old else 0


class SharedGenerations:
    """The generation of every prefix, in a file that all processes of one machine have in their memory.

    Each is a random number, in a new file, too: none comes twice, and to write one is a single store of 8 bytes.
    """

    def __init__(self, path: Path) -> None:
        """The file, made if it is not there, for this user alone. OSError when it cannot be used."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_size != _SLOTS * 8:  # written, not only made longer: a disk that is full tells it now
                os.pwrite(file, os.urandom(_SLOTS * 8), 0)
            self._slots = memoryview(mmap.mmap(file, _SLOTS * 8)).cast("Q")
        finally:
            os.close(file)

    def now(self, prefix: str) -> str:
        """The present generation."""
        return str(self._slots[zlib.crc32(prefix.encode()) % _SLOTS])

    def renew(self, prefixes: Iterable[str]) -> None:
        """What was kept under these prefixes, in whichever process, is no longer to be used."""
        for prefix in prefixes:
            self._slots[zlib.crc32(prefix.encode()) % _SLOTS] = int.from_bytes(os.urandom(8), "big")

    def renew_all(self) -> None:
        """The same for all prefixes."""
        self._slots[:] = memoryview(os.urandom(_SLOTS * 8)).cast("Q")
