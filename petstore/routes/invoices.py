"""Invoices: one's own (cached), a single one, and changes of status."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from petstore import errors
from petstore.cached import cached
from petstore.calls import Answer, Call
from petstore.db import Connection
from petstore.documents import Document
from petstore.invoicing import GIVING_BACK, INVOICES, Step, move, no_such_invoice, prefixes, touched, whole
from petstore.pagination import page, position
from petstore.repository import invoices
from petstore.repository.invoices import Invoice, Touched
from petstore.writes import write


def list_invoices(call: Call) -> Document:
    """A page of the caller's invoices, newest first."""
    before, limit = position(call.query, _scope(call.user.id), 0)
    return _page(call, user_id=call.user.id, before=before, limit=limit)


@cached(INVOICES, ttl=600)
def _page(call: Call, *, user_id: int, before: int, limit: int) -> Any:
    items = call.read(partial(invoices.list_invoices, user_id=user_id, before=before, limit=limit + 1))
    return page(_scope(user_id), items, limit)


def _scope(user_id: int) -> str:
    return f"invoices/{user_id}"


def get_invoice(call: Call) -> Document:
    """An invoice with its details, events and credit notes, for its owner and for admins; to anyone else it does not exist."""
    invoice_id = call.path["invoice_id"]
    invoice = touched(call, invoice_id)
    if invoice.user_id != call.user.id and call.user.role != "admin":
        raise no_such_invoice()
    return call.document(call.snapshot(partial(whole, invoice_id=invoice_id)))


def list_all_invoices(call: Call) -> Document:
    """A page of all customers' invoices, newest first."""
    status, user_id, since, until = (call.query.get(name) for name in ("status", "user_id", "from", "to"))
    scope = f"all invoices/{status}/{user_id}/{since}/{until}"
    before, limit = position(call.query, scope, 0)
    items = call.read(partial(_search(status, user_id), since=since, until=until, before=before, limit=limit + 1))
    return call.document(page(scope, items, limit))


def _search(status: str | None, user_id: int | None) -> Callable[..., list[Invoice]]:
    """The query for these filters: each has an index in the order of the list."""
    if user_id is not None:
        return partial(invoices.search_invoices_by_user, user_id=user_id, status=status)
    if status is not None:
        return partial(invoices.search_invoices_by_status, status=status)
    return invoices.search_invoices


def change_invoice(call: Call) -> Answer:
    """Move an invoice to another status; cancelling and refunding put the goods back, unless `restock` is false."""
    status, restock = call.body["status"], call.body.get("restock", True)
    if "restock" in call.body and status != "refunded":
        raise errors.invalid("/restock", "goes with status refunded only")
    return _change(call, touched(call, call.path["invoice_id"]), status, restock)


def cancel_invoice(call: Call) -> Answer:
    """The buyer takes back what is not paid yet; the goods go back into stock."""
    invoice = touched(call, call.path["invoice_id"])
    if invoice.user_id != call.user.id:
        raise no_such_invoice()
    return _change(call, invoice, "cancelled", True)


def _change(call: Call, invoice: Touched, status: str, restock: bool) -> Answer:
    def work(conn: Connection) -> Answer:
        move(Step(conn, invoice.id, call.user.id, call.body.get("reason")), status, restock)
        return Answer(200, whole(conn, invoice.id))

    return write(call, work, *prefixes(invoice, status in GIVING_BACK))
