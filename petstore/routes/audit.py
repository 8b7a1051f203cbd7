"""The audit log, for admins."""

from __future__ import annotations

from typing import Any

from petstore.cache.document import Document
from petstore.db import Connection
from petstore.repository import audit
from petstore.repository.audit import Entry
from petstore.request import Request
from petstore.web.pagination import page, position


def list_audit_entries(request: Request) -> Document:
    """A page of the audit log, newest first.

    An entry says who, what, when and which columns, never values. Filters are combined; a cursor goes with its filters only.
    """
    actor_id, action, since, until = (request.query.get(name) for name in ("actor", "action", "from", "to"))
    scope = f"audit/{actor_id}/{action}/{since}/{until}"
    before, limit = position(request.query, scope, 0)
    items = request.read(_list, actor_id=actor_id, action=action, since=since, until=until, before=before, limit=limit + 1)
    return request.document(page(scope, items, limit))


def _list(conn: Connection, /, *, actor_id: int | None, action: str | None, **page: Any) -> list[Entry]:
    """Choose the query that fits the filters. Each has an index in the order of the list."""
    if actor_id is not None:
        return audit.list_entries_by_actor(conn, actor_id=actor_id, action=action, **page)
    if action is not None:
        return audit.list_entries_by_action(conn, action=action, **page)
    return audit.list_entries(conn, **page)
