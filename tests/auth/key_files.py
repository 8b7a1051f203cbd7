"""Files with keys, good and spoilt, in a folder of keys."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from petstore.auth.signing_keys import Keyring
from petstore.auth.tokens import Caller, Tokens

SOMEBODY = Caller(id=7, role="user", session_id=3, token_version=1)
INVALID = 'Bearer realm="petstore", error="invalid_token"'
NOBODY = 65534


@cache
def key_pair(number: int) -> rsa.RSAPrivateKey:
    """A good key, the same for the same number: each takes a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


def pem_of(key, encryption=None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def public_pem_of(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def put(path: Path, pem: bytes, mode: int = 0o600) -> Path:
    """A file as it would be left by an editor that writes aside and renames."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(pem)
    draft.chmod(mode)
    return draft.replace(path)


def names(folder: Path) -> list[str]:
    """Its files, but for the refresh key, which no rotation touches."""
    return sorted(path.name for path in folder.iterdir() if path.name != "refresh.pem")


def retired_name(kid: str) -> str:
    return f"retired-{kid}.pem"


def kid_of(token: str) -> str:
    return jwt.get_unverified_header(token)["kid"]


def issuer_of(ring: Keyring) -> Tokens:
    return Tokens(ring, issuer="petstore", audience="petstore", seconds=900)


# ── one key ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def spoil(path: Path, pair: rsa.RSAPrivateKey, fault: str) -> None:
    """Put something at the path that is no key to sign with."""
    if fault == "a folder":
        path.mkdir(mode=0o700)
    elif fault != "missing":
        weak = rsa.generate_private_key(65537, 1024) if fault == "weak" else None
        pems = {
            "empty": b"",
            "not PEM": b"-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----\n",
            "bytes": bytes(range(256)),
            "cut": pem_of(pair)[:-100],
            "encrypted": pem_of(pair, BestAvailableEncryption(b"x")) if fault == "encrypted" else b"",
            "not RSA": pem_of(ec.generate_private_key(ec.SECP256R1())),
            "public": public_pem_of(pair),
            "weak": pem_of(weak) if weak else b"",
        }
        mode = {"open to all": 0o604, "writable to all": 0o602, "runnable by all": 0o601}.get(fault, 0o600)
        put(path, pems.get(fault, pem_of(pair)), mode)


# ── petstore rotate-keys ─────────────────────────────────────────────────────────────────────────────────────────────────


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
