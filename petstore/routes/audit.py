"""The audit log, for admins."""

from __future__ import annotations

from functools import partial
from typing import Any

from petstore.calls import Call
from petstore.documents import Document
from petstore.pagination import page, position
from petstore.parameters import MAX_ID
from petstore.repository import audit


def list_audit_entries(call: Call) -> Document:
    """A page of the audit log, newest first."""
    actor_id, action, since, until = (call.query.get(name) for name in ("actor", "action", "from", "to"))
    scope = f"audit/{actor_id}/{action}/{since}/{until}"
    before, limit = position(call.query, scope, MAX_ID)
    filters: dict[str, Any] = {"actor_id": actor_id, "action": action, "since": since, "until": until}
    return call.document(page(scope, call.read(partial(audit.list_entries, **filters, before=before, limit=limit + 1)), limit))
