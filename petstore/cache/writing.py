"""What a write tells the cache: `with cache.writing("products", "product:4") as writing`."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from petstore.cache import redis_connection
from petstore.cache.redis_connection import CacheDown, Mark

if TYPE_CHECKING:
    from petstore.cache.redis_cache import Cache


class Writing:
    """A write in progress, from before BEGIN until after COMMIT or ROLLBACK.

    In the block, reads of its prefixes go to the database. After the block, no worker serves an entry from before it.
    A block that raises has written nothing, unless it called `outcome_unknown()`.
    """

    def __init__(self, cache: Cache, prefixes: tuple[str, ...]) -> None:
        self._cache, self._prefixes = cache, prefixes
        self._mark = Mark(secrets.token_hex(8), prefixes, sent=cache.up)
        self._written, self._unknown = True, False

    def __enter__(self) -> Writing:
        if self._prefixes:
            self._set_mark(redis_connection.MARK_SECONDS)
        return self

    def nothing_written(self) -> None:
        """The transaction has changed nothing that these prefixes show."""
        self._written = False

    def outcome_unknown(self) -> None:
        """COMMIT may still happen: the mark stays, and expires later."""
        self._unknown = True
        if self._prefixes:
            self._set_mark(redis_connection.UNKNOWN_OUTCOME_SECONDS)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._prefixes or self._unknown:
            return
        if kind is None and self._written:
            self._cache.invalidate(*self._prefixes, mark=self._mark)
        else:
            self._remove_mark()

    def _set_mark(self, seconds: int) -> None:
        with suppress(CacheDown), self._cache.connection() as connection:
            connection.mark(self._mark, seconds)
        self._cache.renew_shared(self._prefixes)  # after the mark: a reader that sees the new generation also sees the mark

    def _remove_mark(self) -> None:
        try:
            with self._cache.connection() as connection:
                connection.unmark(self._mark)
        except CacheDown:
            self._cache.invalidate_later((), self._mark)
