"""A write: marked in the cache, in one transaction, once for its Idempotency-Key, and settled when COMMIT gave no answer."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

from petstore import errors
from petstore.calls import Answer, Call
from petstore.db import Connection
from petstore.repository import audit, idempotency
from petstore.repository.idempotency import SavedAnswer

TWIN_SECONDS = 2.0  # that a request waits for the first one with its key
_POLL_SECONDS = 0.05  # between two looks at what another transaction is doing

Work = Callable[[Connection], Answer]


def write(call: Call, work: Work, *prefixes: str) -> Answer:
    """Answer with what `work` does in one transaction. prefixes: what of the cache it may change.

    `work` may be run again as long as COMMIT was not sent, so it does nothing but SQL. A Conflict must come before anything is
    written: with an Idempotency-Key it is kept as the answer, and so committed.
    """
    if call.key is None:
        answer = _marked(call, prefixes, lambda: call.write(work))
    else:
        once = _Keyed(call, work).once
        answer = _when_free(call, lambda: _marked(call, prefixes, once))
    call.tidy(idempotency.purge_keys, audit.purge_addresses)
    return answer


def _when_free(call: Call, attempt: Callable[[], Answer]) -> Answer:
    """What `attempt` gives; while another request has the key, wait for it without a connection, as one of a few."""
    wait_until = time.monotonic() + TWIN_SECONDS
    waiters = call.services.waiters
    try:
        return attempt()
    except errors.KeyInUse:
        if not waiters.acquire(blocking=False):  # enough of this process wait already
            raise
        try:
            while time.monotonic() + _POLL_SECONDS < wait_until:
                time.sleep(_POLL_SECONDS)
                with suppress(errors.KeyInUse):
                    return attempt()
        finally:
            waiters.release()
        raise


def _key_in_use() -> errors.KeyInUse:
    return errors.KeyInUse(headers={"Retry-After": "1"})


def _marked(call: Call, prefixes: tuple[str, ...], transact: Callable[[], Answer]) -> Answer:
    """Reads of these prefixes go to the database meanwhile, and find the cache empty after it."""
    mark = call.cache.mark(*prefixes)
    try:
        answer = transact()
    except errors.OutcomeUnknown:
        call.cache.doubt(mark)
        raise
    except BaseException:
        call.cache.unmark(mark)
        raise
    if answer.status < 400:
        call.cache.changed(mark)
    else:
        call.cache.unmark(mark)
    return answer


class _NotDone(Exception):
    """The transaction whose COMMIT gave no answer was rolled back."""


class _Keyed:
    """A write with an Idempotency-Key: the key, the work and the answer are one transaction."""

    def __init__(self, call: Call, work: Work) -> None:
        self._call, self._work = call, work
        self._key: dict[str, Any] = {"user_id": call.user.id, "route": call.route, "key": str(call.key)}
        self._fingerprint = _fingerprint(call)

    def once(self) -> Answer:
        """Do it, or tell what was answered; KeyInUse while another transaction has the key."""
        try:
            return self._call.write(self._transact)
        except errors.OutcomeUnknown:
            return self._settle()

    def _transact(self, conn: Connection) -> Answer:
        saved = self._claim(conn)
        if saved is not None:
            return self._replay(saved)
        try:
            answer = self._work(conn)
        except errors.Conflict as refusal:
            answer = Answer(refusal.status, errors.render(refusal, self._call.request_id), refusal.headers)
        body, location = self._call.encode(answer.value), answer.headers.get("Location")
        idempotency.save_answer(conn, **self._key, status=answer.status, location=location, body=body)
        return Answer(answer.status, body, answer.headers)

    def _claim(self, conn: Connection) -> SavedAnswer | None:
        """Take the key for this transaction, or tell what the first one with it was answered; KeyInUse while that one runs."""
        if idempotency.claim_key(conn, **self._key, fingerprint=self._fingerprint) is not None:
            return None
        saved = idempotency.get_answer(conn, **self._key)
        if saved is None or saved.status is None:
            raise _key_in_use()
        return saved

    def _replay(self, saved: SavedAnswer) -> Answer:
        if saved.fingerprint != self._fingerprint:
            raise errors.KeyReused(errors=[{"parameter": "Idempotency-Key", "detail": "came with another request before"}])
        headers = {"Idempotent-Replayed": "true"} | ({"Location": saved.location} if saved.location else {})
        return Answer(saved.status or 0, saved.body, headers)

    def _settle(self) -> Answer:
        """What became of the transaction whose COMMIT gave no answer: its key can be taken anew when it has ended, not before."""

        def look(conn: Connection) -> Answer:
            saved = self._claim(conn)
            if saved is None:
                raise _NotDone
            return self._replay(saved)

        while time.monotonic() + _POLL_SECONDS < self._call.deadline:
            try:
                return self._call.write(look)
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


def _fingerprint(call: Call) -> bytes:
    """SHA-256 of all that makes the request what it is; neither the order of members nor the notation of numbers does."""
    whole = [call.route, dict(call.path), dict(call.query), _canonical(call.body)]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).digest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return ["number", format((Decimal(value) or Decimal(0)).normalize(), "f")]  # 12.50 is 12.5, and -0 is 0
    return value
