"""Runs petstore with one of its protections taken out, for the checker to find: `python -m tests.history.sabotage NAME serve`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from petstore.db import run
from petstore.repository import startup_check


def row_lock() -> None:
    """A purchase looks at the products without locking them, and takes its time before it buys."""
    _change_query("purchases/buy_products", "FOR UPDATE", "")
    _change_query("purchases/buy_products", "FROM deal", "FROM deal, pg_sleep(0.05)")


def unique_key() -> None:
    """A key that is taken already can be taken once more."""
    _change_query("idempotency/claim_key", "WHERE k.created_at < now() - interval '24 hours'", "")


def generation() -> None:
    """A reader takes what the cache has, of whatever generation it is."""
    from petstore.cache.redis_connection import RedisConnection

    read = RedisConnection.read

    def read_any(self: RedisConnection, prefix: str, key: str) -> Any:
        now, marks, entry, seconds = read(self, prefix, key)
        return entry.split(b"\n", 1)[0] if entry else now, marks, entry, seconds

    RedisConnection.read = read_any  # type: ignore[method-assign]


def shared_generation() -> None:
    """A write leaves what the processes of the machine have in their memory as it is."""
    from petstore.cache.shared_generations import SharedGenerations

    SharedGenerations.renew = lambda *_: None  # type: ignore[method-assign]


def asked_generation() -> None:
    """What a process has in its memory is used, whatever generation Redis says is the present one."""
    from petstore.web import response_cache

    response_cache.Lookup.entries = property(lambda self: [])  # type: ignore[assignment]


def outcome() -> None:
    """A COMMIT that was not answered is taken for one that did not happen."""
    from petstore import errors
    from petstore.db import pool
    from petstore.db.errors import Cause

    pool.CAUSES = {**pool.CAUSES, "no answer to COMMIT": Cause(errors.Unavailable)}


def _change_query(name: str, old: str, new: str) -> None:
    """Run a query with another text."""
    present = run.load_queries()
    query = present[name]
    assert old in query.sql, f"{name} does not say {old}"
    changed = MappingProxyType({**present, name: replace(query, sql=query.sql.replace(old, new))})
    run.load_queries = startup_check.load_queries = lambda: changed


SABOTAGES: dict[str, Callable[[], None]] = {
    made.__name__: made for made in (row_lock, unique_key, generation, shared_generation, asked_generation, outcome)
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    SABOTAGES[name]()
    from petstore.__main__ import main
    from petstore.cli import child

    child.COMMAND = (sys.executable, "-m", "tests.history.sabotage", name)
    main(arguments)
