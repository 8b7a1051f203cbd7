"""`@cached(prefix, ttl)`: a function whose answer is kept in the read cache (petstore.cache)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from petstore.cache import BYPASS, MISS, Cache
from petstore.documents import Document, document

FLIGHT_SECONDS = 3  # that a read waits for another one, which asks the database for both


class HasCache(Protocol):
    """What a cached function needs of its first argument."""

    @property
    def cache(self) -> Cache: ...

    def encode(self, value: Any) -> bytes: ...


P = ParamSpec("P")
C = TypeVar("C", bound=HasCache)


def cached(prefix: str, ttl: int) -> Callable[[Callable[Concatenate[C, P], Any]], Callable[Concatenate[C, P], Document]]:
    """Cache what a function of (call, **key) returns, as JSON bytes, for `ttl` seconds.

    `prefix` may name members of the key: `"invoices:{user_id}"`. What raises is not cached. Of many who ask for the same while it
    is not there, one calls the function; who comes after a write was answered never takes what was made before it: the write has
    removed the generation, by which they share.
    """

    def decorate(function: Callable[Concatenate[C, P], Any]) -> Callable[Concatenate[C, P], Document]:
        @functools.wraps(function)
        def wrapper(call: C, *args: P.args, **key: P.kwargs) -> Document:
            cache, full_prefix = call.cache, prefix.format_map(key)
            name = function.__name__ + "".join(f":{value}" for value in key.values())
            found = cache.read(full_prefix, name)
            if found.entry is not None:
                return found.entry
            generation = found.generation
            if generation is None:
                return document(call.encode(function(call, *args, **key)), BYPASS)

            def make() -> Document:
                made = document(call.encode(function(call, *args, **key)), BYPASS if found.marked else MISS)
                if not found.marked:
                    cache.store(full_prefix, name, generation, made, ttl)
                return made

            return cache.flights.share((full_prefix, name, generation), make, FLIGHT_SECONDS)

        return wrapper  # type: ignore[return-value]  # mypy gives wraps() a call that takes `call` by name

    return decorate
