"""The transaction of a request: what it commits, and what of the cache it makes invalid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    settle: Callable[[], T] | None = None,
) -> T:
    """Run `work` in one transaction, and return what it returns after COMMIT; what it raises rolls back.

    `work` may run again until COMMIT is sent, so it does nothing but SQL. invalidates: the prefixes of the cache that show what
    it writes. settle: finds out what became of a COMMIT that was not answered; without it that is OutcomeUnknown.
    """

    def work_as_caller(conn: Connection) -> T:
        audit.begin_request(conn, actor_id=request.caller.id if request.caller else None, address=request.address)
        return work(conn)

    with request.cache.writing(*invalidates) as writing:
        try:
            result = request.db.transact(work_as_caller, request.deadline)
        except errors.OutcomeUnknown:
            if settle is None:
                writing.outcome_unknown()
                raise
            result = _settled(settle, writing.outcome_unknown)
        if isinstance(result, Response) and result.status >= 400:
            writing.nothing_written()
    return result


def _settled(settle: Callable[[], T], outcome_unknown: Callable[[], None]) -> T:
    try:
        return settle()
    except errors.OutcomeUnknown:
        outcome_unknown()
        raise
