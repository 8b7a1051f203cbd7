"""`transact`: one database transaction of a request, and the cache entries that it makes invalid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from petstore import errors
from petstore.db import Connection
from petstore.repository import audit
from petstore.request import Request, Response

T = TypeVar("T")


def transact(
    request: Request,
    work: Callable[[Connection], T],
    *,
    invalidates: Sequence[str] = (),
    find_outcome: Callable[[], T] | None = None,
    locks: Callable[[Connection], object] | None = None,
) -> T:
    """Run `work` between BEGIN and COMMIT, and return its result; an exception rolls back.

    `work` runs again after a deadlock or a broken connection, as long as COMMIT was not sent. So it runs SQL and nothing else.
    invalidates: the cache prefixes whose entries show what `work` writes. They are invalid once `transact` returns.
    find_outcome: called when COMMIT was sent and the connection broke before its answer came. It returns the result, or raises.
    Without it, OutcomeUnknown is raised.
    locks: takes locks of accounts that are stronger than what begin_request takes of the caller's; it runs before that, since
    making a lock stronger can deadlock (docs/database.md, Locks).
    """
    request.db.expect_writes()  # before the cache is told: a write that is refused must not cost its entries
    waiting = request.services.lock_waits.waiting_for(*_locked_rows(request, invalidates))
    with waiting as lock_seconds, request.cache.writing(*invalidates) as writing:
        try:
            result = request.db.transact(partial(_run_as_caller, request, work, locks, lock_seconds), request.deadline)
        except errors.OutcomeUnknown:
            if find_outcome is None:
                writing.outcome_unknown()
                raise
            result = _find_outcome(find_outcome, writing.outcome_unknown)
        if isinstance(result, Response) and result.status >= 400:  # a saved refusal was committed, and nothing else
            writing.nothing_written()
    return result


def _locked_rows(request: Request, invalidates: Sequence[str]) -> tuple[list[str], str, str]:
    """What LockWaits.waiting_for takes: the rows, the caller's account, and the kind of a write that may lock others as well."""
    account = f"user:{request.caller.id}" if request.caller else ""
    products = [prefix for prefix in invalidates if prefix.startswith("product:")]
    if products:
        return products, account, ""
    return [f"{request.route} {request.path}"] if request.path else [], account, request.route


def _run_as_caller(
    request: Request,
    work: Callable[[Connection], T],
    locks: Callable[[Connection], object] | None,
    lock_seconds: float | None,
    conn: Connection,
) -> T:
    if lock_seconds is not None:
        conn.queue_command(f"SET LOCAL lock_timeout = {lock_seconds * 1000:.0f}")
    if locks is not None:
        locks(conn)
    audit.begin_request(conn, actor_id=request.caller.id if request.caller else None, address=request.address)
    return work(conn)


def _find_outcome(find_outcome: Callable[[], T], outcome_unknown: Callable[[], None]) -> T:
    try:
        return find_outcome()
    except errors.OutcomeUnknown:
        outcome_unknown()
        raise
