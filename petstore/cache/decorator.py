"""`@cached(prefix, ttl)`: a read whose answer is kept in the cache (petstore.cache.redis_cache)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from petstore.cache.document import Document, document
from petstore.cache.redis_cache import BYPASS, MISS, Cache

WAIT_SECONDS = 3  # that a read waits for another one, which asks the database for both


class HasCache(Protocol):
    """What a cached function needs of its first argument, a petstore.request.Request."""

    @property
    def cache(self) -> Cache: ...

    def encode(self, value: Any) -> bytes: ...


P = ParamSpec("P")
C = TypeVar("C", bound=HasCache)


def cached(
    prefix: str, ttl: int, tag_of: Callable[[bytes], str] | None = None
) -> Callable[[Callable[Concatenate[C, P], Any]], Callable[Concatenate[C, P], Document]]:
    """Cache what a function of (request, **key) returns, as JSON bytes, for `ttl` seconds. Exceptions are not cached.

    `prefix` may contain members of the key: `"invoices:{user_id}"`. Single-flight per generation: of many misses at the same time
    one calls the function, and a reader after a write never shares an older result.
    tag_of: gives the ETag of a body; by default it is a hash.
    """

    def decorate(function: Callable[Concatenate[C, P], Any]) -> Callable[Concatenate[C, P], Document]:
        @functools.wraps(function)
        def wrapper(request: C, *args: P.args, **key: P.kwargs) -> Document:
            def new(status: str) -> Document:
                body = request.encode(function(request, *args, **key))
                return document(body, status, tag=tag_of(body) if tag_of else None)

            name = function.__name__ + "".join(f":{value}" for value in key.values())
            return _read(request.cache, prefix.format_map(key), name, ttl, new)

        return wrapper  # type: ignore[return-value]  # mypy: functools.wraps names the first parameter

    return decorate


def _read(cache: Cache, prefix: str, name: str, ttl: int, new: Callable[[str], Document]) -> Document:
    """The entry, or a new document. new: makes it, with what becomes its X-Cache."""
    found = cache.read(prefix, name)
    if found.entry is not None:
        return found.entry
    generation = found.generation
    if generation is None:
        return new(BYPASS)

    def make() -> Document:
        made = new(BYPASS if found.marked else MISS)
        if not found.marked:
            cache.store(prefix, name, generation, made, ttl)
        return made

    return cache.single_flight.share((prefix, name, generation), make, WAIT_SECONDS)
