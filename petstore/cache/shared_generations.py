"""Generations in memory that all processes of one machine share (PETSTORE_CACHE_SCOPE=machine)."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

_SLOTS = 65_536  # prefixes share them by hash: a write to one also invalidates the others of its slot, which is harmless


class SharedGenerations:
    """The generation of every prefix, in a file that all processes map into their memory.

    A generation is 64 random bits, so none comes twice, and one store of 8 bytes writes it: readers need no lock.
    """

    def __init__(self, path: Path) -> None:
        """Map the file; create it, for this user alone, if it is not there. OSError when it cannot be used."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_size != _SLOTS * 8:  # written, not truncated to size: a full disk is an error here, not later
                os.pwrite(file, os.urandom(_SLOTS * 8), 0)
            self._slots = memoryview(mmap.mmap(file, _SLOTS * 8)).cast("Q")
        finally:
            os.close(file)

    def current(self, prefix: str) -> str:
        """The current generation of a prefix."""
        return str(self._slots[zlib.crc32(prefix.encode()) % _SLOTS])

    def renew(self, prefixes: Iterable[str]) -> None:
        """Give these prefixes new generations: no process uses again what it kept under the old ones."""
        for prefix in prefixes:
            self._slots[zlib.crc32(prefix.encode()) % _SLOTS] = int.from_bytes(os.urandom(8), "big")

    def renew_all(self) -> None:
        """Give every prefix a new generation."""
        self._slots[:] = memoryview(os.urandom(_SLOTS * 8)).cast("Q")
