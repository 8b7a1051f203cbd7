"""`transact_once`: a write with an Idempotency-Key. It is done once; a retry gets the first answer again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

from petstore import errors
from petstore.db import Connection
from petstore.domain import refusals
from petstore.domain.refusals import FromFacts
from petstore.domain.transactions import transact
from petstore.repository import idempotency
from petstore.repository.idempotency import SavedAnswer
from petstore.request import Key, Request, Response

KEY_WAIT_SECONDS = 2.0  # the longest that a retry waits for the first request with its key
_POLL_SECONDS = 0.05  # between two attempts to claim a key

Work = Callable[[Connection], Response]


def transact_once(
    request: Request, work: Work, *, key: Key | None, invalidates: Sequence[str], from_facts: FromFacts | None = None
) -> Response:
    """As `transact`, but once per key. Claiming the key, `work` and saving its answer are one transaction.

    `work` must raise a Conflict before it writes anything: a Conflict is saved as the answer, so it commits.
    KeyInUse: another request with the key still runs. KeyReused: the key came with a different request. TooManyKeys: the key is
    new, and the account has too many.
    key: None runs a plain `transact`. from_facts: makes a Conflict of `work` that has facts from them again, for a replay.
    """
    if key is None:
        return transact(request, work, invalidates=invalidates)
    keyed = _KeyedWork(request, work, key, from_facts)
    if refusal := request.services.live_keys.known_refusal(request.user.id):
        return keyed.replay_or(refusal)

    def attempt() -> Response:
        return transact(request, keyed.run, invalidates=invalidates, find_outcome=keyed.find_outcome)

    return _retry_while_key_in_use(request, attempt)


def _retry_while_key_in_use(request: Request, attempt: Callable[[], Response]) -> Response:
    """Run `attempt` until it gets the key, for KEY_WAIT_SECONDS. No database connection is held between the attempts."""
    wait_until = time.monotonic() + KEY_WAIT_SECONDS
    waiters = request.services.key_waiters
    try:
        return attempt()
    except errors.KeyInUse:
        if not waiters.acquire(blocking=False):  # each waiter occupies a thread, and a quarter of them wait already
            raise
        try:
            while time.monotonic() + _POLL_SECONDS < wait_until:
                time.sleep(_POLL_SECONDS)
                with suppress(errors.KeyInUse):
                    return attempt()
        finally:
            waiters.release()
        raise


class _RolledBack(Exception):
    """The transaction whose COMMIT got no answer was rolled back."""


class _KeyedWork:
    """The work of a request that has an Idempotency-Key. The methods raise KeyInUse while another transaction has the key."""

    def __init__(self, request: Request, work: Work, key: Key, from_facts: FromFacts | None) -> None:
        self._request, self._work, self._from_facts = request, work, from_facts
        self._key: dict[str, Any] = {"user_id": request.user.id, "route": request.route, "key": key.text}
        self._quoted = self._key | {"key": key.quoted} if key.quoted is not None else None
        self._fingerprint = _fingerprint(request)

    def run(self, conn: Connection) -> Response:
        """Claim the key, do the work, save its answer. If the key was used before: return the saved answer."""
        saved = self._claim_key(conn)
        if saved is not None:
            return self._replay(saved)
        self._request.services.live_keys.claimed(self._request.user.id, partial(idempotency.get_wait, conn))
        try:
            response = self._work(conn)
        except errors.Conflict as conflict:
            return self._save_refusal(conn, conflict)
        body, location = self._request.encode(response.value), response.headers.get("Location")
        for key in self._spellings:
            idempotency.save_answer(conn, **key, status=response.status, location=location, body=body)
        return Response(response.status, body, response.headers)

    def replay_or(self, refusal: errors.Problem) -> Response:
        """The saved answer, without a transaction; raise `refusal` if there is none."""
        for key in self._spellings:
            if (saved := self._request.read(idempotency.get_answer, **key)) is not None:
                return self._replay(saved)
        raise refusal

    def find_outcome(self) -> Response:
        """The saved answer, if the COMMIT that got no answer succeeded. Unavailable: it was rolled back.

        PostgreSQL gives the key out again only when that transaction has ended, so claiming it tells which of the two happened.
        """
        while time.monotonic() + _POLL_SECONDS < self._request.deadline:
            try:
                return transact(self._request, self._find_saved)
            except _RolledBack:
                raise errors.Unavailable(
                    "The connection to the database broke, and nothing was changed. Send it again."
                ) from None
            except (errors.Unavailable, errors.KeyInUse):  # the database is starting up, or the transaction still runs
                time.sleep(_POLL_SECONDS)
        raise errors.OutcomeUnknown(
            "The connection to the database broke while it committed: whether this was done is not known yet. Send the same"
            " request with the same Idempotency-Key again: it is done once, and you get its answer."
        )

    def _find_saved(self, conn: Connection) -> Response:
        saved = self._claim_key(conn)
        if saved is None:
            raise _RolledBack
        return self._replay(saved)

    @property
    def _spellings(self) -> list[dict[str, Any]]:
        """The key by its text and, if it came in quotes, as a node of the release before looks for it (petstore.request.Key)."""
        return [self._key] if self._quoted is None else [self._key, self._quoted]

    def _claim_key(self, conn: Connection) -> SavedAnswer | None:
        """Claim the key for this transaction: None. If the key was used before: the answer of the first request."""
        if self._quoted is not None:
            saved = idempotency.get_answer(conn, **self._quoted)
            if saved is not None and saved.status is not None:
                return saved
        if idempotency.claim_key(conn, **self._key, fingerprint=self._fingerprint) is None:
            saved = idempotency.get_answer(conn, **self._key)
            if saved is None or saved.status is None:
                raise _in_use()
            return saved
        if self._quoted is not None and idempotency.claim_key(conn, **self._quoted, fingerprint=self._fingerprint) is None:
            raise _in_use()  # taken since it was looked up: the next attempt finds its answer
        return None

    def _save_refusal(self, conn: Connection, conflict: errors.Conflict) -> Response:
        body = errors.render(conflict, self._request.request_id)
        short = refusals.pack(conflict, self._request.request_id, body)
        for key in self._spellings:
            idempotency.save_refusal(conn, **key, status=conflict.status, short=short, body=body)
        return Response(conflict.status, body, conflict.headers)

    def _replay(self, saved: SavedAnswer) -> Response:
        if saved.fingerprint != self._fingerprint:
            raise errors.KeyReused(errors=[{"parameter": "Idempotency-Key", "detail": "came with another request before"}])
        headers = {"Idempotent-Replayed": "true"} | ({"Location": saved.location} if saved.location else {})
        status, body = saved.status or 0, saved.body or b""
        return Response(status, refusals.unpack(body, self._from_facts) if status >= 400 else body, headers)


def _in_use() -> errors.KeyInUse:
    return errors.KeyInUse(headers={"Retry-After": "1"})


def _fingerprint(request: Request) -> bytes:
    """SHA-256 of route, path, query and body, independent of the order of members and of the notation of numbers."""
    parts = [request.route, dict(request.path), dict(request.query), _canonical(request.body)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return ["number", format((Decimal(value) or Decimal(0)).normalize(), "f")]  # 12.50 becomes 12.5, and -0 becomes 0
    return value
