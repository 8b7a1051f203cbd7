"""A write as the cache sees it, in two steps: a test may do something between them, or never end it."""

from __future__ import annotations

from petstore.cache.redis_cache import Cache
from petstore.cache.writing import Writing


def begin(cache: Cache, *prefixes: str) -> Writing:
    """What comes before BEGIN."""
    return cache.writing(*prefixes).__enter__()


def commit(writing: Writing) -> None:
    """What comes after COMMIT."""
    writing.__exit__(None)


def refuse(writing: Writing) -> None:
    """What comes after a transaction that has written nothing."""
    writing.nothing_written()
    writing.__exit__(None)
