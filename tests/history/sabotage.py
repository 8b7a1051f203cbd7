"""Runs petstore with one of its protections taken out, for the checker to find: `python -m tests.history.sabotage NAME serve`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from petstore import queries


def row_lock() -> None:
    """A purchase looks at the products without locking them, and takes its time before it buys."""
    _change_query("purchases/buy_products", "FOR UPDATE", "")
    _change_query("purchases/buy_products", "FROM deal", "FROM deal, pg_sleep(0.05)")


def unique_key() -> None:
    """A key that is taken already can be taken once more."""
    _change_query("idempotency/claim_key", "WHERE k.created_at < now() - interval '24 hours'", "")


def generation() -> None:
    """A reader takes what the cache has, of whatever generation it is."""
    from petstore.redis_link import Link

    read = Link.read

    def read_any(self: Link, prefix: str, key: str) -> Any:
        now, marks, entry, seconds = read(self, prefix, key)
        return entry.split(b"\n", 1)[0] if entry else now, marks, entry, seconds

    Link.read = read_any  # type: ignore[method-assign]


def shared_generation() -> None:
    """A write leaves what the processes of the machine have in their memory as it is."""
    from petstore.memory import SharedGenerations

    SharedGenerations.renew = lambda *_: None  # type: ignore[method-assign]


def asked_generation() -> None:
    """What a process has in its memory is used, whatever generation Redis says is the present one."""
    from petstore import hits

    hits.Look.kept = property(lambda self: [])  # type: ignore[assignment]


def outcome() -> None:
    """A COMMIT that was not answered is taken for one that did not happen."""
    from petstore import causes, errors

    causes.CAUSES = {**causes.CAUSES, "no answer to COMMIT": causes.Cause(errors.Unavailable)}


def _change_query(name: str, old: str, new: str) -> None:
    """Load a query with another text: the modules that run it are imported after this."""
    query = queries.QUERIES[name]
    assert old in query.sql, f"{name} does not say {old}"
    queries.QUERIES = MappingProxyType({**queries.QUERIES, name: replace(query, sql=query.sql.replace(old, new))})


SABOTAGES: dict[str, Callable[[], None]] = {
    made.__name__: made for made in (row_lock, unique_key, generation, shared_generation, asked_generation, outcome)
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    SABOTAGES[name]()
    from petstore import workers
    from petstore.__main__ import main

    workers.COMMAND = (sys.executable, "-m", "tests.history.sabotage", name)
    main(arguments)
