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


def cached(prefix: str, ttl: int) -> Callable[[Callable[Concatenate[C, P], Any]], Callable[Concatenate[C, P], Document]]:
    """Cache what a function of (request, **key) returns, as JSON bytes, for `ttl` seconds. Exceptions are not cached.

    `prefix` may contain members of the key: `"invoices:{user_id}"`. Single-flight per generation: of many misses at the same time
    one calls the function, and a reader after a write never shares an older result.
    """

    def decorate(function: Callable[Concatenate[C, P], Any]) -> Callable[Concatenate[C, P], Document]:
        @functools.wraps(function)
        def wrapper(request: C, *args: P.args, **key: P.kwargs) -> Document:
            cache, full_prefix = request.cache, prefix.format_map(key)
            name = function.__name__ + "".join(f":{value}" for value in key.values())
            found = cache.read(full_prefix, name)
            if found.entry is not None:
                return found.entry
            generation = found.generation
            if generation is None:
                return document(request.encode(function(request, *args, **key)), BYPASS)

            def make() -> Document:
                made = document(request.encode(function(request, *args, **key)), BYPASS if found.marked else MISS)
                if not found.marked:
                    cache.store(full_prefix, name, generation, made, ttl)
                return made

            return cache.single_flight.share((full_prefix, name, generation), make, WAIT_SECONDS)

        return wrapper  # type: ignore[return-value]  # mypy: functools.wraps names the first parameter

    return decorate
