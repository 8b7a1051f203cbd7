"""Lists in pages: `limit`, opaque cursors, and the page that is answered."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from petstore import errors
from petstore.validation import positive_id, timestamp

MAX_LIMIT, DEFAULT_LIMIT = 100, 50


def page_limit(text: str | None) -> int:
    """Items of a page: 1 to 100, default 50."""
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch("[1-9][0-9]{0,2}", text) or int(text) > MAX_LIMIT:
        raise errors.BadRequest(f"limit must be a whole number from 1 to {MAX_LIMIT}.")
    return int(text)


def period(query: Mapping[str, str]) -> tuple[datetime | None, datetime | None]:
    """The times that the parameters `from` (included) and `to` (not included) name; None where there is none."""
    since, until = (timestamp(query[name], name) if name in query else None for name in ("from", "to"))
    return since, until


def make_cursor(scope: str, last_id: int) -> str:
    """An opaque position in the list that `scope` (its name and filters) tells."""
    return base64.urlsafe_b64encode(f"{scope}:{last_id}".encode()).rstrip(b"=").decode()


def read_cursor(scope: str, text: str) -> int:
    """The last id that a page ended with; a cursor of another list or other filters: 400."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        found, _, last_id = raw.rpartition(":")
        if found == scope and make_cursor(found, positive_id(last_id)) == text:
            return int(last_id)
    except (ValueError, binascii.Error, errors.BadRequest):
        pass
    raise errors.BadRequest("after is not a cursor of this list: take it from `next` of the page before, with the same filters.")


def position(query: Mapping[str, str], scope: str, first: int) -> tuple[int, int]:
    """Which page `after` and `limit` ask for: the last id before it, or `first` for the first page; and its limit."""
    return read_cursor(scope, query["after"]) if "after" in query else first, page_limit(query.get("limit"))


def page(scope: str, items: Sequence[Any], limit: int) -> dict[str, Any]:
    """A page of `items`, which were asked for with one more than `limit`: that one tells whether there is a next page."""
    shown = items[:limit]
    return {"items": shown, "next": make_cursor(scope, shown[-1].id) if len(items) > limit else None}
