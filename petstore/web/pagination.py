"""Pagination: `limit`, opaque cursors, and the page as it is answered."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from petstore import errors
from petstore.web.parameters import PARAMETERS, fault, parse_parameter

LIMIT = 50  # items of a page. Not a default in the schema: generated clients would send it along with `id` or `email`.


def make_cursor(scope: str, last_id: int) -> str:
    """An opaque position in a list. scope: the list's name and filters, so that the cursor fits no other list."""
    return base64.urlsafe_b64encode(f"{scope}:{last_id}".encode()).rstrip(b"=").decode()


def read_cursor(scope: str, text: str) -> int:
    """The id that the page before ended with. A cursor of another list or other filters is a BadRequest."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        found, _, last_id = raw.rpartition(":")
        if found == scope and make_cursor(found, parse_parameter("id", last_id, PARAMETERS["id"])) == text:
            return int(last_id)
    except (ValueError, binascii.Error, errors.BadRequest):
        pass
    raise fault("after", "is not a cursor of this list: take it from `next` of the page before, with the same filters")


def position(query: Mapping[str, Any], scope: str, first: int) -> tuple[int, int]:
    """The page that `after` and `limit` ask for: the id before it (`first` for the first page), and its limit."""
    last_id = read_cursor(scope, query["after"]) if "after" in query else first
    return last_id, query.get("limit", LIMIT)


def page(scope: str, items: Sequence[Any], limit: int) -> dict[str, Any]:
    """A page as JSON. items: up to `limit` + 1; the extra one says that there is a next page."""
    shown = items[:limit]
    return {"items": shown, "next": make_cursor(scope, shown[-1].id) if len(items) > limit else None}
