"""The keys that sign access tokens: those of a folder, read again when it changes, and the three steps of a rotation.

    private.pem         signs, and verifies
    next.pem            is published and verifies; will sign after the switch
    retired-<kid>.pem   the public half of one that signed before the switch; verifies until its last token has expired

A key's name, `kid`, is its RFC 7638 thumbprint, so it follows from the key itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

MINIMUM_BITS = 2048
KEY_FILE, NEXT_FILE = "private.pem", "next.pem"
RETIRED_FILES = "retired-*.pem"
RELOAD_SECONDS = 1.0  # between two looks at the folder
UNKNOWN_SECONDS = 0.1  # the same, when a token names a key that is not known
PUBLISH_SECONDS = 300  # that others may keep the published keys: as long, at the least, a new one is shown before it signs
logger = logging.getLogger(__name__)


class KeyFault(Exception):
    """A key cannot be used; the text says what to do."""


@dataclass(frozen=True)
class Keys:
    """The keys of a folder at one moment. signing: under the name `kid`; verifying: all, by name."""

    signing: RSAPrivateKey
    kid: str
    verifying: Mapping[str, RSAPublicKey]

    def published(self) -> dict[str, Any]:
        """The JWK set (RFC 7517): public members only."""
        return {"keys": [{**_members(key), "kid": kid, "use": "sig", "alg": "RS256"} for kid, key in self.verifying.items()]}


class Keyring:
    """The keys of a folder, as it is now."""

    def __init__(self, folder: Path) -> None:
        """KeyFault when they cannot be used; later ones that cannot are logged, and the present ones stay in use."""
        self._folder = folder
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._seen = self._faulty = _state(folder)
        self._keys = load_keys(folder)

    def now(self) -> Keys:
        """The keys, at most RELOAD_SECONDS old."""
        self._look(RELOAD_SECONDS)
        return self._keys

    def find(self, kid: object) -> RSAPublicKey | None:
        """The key of this name, also one that came just now."""
        if not isinstance(kid, str):
            return None
        if kid not in self._keys.verifying:
            self._look(UNKNOWN_SECONDS)
        return self.now().verifying.get(kid)

    def _look(self, after: float) -> None:
        """Look at the folder, if the last look was more than `after` seconds ago."""
        if time.monotonic() - self._looked_at <= after:
            return
        with self._lock:
            if time.monotonic() - self._looked_at > after:
                self._reload()
                self._looked_at = time.monotonic()

    def _reload(self) -> None:
        state = _state(self._folder)
        if state == self._seen:
            return
        try:
            self._keys, self._seen = load_keys(self._folder), state
            logger.warning("the keys have changed: %s signs, %d verify", self._keys.kid, len(self._keys.verifying))
        except (KeyFault, OSError) as fault:  # tried again at each look, and said once
            if state != self._faulty:
                logger.error("the keys have changed and cannot be used, the old ones stay: %s", fault)
            self._faulty = state


def load_keys(folder: Path) -> Keys:
    """The keys of a folder, read again when a rotation renames them meanwhile."""
    for _ in range(3):
        state = _state(folder)
        with suppress(KeyFault):
            keys = _load_keys(folder)
            if _state(folder) == state:
                return keys
    return _load_keys(folder)


def _load_keys(folder: Path) -> Keys:
    """In this order none is missed while a rotation renames them."""
    if folder.is_dir() and folder.stat().st_mode & 0o002:
        raise KeyFault(f"everybody may put a key into {folder}: chmod o-w {folder}")
    coming = [load_key(folder / NEXT_FILE)] if (folder / NEXT_FILE).exists() else []
    signing = load_key(folder / KEY_FILE)
    before = [_load_public(path) for path in retired(folder)]
    verifying = [signing.public_key(), *(key.public_key() for key in coming), *before]
    return Keys(signing, thumbprint(signing.public_key()), {thumbprint(key): key for key in verifying})


def load_key(path: Path) -> RSAPrivateKey:
    """A signing key; raise KeyFault, with what to do, when it is missing, unreadable, open to everybody or weak."""
    key = _read(path, lambda pem: serialization.load_pem_private_key(pem, password=None), "an unencrypted private", 0o007)
    if not isinstance(key, RSAPrivateKey) or key.key_size < MINIMUM_BITS:
        raise KeyFault(f"{path} must be an RSA key of at least {MINIMUM_BITS} bits")
    return key


def _load_public(path: Path) -> RSAPublicKey:
    key = _read(path, serialization.load_pem_public_key, "a public", 0o002)
    if not isinstance(key, RSAPublicKey) or key.key_size < MINIMUM_BITS:
        raise KeyFault(f"{path} must be an RSA key of at least {MINIMUM_BITS} bits")
    return key


def _read(path: Path, load: Callable[[bytes], Any], kind: str, forbidden: int) -> Any:
    """forbidden: permissions that it must not have."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & forbidden:
                raise KeyFault(f"{path} can be used by everybody on this machine: chmod 600 {path}")
            return load(file.read())
    except FileNotFoundError:
        raise KeyFault(
            f"{path} is missing: make it with `petstore generate-keys` (scripts/generate_keys), or set PETSTORE_KEYS"
        ) from None
    except OSError as error:
        raise KeyFault(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFault(f"{path} is not {kind} key in PEM form") from None


def thumbprint(key: RSAPublicKey) -> str:
    """The key's name, `kid` (RFC 7638): a hash of its public members."""
    members = json.dumps(_members(key), separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


def _members(key: RSAPublicKey) -> dict[str, str]:
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
    return {name: str(jwk[name]) for name in ("e", "kty", "n")}


def _state(folder: Path) -> list[tuple[Any, ...]]:
    """What changes whenever a key file does."""
    found = []
    for path in folder.glob("*.pem"):
        with suppress(OSError):  # renamed at this very moment, or a link to nothing
            status = path.stat()
            found.append((path.name, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode))
    return sorted(found)


def retired(folder: Path) -> list[Path]:
    """The public halves of keys that signed before, each as old as its switch."""
    return sorted(folder.glob(RETIRED_FILES))
