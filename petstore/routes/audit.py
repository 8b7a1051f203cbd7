"""The audit log, for admins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from petstore.calls import Call
from petstore.documents import Document
from petstore.pagination import page, position
from petstore.repository import audit
from petstore.repository.audit import Entry


def list_audit_entries(call: Call) -> Document:
    """A page of the audit log, newest first."""
    actor_id, action, since, until = (call.query.get(name) for name in ("actor", "action", "from", "to"))
    scope = f"audit/{actor_id}/{action}/{since}/{until}"
    before, limit = position(call.query, scope, 0)
    items = call.read(partial(_list(actor_id, action), since=since, until=until, before=before, limit=limit + 1))
    return call.document(page(scope, items, limit))


def _list(actor_id: int | None, action: str | None) -> Callable[..., list[Entry]]:
    """The query for these filters: each has an index in the order of the list."""
    if actor_id is not None:
        return partial(audit.list_entries_by_actor, actor_id=actor_id, action=action)
    if action is not None:
        return partial(audit.list_entries_by_action, action=action)
    return audit.list_entries
