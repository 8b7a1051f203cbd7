"""How a refusal (409) is stored with its Idempotency-Key: shortly, and so that a replay has the bytes of the first answer.

A replay comes with the same request, so what the request says is not stored, only what the database said: the *facts* of a
Conflict. Its handler makes it again from them. A Conflict without facts is short, and stored as it is. The three forms:

    ["not-enough-stock","<request id>",[3,null]]    slug, request id, facts; facts have null where the request has no fault
    {"type":"/problems/edit-conflict",...}          the body itself
    x...                                            one of these, deflated (zlib, RFC 1950), as it is over 1,000 bytes
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence

from petstore import errors

FromFacts = Callable[[str, Sequence[int | None]], errors.Conflict]  # takes the slug and the facts
_LONG = 1000  # bytes; numbers with many digits become less than half when they are deflated


def pack(conflict: errors.Conflict, request_id: str, body: bytes) -> bytes:
    """What is stored of a refusal. body: as the client gets it."""
    short = body
    if conflict.facts is not None:
        short = json.dumps([conflict.slug, request_id, conflict.facts], separators=(",", ":")).encode()
    return zlib.compress(short, 9) if len(short) > _LONG else short


def unpack(stored: bytes, from_facts: FromFacts | None) -> bytes:
    """The body of a stored refusal. from_facts: of the handler; None: its refusals have none."""
    text = zlib.decompress(stored) if stored.startswith(b"x") else stored
    if from_facts is None or not text.startswith(b"["):
        return text
    slug, request_id, facts = json.loads(text)
    return errors.render(from_facts(slug, facts), request_id)
