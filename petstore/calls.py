"""What a handler is given, a Call, and what it gives back: a Document (a read) or an Answer (all else)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from petstore.cache import Cache, Document, document
from petstore.db import Database
from petstore.settings import Settings
from petstore.tokens import Tokens, User


@dataclass(frozen=True)
class Services:
    """What every request shares."""

    settings: Settings
    db: Database
    cache: Cache
    tokens: Tokens


@dataclass(frozen=True)
class Answer:
    """An answer that is no cacheable read. value: what becomes the JSON body; None for none."""

    status: int
    value: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request, with its token, parameters and body checked.

    path: the wildcards of the route, as sent; query: the parameters, as sent; body: the validated JSON, or None.
    """

    services: Services
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    caller: User | None

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

    def encode(self, value: Any) -> bytes:
        """JSON bytes: money as a string with the currency's digits, times in RFC 3339 UTC, dataclasses as objects."""
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
        if is_dataclass(item):
            return vars(item)
        raise TypeError(type(item).__name__)

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=default).encode() + b"\n"
