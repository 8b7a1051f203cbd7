"""A write: marked in the cache, in one transaction, once for its Idempotency-Key, and settled when COMMIT gave no answer."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

from petstore import errors
from petstore.calls import Answer, Call
from petstore.db import Connection, LockTimeout
from petstore.repository import idempotency
from petstore.repository.idempotency import SavedAnswer
from petstore.waiting import TurnTaken

TWIN_SECONDS = 2.0  # that a request waits for the first one with its key
PURGE_ONE_IN = 200  # keyed writes, each of which removes up to a thousand old keys: more than they add
_SETTLE_SECONDS = 0.05  # between two looks for what became of a transaction

Work = Callable[[Connection], Answer]


def write(call: Call, work: Work, *prefixes: str) -> Answer:
    """Answer with what `work` does in one transaction. prefixes: what of the cache it may change.

    `work` may be run again as long as COMMIT was not sent, so it does nothing but SQL. A Conflict must come before anything is
    written: with an Idempotency-Key it is kept as the answer, and so committed.
    """
    if call.key is None:
        return _marked(call, prefixes, lambda: _keyless(call, work))
    with _turn(call):
        answer = _marked(call, prefixes, _Keyed(call, work).answer)
    if random.randrange(PURGE_ONE_IN) == 0:
        with suppress(errors.Problem):
            call.db.write(idempotency.purge_keys, call.deadline)
    return answer


_LOOK = (
    "The connection to the database broke while it committed: whether this was done is not known. Read what it was to change "
    "(GET /invoices, GET /products?id=X) before you send it again; with an Idempotency-Key it can be sent again at once."
)
_ASK_AGAIN = (
    "The connection to the database broke while it committed: whether this was done is not known yet. Send the same request with "
    "the same Idempotency-Key again: it is done once, and you get its answer."
)
_NOTHING_DONE = "The connection to the database broke, and nothing was changed. Send the request again."


def _marked(call: Call, prefixes: tuple[str, ...], transact: Callable[[], Answer]) -> Answer:
    """Reads of these prefixes go to the database meanwhile, and find the cache empty after it."""
    mark = call.cache.mark(*prefixes)
    try:
        answer = transact()
    except errors.OutcomeUnknown:
        raise  # it may still be committed: the mark stays until it is overdue
    except BaseException:
        call.cache.unmark(mark)
        raise
    if answer.status < 400:
        call.cache.changed(mark)
    else:
        call.cache.unmark(mark)
    return answer


def _keyless(call: Call, work: Work) -> Answer:
    try:
        return call.db.write(work, call.deadline)
    except errors.OutcomeUnknown as unknown:
        raise errors.OutcomeUnknown(_LOOK) from unknown


@contextmanager
def _turn(call: Call) -> Iterator[None]:
    """Twins of this process wait here, a few of them, and not on connections."""
    try:
        with call.services.turns.turn((call.user.id, call.route, call.key), TWIN_SECONDS):
            yield
    except TurnTaken:
        raise _key_in_use() from None


def _key_in_use() -> errors.KeyInUse:
    return errors.KeyInUse(headers={"Retry-After": "1"})


class _NotDone(Exception):
    """The transaction whose COMMIT gave no answer was rolled back."""


class _Keyed:
    """A write with an Idempotency-Key: the key, the work and the answer are one transaction."""

    def __init__(self, call: Call, work: Work) -> None:
        self._call, self._work = call, work
        self._key: dict[str, Any] = {"user_id": call.user.id, "route": call.route, "key": str(call.key)}
        self._fingerprint = _fingerprint(call)

    def answer(self) -> Answer:
        try:
            return self._call.db.write(self._transact, self._call.deadline)
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
        """Take the key for this transaction, or tell what the first request with it was answered."""
        try:
            if idempotency.claim_key(conn, **self._key, fingerprint=self._fingerprint) is not None:
                return None
        except LockTimeout:  # the first one is running, in another process
            raise _key_in_use() from None
        saved = idempotency.get_answer(conn, **self._key)
        if saved is None or saved.status is None:
            raise _key_in_use()
        return saved

    def _replay(self, saved: SavedAnswer) -> Answer:
        if saved.fingerprint != self._fingerprint:
            raise errors.KeyReused()
        headers = {"Idempotent-Replayed": "true"} | ({"Location": saved.location} if saved.location else {})
        return Answer(saved.status or 0, saved.body, headers)

    def _settle(self) -> Answer:
        """What became of the transaction whose COMMIT gave no answer: taking its key anew waits for its end."""

        def look(conn: Connection) -> Answer:
            saved = self._claim(conn)
            if saved is None:
                raise _NotDone
            return self._replay(saved)

        while time.monotonic() + _SETTLE_SECONDS < self._call.deadline:
            try:
                return self._call.db.write(look, self._call.deadline)
            except _NotDone:
                raise errors.Unavailable(_NOTHING_DONE) from None
            except (errors.Unavailable, errors.KeyInUse):  # the database is starting, or that transaction still runs
                time.sleep(_SETTLE_SECONDS)
        raise errors.OutcomeUnknown(_ASK_AGAIN)


def _fingerprint(call: Call) -> bytes:
    """SHA-256 of all that makes the request what it is; the order of its members does not."""
    whole = [call.route, dict(call.path), dict(call.query), call.body]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=_plain).encode()).digest()


def _plain(value: Any) -> str:
    if not isinstance(value, Decimal):
        raise TypeError(type(value).__name__)
    return str(value.normalize())  # 12.50 is 12.5
