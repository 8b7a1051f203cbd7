"""Idempotency-Key: a write is done once for its key, and a retry gets the first answer again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from petstore import errors
from petstore.db import Connection
from petstore.domain.transactions import transact
from petstore.repository import idempotency
from petstore.repository.idempotency import SavedAnswer
from petstore.request import Request, Response

KEY_WAIT_SECONDS = 2.0  # that a request waits for the first one with its key
_POLL_SECONDS = 0.05  # between two looks at what another transaction is doing

Work = Callable[[Connection], Response]


def transact_once(request: Request, work: Work, *, key: str | None, invalidates: Sequence[str]) -> Response:
    """As `transact`, and once for this key: claiming it, the work and its answer are one transaction.

    A Conflict is kept as the answer and so committed: `work` raises it before it writes anything. KeyInUse while another request
    has the key; KeyReused when the key came with another request. Without a key it is `transact`.
    """
    if key is None:
        return transact(request, work, invalidates=invalidates)
    once = _Once(request, work, key)
    return _when_key_is_free(request, lambda: transact(request, once.run, invalidates=invalidates, settle=once.settle))


def _when_key_is_free(request: Request, attempt: Callable[[], Response]) -> Response:
    """What `attempt` gives. While another request has the key, wait for it, without a database connection."""
    wait_until = time.monotonic() + KEY_WAIT_SECONDS
    waiters = request.services.key_waiters
    try:
        return attempt()
    except errors.KeyInUse:
        if not waiters.acquire(blocking=False):  # each waits in a thread: enough of this process wait already
            raise
        try:
            while time.monotonic() + _POLL_SECONDS < wait_until:
                time.sleep(_POLL_SECONDS)
                with suppress(errors.KeyInUse):
                    return attempt()
        finally:
            waiters.release()
        raise


class _NotDone(Exception):
    """The transaction whose COMMIT was not answered was rolled back."""


class _Once:
    """Work that is done once for its key. Both methods may raise KeyInUse."""

    def __init__(self, request: Request, work: Work, key: str) -> None:
        self._request, self._work = request, work
        self._key: dict[str, Any] = {"user_id": request.user.id, "route": request.route, "key": key}
        self._fingerprint = _fingerprint(request)

    def run(self, conn: Connection) -> Response:
        """Claim the key, do the work, save its answer; or give the saved answer of the first request with the key."""
        saved = self._claim(conn)
        if saved is not None:
            return self._replay(saved)
        try:
            response = self._work(conn)
        except errors.Conflict as conflict:
            response = Response(conflict.status, errors.render(conflict, self._request.request_id), conflict.headers)
        body, location = self._request.encode(response.value), response.headers.get("Location")
        idempotency.save_answer(conn, **self._key, status=response.status, location=location, body=body)
        return Response(response.status, body, response.headers)

    def settle(self) -> Response:
        """What became of a COMMIT that was not answered: the key can be claimed again once that transaction has ended."""
        while time.monotonic() + _POLL_SECONDS < self._request.deadline:
            try:
                return transact(self._request, self._find)
            except _NotDone:
                raise errors.Unavailable(
                    "The connection to the database broke, and nothing was changed. Send it again."
                ) from None
            except (errors.Unavailable, errors.KeyInUse):  # the database is starting, or that transaction still runs
                time.sleep(_POLL_SECONDS)
        raise errors.OutcomeUnknown(
            "The connection to the database broke while it committed: whether this was done is not known yet. Send the same"
            " request with the same Idempotency-Key again: it is done once, and you get its answer."
        )

    def _find(self, conn: Connection) -> Response:
        saved = self._claim(conn)
        if saved is None:
            raise _NotDone
        return self._replay(saved)

    def _claim(self, conn: Connection) -> SavedAnswer | None:
        """Take the key for this transaction, or give what the first request with it was answered; KeyInUse while it runs."""
        if idempotency.claim_key(conn, **self._key, fingerprint=self._fingerprint) is not None:
            return None
        saved = idempotency.get_answer(conn, **self._key)
        if saved is None or saved.status is None:
            raise errors.KeyInUse(headers={"Retry-After": "1"})
        return saved

    def _replay(self, saved: SavedAnswer) -> Response:
        if saved.fingerprint != self._fingerprint:
            raise errors.KeyReused(errors=[{"parameter": "Idempotency-Key", "detail": "came with another request before"}])
        headers = {"Idempotent-Replayed": "true"} | ({"Location": saved.location} if saved.location else {})
        return Response(saved.status or 0, saved.body, headers)


def _fingerprint(request: Request) -> bytes:
    """SHA-256 of route, path, query and body. The order of members and the notation of numbers make no difference."""
    whole = [request.route, dict(request.path), dict(request.query), _canonical(request.body)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).digest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return ["number", format((Decimal(value) or Decimal(0)).normalize(), "f")]  # 12.50 is 12.5, and -0 is 0
    return value
