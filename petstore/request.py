"""What a handler takes, a Request, and what it returns: a Document or FileDocument for a read, a Response for everything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import IO, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from petstore.auth.tokens import Caller
from petstore.cache.document import Document, document
from petstore.cache.redis_cache import Cache
from petstore.db import Connection, Database
from petstore.limits.exports import Turn
from petstore.services import Services

P = ParamSpec("P")
T = TypeVar("T")


class Key(NamedTuple):
    """An Idempotency-Key. text: as it is stored; quoted: as it was sent, if that was another text, and is to be stored as well.

    Releases up to 0.2 stored a key with the quotes in which it was sent. Their answers are to be found for 24 hours after the
    upgrade, and while it is under way a node of theirs has to find ours. The release after 0.3 can leave `quoted` out: by then
    every key is stored by its text.
    """

    text: str
    quoted: str | None = None


@dataclass(frozen=True)
class Response:
    """The answer to a write. value: what becomes the JSON body (Request.encode); None for no body."""

    status: int
    value: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileDocument:
    """A Document that is too large for memory. etag: of the bytes as they are without a coding.

    file: open, at its beginning; who sends it closes it. size: of the file, in bytes. in_gzip: whether the file is in gzip.
    """

    file: IO[bytes]
    size: int
    etag: str
    in_gzip: bool = False


@dataclass(frozen=True)
class Request:
    """One request, with token, parameters and body checked by RequestPlugin.

    deadline: time.monotonic() by which it must be answered
    route: method and rule, such as PATCH /admin/invoices/<invoice_id>
    path, query: the wildcards of the path and the query parameters, parsed by their schemas
    body: the validated JSON, None if the route takes none
    caller: the user of the access token, None if the route needs none
    address: the client's, None if it is not known
    key: the Idempotency-Key, if the route takes one and the client sent one
    if_match: the tags of the If-Match, as petstore.web.parameters.if_match gives them, if the client sent one
    turn: the caller's, on a route whose answers are made `by_turns`
    takes_gzip: the client would rather have the answer in gzip
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
    key: Key | None = None
    if_match: tuple[str, ...] | None = None
    turn: Turn | None = None
    takes_gzip: bool = False

    @property
    def db(self) -> Database:
        return self.services.db

    @property
    def cache(self) -> Cache:
        return self.services.cache

    @property
    def user(self) -> Caller:
        """The caller, on a route that needs an access token."""
        if self.caller is None:
            raise AssertionError("this route needs no access token, so it has no caller")
        return self.caller

    @property
    def export_turn(self) -> Turn:
        """The caller's turn, on a route whose answers are made `by_turns`."""
        if self.turn is None:
            raise AssertionError("the answers of this route are not made by turns")
        return self.turn

    def read(self, query: Callable[Concatenate[Connection, P], T], *arguments: P.args, **parameters: P.kwargs) -> T:
        """Call `query(conn, ...)` and return its result, within the deadline. It is retried if the connection breaks."""
        return self.db.read(lambda conn: query(conn, *arguments, **parameters), self.deadline)

    def snapshot(self, query: Callable[Concatenate[Connection, P], T], *arguments: P.args, **parameters: P.kwargs) -> T:
        """As `read`, in one snapshot of the database: for a function that runs several queries."""
        return self.db.snapshot(lambda conn: query(conn, *arguments, **parameters), self.deadline)

    def encode(self, value: Any) -> bytes:
        """A value as JSON bytes; None as no bytes, and bytes as they are.

        Money becomes a string with the currency's digits, a time RFC 3339 in UTC, a day YYYY-MM-DD, a dataclass an object.
        """
        if value is None or isinstance(value, bytes):
            return value or b""
        return encode(value, self.services.settings.minor_digits)

    def document(self, value: Any) -> Document:
        """A single resource as JSON, with its ETag."""
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
