"""Answers to reads: bytes with their type and ETag."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Fresh:
    """How long something may be kept in this process: while its prefix has this generation, and `seconds` at most."""

    prefix: str
    generation: str
    seconds: float


@dataclass(frozen=True)
class Document:
    """The bytes of an answer, their type and strong ETag (RFC 9110, 8.8.3), and whence they came: HIT, MISS, BYPASS or None.

    fresh: how long it may be kept here; None: it may not.
    """

    body: bytes
    etag: str
    cache: str | None = None
    content_type: str = "application/json"
    fresh: Fresh | None = None


def document(body: bytes, cache: str | None = None, content_type: str = Document.content_type) -> Document:
    """Bytes with their ETag, a hash of just them."""
    return Document(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"', cache, content_type)
