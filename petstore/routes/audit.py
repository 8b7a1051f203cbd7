"""The audit log, for admins."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from petstore import errors
from petstore.cache import Document
from petstore.calls import Call
from petstore.pagination import page, period, position
from petstore.repository import audit
from petstore.validation import MAX_ID, positive_id


def read(call: Call) -> Document:
    """A page of the audit log, newest first."""
    query = call.query
    actor_id = positive_id(query["actor"], "actor") if "actor" in query else None
    action, (since, until) = query.get("action"), period(query)
    if action is not None and not re.fullmatch(r"[a-z_]{1,30}\.[a-z]{1,10}", action):
        raise errors.BadRequest("action must be what is done to what, such as product.update or session.end.")
    scope = f"audit/{actor_id}/{action}/{since}/{until}"
    before, limit = position(query, scope, MAX_ID)
    filters: dict[str, Any] = {"actor_id": actor_id, "action": action, "since": since, "until": until}
    return call.document(page(scope, call.read(partial(audit.list_entries, **filters, before=before, limit=limit + 1)), limit))
