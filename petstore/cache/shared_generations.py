"""Generations in memory that every process of one machine shares (PETSTORE_CACHE_SCOPE=machine)."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

_SLOTS = 65_536  # of the generations of a machine: prefixes that share one make each other's entries begin anew, no more


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
