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
CLOCK_SECONDS = 5  # that the clocks of two machines may differ
LONGEST_SECONDS = 86_400  # the longest life of an access token
_CLAIMS = ["iss", "sub", "aud", "iat", "exp", "jti", "role", "sid", "token_version"]
_MAX_LENGTH = 4096  # characters; the tokens issued here have about 750
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # compact serialization, unpadded (RFC 7515, 2 and 7.1)
_MAX_VERIFIED = 4096  # verified tokens kept in memory
_ID = re.compile("[1-9][0-9]{0,18}")
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as PostgreSQL writes it (RFC 9562, 4)
_HEADER = {"alg", "typ", "kid"}  # a token with any other, such as jku, jwk, x5u or crit, is refused


@dataclass(frozen=True)
class Caller:
    """The user that a token speaks for.

    session_id: the login; token_version: grows when all tokens of the user are revoked
    session_uuid: random, of the login. A database that has lost its newest rows gives a session_id again, but never this. None
    if the token was issued by a release that did not know it, or on a schema version before 11.
    """

    id: int
    role: str
    session_id: int
    token_version: int
    session_uuid: str | None = None


class _Verified(NamedTuple):
    """A token that was verified. exp: when it expires; keys: the keys of that moment."""

    caller: Caller
    exp: int
    keys: Keys


class Tokens:
    """Issues and verifies access tokens of one issuer for one audience. seconds: their life."""

    def __init__(self, keyring: Keyring, *, issuer: str, audience: str, seconds: int) -> None:
        self.keyring = keyring
        self._issuer, self._audience, self.seconds = issuer, audience, seconds
        self._verified: dict[bytes, _Verified] = {}
        self._lock = threading.Lock()

    def issue(self, caller: Caller) -> str:
        """Sign a token that speaks for the caller for `seconds` from now."""
        keys, now = self.keyring.now(), int(time.time())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": str(caller.id),
            "aud": self._audience,
            "iat": now,
            "exp": now + self.seconds,
            "jti": uuid.uuid4().hex,
            "role": caller.role,
            "sid": str(caller.session_id),
            "token_version": caller.token_version,
        }
        if caller.session_uuid is not None:
            claims["session_uuid"] = caller.session_uuid
        return jwt.encode(claims, keys.signing, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": keys.kid})

    def verify(self, token: str) -> Caller:
        """The caller of a token. Unauthorized if it was not issued here, was changed, or has expired.

        Whether the login was ended and which role the user has now is not checked here: see petstore.domain.logins.
        """
        return self.verified_before(token) or self._verify(token)

    def verified_before(self, token: str) -> Caller | None:
        """The caller of a token, if it was verified before, has not expired, and no key has changed since."""
        if len(token) > _MAX_LENGTH:
            return None
        verified = self._verified.get(_digest(token))
        valid = verified is not None and verified.keys is self.keyring.now() and time.time() < verified.exp
        return verified.caller if verified is not None and valid else None

    def _remember(self, token: str, verified: _Verified) -> None:
        with self._lock:
            self._verified[_digest(token)] = verified
            if len(self._verified) > _MAX_VERIFIED:
                del self._verified[next(iter(self._verified))]

    def _verify(self, token: str) -> Caller:
        try:
            if len(token) > _MAX_LENGTH or not _COMPACT.fullmatch(token):
                raise jwt.InvalidTokenError("not a compact JWT")
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
                options={"require": _CLAIMS, "strict_aud": True, "verify_iat": False},  # _has_valid_claims checks iat
            )
            if not _has_valid_claims(claims):
                raise jwt.InvalidTokenError("never issued here")
            session = int(claims["sid"]), claims["token_version"], claims.get("session_uuid")
            caller = Caller(int(claims["sub"]), claims["role"], *session)
            self._remember(token, _Verified(caller, claims["exp"], keys))
            return caller
        except jwt.ExpiredSignatureError:
            detail = "The access token has expired: get the next one (POST /refresh), or log in again."
            raise errors.Unauthorized(detail, error="invalid_token") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            detail = "This is no access token of ours: send the access_token of POST /login, whole and unchanged."
            raise errors.Unauthorized(detail, error="invalid_token") from None


def _digest(token: str) -> bytes:
    """The key under which a verified token is kept; the token itself is not."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _has_valid_claims(claims: Mapping[str, Any]) -> bool:
    """Whether types and bounds of the claims are those of `issue`. PyJWT alone accepts all that int() accepts."""
    numbers = type(claims["iat"]) is type(claims["exp"]) is type(claims["token_version"]) is int
    ids = all(
        isinstance(claims[name], str) and _ID.fullmatch(claims[name]) and int(claims[name]) < 2**63 for name in ("sub", "sid")
    )
    if not (numbers and ids and isinstance(claims["role"], str)):
        return False
    if "session_uuid" in claims and not (isinstance(claims["session_uuid"], str) and _UUID.fullmatch(claims["session_uuid"])):
        return False
    in_time = claims["iat"] <= time.time() + CLOCK_SECONDS and claims["exp"] - claims["iat"] <= LONGEST_SECONDS
    return bool(in_time and 0 < claims["token_version"] < 2**31)
