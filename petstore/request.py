"""What a handler is given, a Request, and what it gives back: a Document (a read) or a Response (all else)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Concatenate, ParamSpec, TypeVar

from petstore.auth.tokens import Caller
from petstore.cache.document import Document, document
from petstore.cache.redis_cache import Cache
from petstore.db import Connection, Database
from petstore.services import Services

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Response:
    """An answer that is no cacheable read. value: what becomes the JSON body, or its very bytes; None for none."""

    status: int
    value: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
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
    caller: Caller | None
    address: str | None = None
    key: str | None = None

    @property
    def db(self) -> Database:
        return self.services.db

    @property
    def cache(self) -> Cache:
        return self.services.cache

    @property
    def user(self) -> Caller:
        """Who calls; only on routes that ask for a token."""
        if self.caller is None:
            raise AssertionError("this route lets anyone in")
        return self.caller

    def read(self, query: Callable[Concatenate[Connection, P], T], *arguments: P.args, **parameters: P.kwargs) -> T:
        """What a query gives for these parameters, within the deadline; it may be run more than once."""
        return self.db.read(lambda conn: query(conn, *arguments, **parameters), self.deadline)

    def snapshot(self, query: Callable[Concatenate[Connection, P], T], *arguments: P.args, **parameters: P.kwargs) -> T:
        """As `read`, with all of it as it was at one moment: for what takes several queries."""
        return self.db.snapshot(lambda conn: query(conn, *arguments, **parameters), self.deadline)

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
    """See Request.encode."""

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
