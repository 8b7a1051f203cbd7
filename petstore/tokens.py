"""Access tokens: JWT signed with RS256 (RFC 7519, RFC 9068), and the key that signs them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key

from petstore import errors

ALGORITHM = "RS256"
TYPE = "at+jwt"
MINIMUM_BITS = 2048
KEY_FILE = "private.pem"
_CLAIMS = ["iss", "sub", "aud", "iat", "exp", "jti", "role"]
_LONGEST = 4096  # characters of a token that is looked at; ours have about 750


class KeyFault(Exception):
    """The signing key cannot be used; the text says what to do."""


@dataclass(frozen=True)
class User:
    """Whom a token speaks for."""

    id: int
    role: str


def generate_key(folder: Path, bits: int = MINIMUM_BITS) -> Path:
    """Write a new RSA key to `folder`/private.pem, readable by its owner only; never over an existing one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / KEY_FILE
    pem = generate_private_key(public_exponent=65537, key_size=bits).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # Written aside and linked: a key is there whole or not at all, and two starts at once agree on one.
    draft = folder / f".{KEY_FILE}.{uuid.uuid4().hex}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        raise KeyFault(f"{path} exists already; --replace makes a new key and ends every login") from None
    finally:
        draft.unlink(missing_ok=True)
    return path


def load_key(folder: Path) -> RSAPrivateKey:
    """The signing key; raise KeyFault, with what to do, when it is missing, unreadable, open to everybody or weak."""
    path = folder / KEY_FILE
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o007:
            raise KeyFault(f"{path} can be used by everybody on this machine: chmod 600 {path}")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise KeyFault(
            f"{path} is missing: make it with `petstore generate-keys` (scripts/generate_keys), or set PETSTORE_KEYS"
        ) from None
    except OSError as error:
        raise KeyFault(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFault(f"{path} is not an unencrypted private key in PEM form") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < MINIMUM_BITS:
        raise KeyFault(f"{path} must be an RSA key of at least {MINIMUM_BITS} bits")
    return key


def thumbprint(key: RSAPublicKey) -> str:
    """The key's name, `kid` (RFC 7638): a hash of its public members, so it follows from the key itself."""
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
    members = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


class Tokens:
    """Issues and verifies access tokens of one issuer for one audience; `seconds` is their life."""

    def __init__(self, key: RSAPrivateKey, *, issuer: str, audience: str, seconds: int) -> None:
        self._key, self._public = key, key.public_key()
        self._issuer, self._audience, self.seconds = issuer, audience, seconds
        self._kid = thumbprint(self._public)

    def issue(self, user: User) -> str:
        """A signed token that speaks for the user for `seconds` from now."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "sub": str(user.id),
            "aud": self._audience,
            "iat": now,
            "exp": now + self.seconds,
            "jti": uuid.uuid4().hex,
            "role": user.role,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": self._kid})

    def verify(self, token: str) -> User:
        """Whom a token speaks for; raise Unauthorized for any token that is not ours, whole and in time."""
        try:
            if len(token) > _LONGEST:
                raise jwt.InvalidTokenError("too long")
            header = jwt.get_unverified_header(token)
            if header.get("typ") != TYPE or header.get("kid") != self._kid or "crit" in header:
                raise jwt.InvalidTokenError("another kind of token")
            claims = jwt.decode(
                token,
                self._public,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": _CLAIMS, "strict_aud": True},
            )
            return User(id=_user_id(claims["sub"]), role=str(claims["role"]))
        except jwt.ExpiredSignatureError:
            raise errors.Unauthorized("The access token has expired; log in again.", error="invalid_token") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise errors.Unauthorized("The access token is not valid.", error="invalid_token") from None


def _user_id(subject: object) -> int:
    if not isinstance(subject, str) or not subject.isascii() or not subject.isdigit():
        raise jwt.InvalidTokenError("sub is not a user of ours")
    return int(subject)
