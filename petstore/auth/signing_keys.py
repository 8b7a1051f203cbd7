"""The keys of access and refresh tokens: files of one folder, which is read again when it changes.

    private.pem         signs and verifies
    next.pem            during a rotation: published and verifies; signs after the switch
    retired-<kid>.pem   during a rotation: public half of the key that signed before; verifies until its last token has expired
    refresh.pem         makes refresh tokens (petstore.auth.refresh_tokens), and stays in a rotation. Until it is there,
                        private.pem gives the key: a folder of an older release serves, and all its copies have the same key

The `kid` of a key is its RFC 7638 thumbprint.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
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
KEY_FILE, NEXT_FILE, REFRESH_FILE = "private.pem", "next.pem", "refresh.pem"
RETIRED_FILES = "retired-*.pem"
RELOAD_SECONDS = 1.0  # between two checks of the folder
UNKNOWN_SECONDS = 0.1  # the same, when a token names an unknown key
PUBLISH_SECONDS = 300  # that clients may cache the published keys; so a new key is published at least so long before it signs
logger = logging.getLogger(__name__)


class KeyFault(Exception):
    """A key cannot be used. The text says what to do."""


@dataclass(frozen=True)
class Keys:
    """The keys of a folder at one moment. kid: of the signing key; verifying: all public keys, by kid; refresh: 32 bytes."""

    signing: RSAPrivateKey
    kid: str
    verifying: Mapping[str, RSAPublicKey]
    refresh: bytes

    def published(self) -> dict[str, Any]:
        """The JWK set (RFC 7517): public members only."""
        return {"keys": [{**_members(key), "kid": kid, "use": "sig", "alg": "RS256"} for kid, key in self.verifying.items()]}


class Keyring:
    """The keys of a folder, kept up to date."""

    def __init__(self, folder: Path) -> None:
        """KeyFault when the keys cannot be used. When that happens later, it is logged, and the keys from before stay in use."""
        self._folder = folder
        self._lock = threading.Lock()
        self._checked_at = time.monotonic()
        self._loaded_state = self._failed_state = _state(folder)
        self._keys = load_keys(folder)

    def now(self) -> Keys:
        """The keys, at most RELOAD_SECONDS old."""
        self._check_folder(RELOAD_SECONDS)
        return self._keys

    def find(self, kid: object) -> RSAPublicKey | None:
        """The public key with this kid, or None. It finds also a key that was added just now."""
        if not isinstance(kid, str):
            return None
        if kid not in self._keys.verifying:
            self._check_folder(UNKNOWN_SECONDS)
        return self.now().verifying.get(kid)

    def _check_folder(self, after: float) -> None:
        """Reload the keys if the folder has changed. Checks at most once in `after` seconds."""
        if time.monotonic() - self._checked_at <= after:
            return
        with self._lock:
            if time.monotonic() - self._checked_at > after:
                self._reload()
                self._checked_at = time.monotonic()

    def _reload(self) -> None:
        state = _state(self._folder)
        if state == self._loaded_state:
            return
        try:
            self._keys, self._loaded_state = load_keys(self._folder), state
            logger.warning("keys reloaded: %s signs, %d verify", self._keys.kid, len(self._keys.verifying))
        except (KeyFault, OSError) as fault:  # tried again at each check, and logged once
            if state != self._failed_state:
                logger.error("the changed keys cannot be used, the old keys stay in use: %s", fault)
            self._failed_state = state


def load_keys(folder: Path) -> Keys:
    """Load the keys of a folder; again, if a rotation renames files meanwhile."""
    for _ in range(3):
        state = _state(folder)
        with suppress(KeyFault):
            keys = _load_keys(folder)
            if _state(folder) == state:
                return keys
    return _load_keys(folder)


def _load_keys(folder: Path) -> Keys:
    """Load next.pem first, retired keys last: in this order none is missed while a rotation renames them."""
    if folder.is_dir() and folder.stat().st_mode & 0o002:
        raise KeyFault(f"any user of this machine can put a key into {folder}: chmod o-w {folder}")
    next_keys = [load_key(folder / NEXT_FILE)] if (folder / NEXT_FILE).exists() else []
    signing = load_key(folder / KEY_FILE)
    retired_keys = [_load_public(path) for path in retired(folder)]
    verifying = [signing.public_key(), *(key.public_key() for key in next_keys), *retired_keys]
    refresh = load_refresh_key(folder, signing)
    return Keys(signing, thumbprint(signing.public_key()), {thumbprint(key): key for key in verifying}, refresh)


def load_refresh_key(folder: Path, signing: RSAPrivateKey) -> bytes:
    """The key of refresh.pem; while there is none, one that follows from the signing key. 32 bytes; KeyFault as for load_key."""
    if (folder / REFRESH_FILE).exists():
        key: bytes = _read(folder / REFRESH_FILE, _parse_refresh_key, "a refresh", 0o007)
        return key
    der = signing.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return hmac.digest(der, b"petstore refresh tokens", "sha256")


def refresh_pem(key: bytes) -> bytes:
    """The content of refresh.pem."""
    return b"-----BEGIN PETSTORE REFRESH KEY-----\n%b\n-----END PETSTORE REFRESH KEY-----\n" % base64.b64encode(key)


def _parse_refresh_key(pem: bytes) -> bytes:
    key = base64.b64decode(pem.split(b"\n")[1] if pem.count(b"\n") > 1 else b"")
    if len(key) != 32 or pem != refresh_pem(key):
        raise ValueError
    return key


def folder_fault(folder: Path) -> str | None:
    """What is wrong with the permissions of the folder, and what to do; None if only its owner, and a group, can enter it."""
    if folder.is_dir() and folder.stat().st_mode & 0o007:
        return f"any user of this machine can enter {folder}, where the signing keys are: chmod 700 {folder}"
    return None


def load_key(path: Path) -> RSAPrivateKey:
    """Load a private key; KeyFault when it is missing, unreadable, weak, or readable by any user."""
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
    """Load a PEM file. forbidden: permission bits that it must not have."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & forbidden:
                raise KeyFault(f"any user of this machine can use {path}: chmod 600 {path}")
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
    """The kid of a key (RFC 7638): a hash of its public members."""
    members = json.dumps(_members(key), separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


def _members(key: RSAPublicKey) -> dict[str, str]:
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
    return {name: str(jwk[name]) for name in ("e", "kty", "n")}


def _state(folder: Path) -> list[tuple[Any, ...]]:
    """Names, inodes, times, sizes and modes of the key files: a value that differs whenever one has changed."""
    found = []
    for path in folder.glob("*.pem"):
        with suppress(OSError):  # renamed meanwhile, or a broken link
            status = path.stat()
            found.append((path.name, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode))
    return sorted(found)


def retired(folder: Path) -> list[Path]:
    """The files of retired keys. Their modification time is that of the switch."""
    return sorted(folder.glob(RETIRED_FILES))
