"""What a handler is given, a Call, and what it gives back: a Document (a read) or an Answer (all else)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from functools import partial
from threading import BoundedSemaphore
from typing import Any, TypeVar

from petstore import errors
from petstore.cache import Cache
from petstore.db import Connection, Database
from petstore.documents import Document, document
from petstore.memory import Memory
from petstore.rates import Rates
from petstore.repository import audit
from petstore.settings import Settings
from petstore.throttle import Throttle
from petstore.tokens import Tokens, User

TIDY_ONE_IN = 200  # calls of Call.tidy

T = TypeVar("T")


@dataclass(frozen=True)
class Services:
    """What every request shares.

    memory: what this process keeps; throttle: counts failed attempts; rates: all requests; waiters: how many may wait for another
    request's Idempotency-Key at the same time; exports: how many may be made at the same time.
    """

    settings: Settings
    db: Database
    cache: Cache
    memory: Memory
    tokens: Tokens
    throttle: Throttle
    rates: Rates
    waiters: BoundedSemaphore
    exports: BoundedSemaphore


@dataclass(frozen=True)
class Answer:
    """An answer that is no cacheable read. value: what becomes the JSON body, or its very bytes; None for none."""

    status: int
    value: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request, with its token, parameters and body checked.

    route: method and rule, such as PATCH /admin/invoices/<invoice_id>; path: its wildcards, and query: the parameters, both as
    their schemas have them; body: the validated JSON, or None; key: the Idempotency-Key, where the route takes one; deadline:
    time.monotonic() by which it must be answered; address: where it comes from, None when that is not known.
    """

    services: Services
    request_id: str
    deadline: float
    route: str
    path: Mapping[str, Any]
    query: Mapping[str, Any]
    body: Any
    caller: User | None
    address: str | None = None
    key: str | None = None

    @property
    def db(self) -> Database:
        return self.services.db

    @property
    def cache(self) -> Cache:
        return self.services.cache

    @property
    def user(self) -> User:
        """Who calls; only on routes that ask for a token."""
        if self.caller is None:
            raise AssertionError("this route lets anyone in")
        return self.caller

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` reads from the database, within the deadline; it may be run more than once."""
        return self.db.read(work, self.deadline)

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` does in one transaction, within the deadline; see Database.write. For handlers: petstore.writes."""
        actor_id = self.caller.id if self.caller else None
        return self.db.write(work, self.deadline, partial(audit.begin_request, actor_id=actor_id, address=self.address))

    def tidy(self, *purges: Callable[[Connection], int]) -> None:
        """Now and then, run these, each of which removes up to a thousand rows that are long over: more than the calls add."""
        if random.randrange(TIDY_ONE_IN) == 0:
            for purge in purges:
                with suppress(errors.Problem):
                    self.write(purge)

    def snapshot(self, work: Callable[[Connection], T]) -> T:
        """As `read`, with all of it as it was at one moment."""
        return self.db.snapshot(work, self.deadline)

    def encode(self, value: Any) -> bytes:
        """JSON bytes: money as a string with the currency's digits, times in RFC 3339 UTC, dataclasses as objects.

        Days are YYYY-MM-DD. None is no body at all, and bytes stay what they are.
        """
        if value is None or isinstance(value, bytes):
            return value or b""
        return encode(value, self.services.settings.minor_digits)

    def document(self, value: Any) -> Document:
        """A single resource, with its ETag."""
        return document(self.encode(value))


def encode(value: Any, minor_digits: int) -> bytes:
    """See Call.encode."""

    def default(item: Any) -> Any:
        if isinstance(item, Decimal):
            return f"{item:.{minor_digits}f}"
        if isinstance(item, datetime):
            return item.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if isinstance(item, date):
            return item.isoformat()
        if is_dataclass(item):
            return vars(item)
        raise TypeError(type(item).__name__)

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=default).encode() + b"\n"
