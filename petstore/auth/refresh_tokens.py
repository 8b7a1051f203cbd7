"""Refresh tokens. Each tells its login, and has one successor, which every node with the same refresh key derives again.

A token is the base64url of 72 bytes: session_id (8), session_uuid (16), secret (32), seal (16). The secret of a login's first
token is random; that of each next one is the HMAC of the token before. The seal is the HMAC of the rest: it tells a token that
was issued from an invented one, also when the database has forgotten it. Releases up to 0.2.0 issued 32 random bytes, which are
still taken.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass

_FORM = re.compile("[A-Za-z0-9_-]{96}")
_SEALED = 56  # bytes before the seal
_NO_UUID = uuid.UUID(int=0)  # of a login on a schema version before 11: such a token does not tell its login


@dataclass(frozen=True)
class Login:
    """What a refresh token tells of its login. session_uuid: as in petstore.auth.tokens.Caller."""

    session_id: int
    session_uuid: str | None


class RefreshTokens:
    """Makes and recognizes refresh tokens. key: gives the refresh key of the moment, 32 bytes."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def first(self, login: Login) -> str:
        """The first token of a login."""
        return self._sealed(login, secrets.token_bytes(32))

    def successor(self, token: str, login: Login) -> str:
        """The token that follows on this one of the login: always the same."""
        return self._sealed(login, self._hmac(b"successor", token.encode()))

    def login_of(self, token: str) -> Login | None:
        """The login that a token tells, if it was issued with the present key; None for any other text."""
        if not _FORM.fullmatch(token):
            return None
        data = base64.urlsafe_b64decode(token)
        if not hmac.compare_digest(data[_SEALED:], self._seal(data[:_SEALED])):
            return None
        session_uuid = uuid.UUID(bytes=data[8:24])
        return None if session_uuid == _NO_UUID else Login(int.from_bytes(data[:8], "big"), str(session_uuid))

    def _sealed(self, login: Login, secret: bytes) -> str:
        session_uuid = uuid.UUID(login.session_uuid) if login.session_uuid else _NO_UUID
        data = login.session_id.to_bytes(8, "big") + session_uuid.bytes + secret
        return base64.urlsafe_b64encode(data + self._seal(data)).decode()

    def _seal(self, data: bytes) -> bytes:
        return self._hmac(b"seal", data)[:16]

    def _hmac(self, purpose: bytes, data: bytes) -> bytes:
        return hmac.digest(self._key(), purpose + b"\0" + data, "sha256")


def hash_of(token: str) -> bytes:
    """What the database keeps of a token: its SHA-256."""
    return hashlib.sha256(token.encode()).digest()
