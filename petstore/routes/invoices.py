"""Invoices: the caller's own (cached), a single one, all of them for admins, and changes of status."""

from __future__ import annotations

from typing import Any

from petstore import errors
from petstore.cache.decorator import cached
from petstore.cache.document import Document
from petstore.cache.prefixes import INVOICES
from petstore.db import Connection
from petstore.domain.idempotency import transact_once
from petstore.domain.invoices import (
    RETURN_STATUSES,
    InvoiceChange,
    cache_prefixes,
    change_status,
    find_invoice,
    full_invoice,
    no_such_invoice,
)
from petstore.repository import invoices
from petstore.repository.invoices import Invoice, InvoiceReferences
from petstore.request import Request, Response
from petstore.web.pagination import page, position


def list_invoices(request: Request) -> Document:
    """A page of the caller's invoices, newest first."""
    before, limit = position(request.query, _scope(request.user.id), 0)
    return _page(request, user_id=request.user.id, before=before, limit=limit)


@cached(INVOICES, ttl=600)
def _page(request: Request, *, user_id: int, before: int, limit: int) -> Any:
    items = request.read(invoices.list_invoices, user_id=user_id, before=before, limit=limit + 1)
    return page(_scope(user_id), items, limit)


def _scope(user_id: int) -> str:
    return f"invoices/{user_id}"


def get_invoice(request: Request) -> Document:
    """An invoice with its details, events and credit notes, for its owner and for admins; for anyone else a 404."""
    invoice_id = request.path["invoice_id"]
    invoice = find_invoice(request, invoice_id)
    if invoice.user_id != request.user.id and request.user.role != "admin":
        raise no_such_invoice()
    return request.document(request.snapshot(full_invoice, invoice_id=invoice_id))


def list_all_invoices(request: Request) -> Document:
    """A page of all customers' invoices, newest first."""
    status, user_id, since, until = (request.query.get(name) for name in ("status", "user_id", "from", "to"))
    scope = f"all invoices/{status}/{user_id}/{since}/{until}"
    before, limit = position(request.query, scope, 0)
    items = request.read(_search, status=status, user_id=user_id, since=since, until=until, before=before, limit=limit + 1)
    return request.document(page(scope, items, limit))


def _search(conn: Connection, /, *, status: str | None, user_id: int | None, **page: Any) -> list[Invoice]:
    """Choose the query that fits the filters. Each has an index in the order of the list."""
    if user_id is not None:
        return invoices.search_invoices_by_user(conn, user_id=user_id, status=status, **page)
    if status is not None:
        return invoices.search_invoices_by_status(conn, status=status, **page)
    return invoices.search_invoices(conn, **page)


def change_invoice(request: Request) -> Response:
    """Give an invoice another status; cancelling and refunding put the goods back, unless `restock` is false."""
    status, restock = request.body["status"], request.body.get("restock")
    if "restock" in request.body and status != "refunded":
        raise errors.invalid("/restock", "goes with status refunded only")
    return _change(request, find_invoice(request, request.path["invoice_id"]), status, restock)


def cancel_invoice(request: Request) -> Response:
    """Cancel the caller's own invoice, if it is not paid yet; the goods go back into stock."""
    invoice = find_invoice(request, request.path["invoice_id"])
    if invoice.user_id != request.user.id:
        raise no_such_invoice()
    return _change(request, invoice, "cancelled")


def _change(request: Request, invoice: InvoiceReferences, status: str, restock: bool | None = None) -> Response:
    """One transaction: BEGIN, claim the key, change, save the answer, COMMIT. Then the stale cache entries are invalid."""

    def change(conn: Connection) -> Response:
        change_status(InvoiceChange(conn, invoice.id, request.user.id, request.body.get("reason")), status, restock)
        return Response(200, full_invoice(conn, invoice.id))

    restocks = status in RETURN_STATUSES
    return transact_once(request, change, key=request.key, invalidates=cache_prefixes(invoice, restocks))
