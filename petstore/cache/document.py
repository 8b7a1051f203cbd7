"""The answer to a read: bytes with their type and ETag."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Validity:
    """How long something may be kept in a process's memory: while `prefix` has this generation, and `seconds` at most."""

    prefix: str
    generation: str
    seconds: float


@dataclass(frozen=True)
class Document:
    """The body of an answer with its type and strong ETag (RFC 9110, 8.8.3).

    cache: HIT, MISS or BYPASS, None if it is not a cached read. validity: how long it may be kept in memory, None if not at all.
    """

    body: bytes
    etag: str
    cache: str | None = None
    content_type: str = "application/json"
    validity: Validity | None = None


def document(
    body: bytes, cache: str | None = None, content_type: str = Document.content_type, tag: str | None = None
) -> Document:
    """A document. tag: its ETag; None for a hash of the body."""
    return Document(body, tag or etag(new_hash(body)), cache, content_type)


def gzip_packer(level: int) -> zlib._Compress:
    """What compresses to gzip, without name and time: equal bytes give equal bytes. level: of zlib, 1 to 9."""
    return zlib.compressobj(level, wbits=31)


def new_hash(begin: bytes = b"") -> hashlib.blake2b:
    """The hash of a body that begins so, for `etag`."""
    return hashlib.blake2b(begin, digest_size=16)


def etag(hashed: hashlib.blake2b) -> str:
    """The ETag of a body."""
    return f'"{hashed.hexdigest()}"'
