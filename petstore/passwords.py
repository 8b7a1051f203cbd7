"""Password hashing: Argon2id in PHC strings, with OWASP's parameters (Password Storage Cheat Sheet): 19 MiB, 2 passes, 1 lane."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from petstore import errors

MEMORY_KIB, PASSES, LANES = 19_456, 2, 1
_WAIT_SECONDS = 2.0
# A hash takes tens of milliseconds of a core: more at once than half of the cores would starve every other request.
_running = threading.BoundedSemaphore(max(1, (os.cpu_count() or 2) // 2))
# The hash of a random password that nobody knows: what an unknown email is checked against.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$ZhmgdKOfqCm3ZQeIVUJo6w$ac3NEiin4w8oZtNRf0uVhmW4SOTFPNLWDVv2eFXUD48"
_PARAMETERS = re.compile(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$")


def hash_password(password: str) -> str:
    """The PHC string to keep, with a new salt of 16 bytes."""
    with _turn():
        return _argon2id().derive_phc_encoded(password.encode())


def verify_password(password: str, phc: str | None) -> bool:
    """Whether the password is the one. Takes as long for None, an account that does not exist, as for a wrong password."""
    with _turn():
        try:
            Argon2id.verify_phc_encoded(password.encode(), phc or _NOBODY)
        except InvalidKey:
            return False
        return phc is not None


def needs_rehash(phc: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    match = _PARAMETERS.match(phc)
    return match is None or any(int(old) < new for old, new in zip(match.groups(), (MEMORY_KIB, PASSES, LANES), strict=True))


def _argon2id() -> Argon2id:
    return Argon2id(salt=os.urandom(16), length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)


@contextmanager
def _turn() -> Iterator[None]:
    if not _running.acquire(timeout=_WAIT_SECONDS):
        raise errors.Unavailable("Too many logins at the moment; try again.")
    try:
        yield
    finally:
        _running.release()


def _give_memory_back() -> None:
    """Keep glibc from holding on to the 19 MiB of every hash: a fixed mmap threshold (mallopt(3), M_MMAP_THRESHOLD = -3)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-3, 1 << 20)


_give_memory_back()
