"""Whose entries the cache has: those of a database, under one of its histories."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple


class Namespace(NamedTuple):
    """database: in the names of all its keys in Redis; history: what is cached under another one is never served.

    Generations and marks belong to the database, so that a write invalidates whatever the histories of readers are.
    """

    database: str
    history: str


@lru_cache(maxsize=64)
def namespace_of(identity: str) -> Namespace:
    """The namespace of a database that says it is `<database>@<history>`."""
    database, _, history = identity.partition("@")
    return Namespace(database, hashlib.blake2b(history.encode(), digest_size=8).hexdigest())
