"""Access tokens: JWT signed with RS256 (RFC 7519, RFC 9068)."""

from __future__ import annotations

import hashlib
import re
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jwt

from petstore import errors
from petstore.auth.signing_keys import Keyring, Keys

ALGORITHM = "RS256"
TYPE = "at+jwt"
CLOCK_SECONDS = 5  # that the clocks of several machines may differ
LONGEST_SECONDS = 86_400  # that an access token may live
_CLAIMS = ["iss", "sub", "aud", "iat", "exp", "jti", "role", "sid", "token_version"]
_LONGEST = 4096  # characters of a token that is looked at; ours have about 750
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # without padding (RFC 7515, 2 and 7.1)
_MOST = 4096  # tokens remembered
_ID = re.compile("[1-9][0-9]{0,18}")
_HEADER = {"alg", "typ", "kid"}  # nothing else, such as jku, jwk, x5u or crit, is in a token of ours


@dataclass(frozen=True)
class Caller:
    """Whom a token speaks for, by which login (session_id), of which token_version of theirs."""

    id: int
    role: str
    session_id: int
    token_version: int


class _Verified(NamedTuple):
    """A token that was found good. exp: its last second; keys: those that verified it."""

    user: Caller
    exp: int
    keys: Keys


class Tokens:
    """Issues and verifies access tokens of one issuer for one audience; `seconds` is their life."""

    def __init__(self, keyring: Keyring, *, issuer: str, audience: str, seconds: int) -> None:
        self.keyring = keyring
        self._issuer, self._audience, self.seconds = issuer, audience, seconds
        self._verified: dict[bytes, _Verified] = {}
        self._lock = threading.Lock()

    def issue(self, user: Caller) -> str:
        """A signed token that speaks for the user for `seconds` from now."""
        keys, now = self.keyring.now(), int(time.time())
        claims = {
            "iss": self._issuer,
            "sub": str(user.id),
            "aud": self._audience,
            "iat": now,
            "exp": now + self.seconds,
            "jti": uuid.uuid4().hex,
            "role": user.role,
            "sid": str(user.session_id),
            "token_version": user.token_version,
        }
        return jwt.encode(claims, keys.signing, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": keys.kid})

    def verify(self, token: str) -> Caller:
        """Whom a token speaks for; raise Unauthorized for any token that is not ours, whole and in time.

        Whether the login still lives, and which role its user has now, is the database's to say (petstore.domain.logins).
        """
        return self.recall(token) or self._verify(token)

    def recall(self, token: str) -> Caller | None:
        """Whom a token speaks for, if it was verified before, is still in time, and no key has changed since."""
        if len(token) > _LONGEST:
            return None
        verified = self._verified.get(_digest(token))
        in_time = verified is not None and verified.keys is self.keyring.now() and time.time() < verified.exp
        return verified.user if verified is not None and in_time else None

    def _remember(self, token: str, verified: _Verified) -> None:
        with self._lock:
            self._verified[_digest(token)] = verified
            if len(self._verified) > _MOST:
                del self._verified[next(iter(self._verified))]

    def _verify(self, token: str) -> Caller:
        try:
            if len(token) > _LONGEST or not _COMPACT.fullmatch(token):
                raise jwt.InvalidTokenError("not the compact form")
            keys = self.keyring.now()
            header = jwt.get_unverified_header(token)
            key = self.keyring.find(header.get("kid"))
            if key is None or header.get("typ") != TYPE or header.keys() != _HEADER:
                raise jwt.InvalidTokenError("another kind of token")
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": _CLAIMS, "strict_aud": True, "verify_iat": False},  # _is_ours knows of other clocks
            )
            if not _is_ours(claims):
                raise jwt.InvalidTokenError("claims that we do not make")
            user = Caller(int(claims["sub"]), claims["role"], int(claims["sid"]), claims["token_version"])
            self._remember(token, _Verified(user, claims["exp"], keys))
            return user
        except jwt.ExpiredSignatureError:
            detail = "The access token has expired: get the next one (POST /refresh), or log in again."
            raise errors.Unauthorized(detail, error="invalid_token") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            detail = "This is no access token of ours: send the access_token of POST /login, whole and unchanged."
            raise errors.Unauthorized(detail, error="invalid_token") from None


def _digest(token: str) -> bytes:
    """What a token is remembered by: tokens themselves are kept nowhere."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _is_ours(claims: Mapping[str, Any]) -> bool:
    """Whether the claims are of the types that we make: PyJWT takes what int() takes."""
    numbers = type(claims["iat"]) is type(claims["exp"]) is type(claims["token_version"]) is int
    ids = all(
        isinstance(claims[name], str) and _ID.fullmatch(claims[name]) and int(claims[name]) < 2**63 for name in ("sub", "sid")
    )
    if not (numbers and ids and isinstance(claims["role"], str)):
        return False
    in_time = claims["iat"] <= time.time() + CLOCK_SECONDS and claims["exp"] - claims["iat"] <= LONGEST_SECONDS
    return bool(in_time and 0 < claims["token_version"] < 2**31)
