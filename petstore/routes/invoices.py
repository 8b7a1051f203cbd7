"""Invoices: one's own (cached), a single one, and an admin's changes of status."""

from __future__ import annotations

from typing import Any

from petstore import errors
from petstore.cache import Document, cached
from petstore.calls import Answer, Call
from petstore.db import Connection
from petstore.pagination import page, page_limit, read_cursor
from petstore.repository import invoices
from petstore.repository.invoices import LockedInvoice
from petstore.routes import INVOICES, PRODUCTS
from petstore.validation import MAX_ID, positive_id


def list_own(call: Call) -> Document:
    """A page of the caller's invoices, newest first."""
    before = read_cursor(_scope(call.user.id), call.query["after"]) if "after" in call.query else MAX_ID
    return _page(call, user_id=call.user.id, before=before, limit=page_limit(call.query.get("limit")))


@cached(INVOICES, ttl=600)
def _page(call: Call, *, user_id: int, before: int, limit: int) -> Any:
    with call.db.connection() as conn:
        items = invoices.list_invoices(conn, user_id=user_id, before=before, limit=limit + 1)
    return page(_scope(user_id), items, limit)


def _scope(user_id: int) -> str:
    return f"invoices/{user_id}"


def read(call: Call) -> Document:
    """An invoice with its details, for its owner and for admins; to anyone else it does not exist."""
    invoice_id = positive_id(call.path["invoice_id"])
    with call.db.connection() as conn:
        invoice = invoices.get_invoice(conn, invoice_id=invoice_id)
        if invoice is None or (invoice.user_id != call.user.id and call.user.role != "admin"):
            raise _no_such_invoice()
        details = invoices.list_invoice_details(conn, invoice_id=invoice_id)
    return call.document({**vars(invoice), "details": details})


def change(call: Call) -> Answer:
    """Move an invoice to another status; cancelling and refunding put the goods back, unless `restock` is false."""
    invoice_id = positive_id(call.path["invoice_id"])
    status = call.body["status"]
    if "restock" in call.body and status != "refunded":
        raise errors.invalid("/restock", "goes with status refunded only")
    with call.db.transaction() as conn:
        locked = invoices.lock_invoice(conn, invoice_id=invoice_id)
        if locked is None:
            raise _no_such_invoice()
        restocked = status != locked.status and _move(call, conn, invoice_id, locked)
        invoice = invoices.get_invoice(conn, invoice_id=invoice_id)
        details = invoices.list_invoice_details(conn, invoice_id=invoice_id)
    call.cache.invalidate(INVOICES.format(user_id=locked.user_id), *([PRODUCTS] if restocked else []))
    return Answer(200, {**vars(invoice), "details": details})


def _move(call: Call, conn: Connection, invoice_id: int, locked: LockedInvoice) -> bool:
    """Change the status of a locked invoice; whether its goods went back into stock."""
    status, restock, reason = call.body["status"], call.body.get("restock", True), call.body.get("reason")
    if status not in locked.allowed:
        raise errors.TransitionNotAllowed(f"The invoice is {locked.status}.", current=locked.status, allowed=locked.allowed)
    step = {"invoice_id": invoice_id, "from_status": locked.status, "to_status": status}
    if not invoices.update_status(conn, **step):
        raise LookupError("a locked invoice has changed its status")
    restocked = invoices.create_event(conn, **step, actor_id=call.user.id, restock=restock, reason=reason)
    if restocked:
        invoices.return_stock(conn, invoice_id=invoice_id)
    return restocked


def _no_such_invoice() -> errors.NotFound:
    return errors.NotFound("There is no invoice with this id.")
