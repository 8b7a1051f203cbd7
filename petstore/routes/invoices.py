"""Invoices: the caller's own (cached), a single one, all of them for admins, and changes of status."""

from __future__ import annotations

from collections.abc import Mapping
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
from petstore.repository import invoices, users
from petstore.repository.invoices import InvoiceReferences, InvoiceWithEmail
from petstore.request import Request, Response
from petstore.web.pagination import page, position


def list_invoices(request: Request) -> Document:
    """A page of the caller's invoices, newest first.

    Without their lines, which GET /invoices/{invoice_id} has. Filters can be combined; a cursor goes with its filters only.
    """
    query, filters = request.query, {"status": request.query.get("status"), **_period(request)}
    before, limit = position(query, _scope(request.user.id, filters), 0)
    return _page(request, user_id=request.user.id, before=before, limit=limit, **filters)


@cached(INVOICES, ttl=600)
def _page(request: Request, /, *, user_id: int, before: int, limit: int, **filters: Any) -> Any:
    items = request.read(invoices.list_invoices, user_id=user_id, before=before, limit=limit + 1, **filters)
    return page(_scope(user_id, filters), items, limit)


def _scope(user_id: int, filters: Mapping[str, Any]) -> str:
    """Without filters it is that of releases that had none, whose cursors go on."""
    return "/".join(map(str, ["invoices", user_id, *(filters.values() if any(filters.values()) else ())]))


def _period(request: Request) -> dict[str, Any]:
    return {"since": request.query.get("from"), "until": request.query.get("to")}


def get_invoice(request: Request) -> Document:
    """An invoice with its details, events and credit notes, for its owner and for admins; for anyone else a 404.

    The names and prices are those of the moment of purchase, whatever the products are called and cost now.
    """
    invoice_id = request.path["invoice_id"]
    invoice = find_invoice(request, invoice_id)
    if invoice.user_id != request.user.id and request.user.role != "admin":
        raise no_such_invoice()
    return request.document(request.snapshot(full_invoice, invoice_id=invoice_id))


def list_all_invoices(request: Request) -> Document:
    """A page of all customers' invoices, newest first, each with the email of its customer.

    `number` finds one invoice, `email` those of one account. Filters can be combined; a cursor goes with its filters only.
    """
    query, period = request.query, _period(request)
    number, status, customer = query.get("number"), query.get("status"), _customer(request)
    filters = [status, query.get("user_id"), *period.values()]
    if number or "email" in query:
        filters += [number, customer if "email" in query else None]
    scope = "/".join(map(str, ["all invoices", *filters]))
    before, limit = position(query, scope, 0)
    place = {"before": before, "limit": limit + 1}
    items = request.read(_search, number=number, status=status, user_id=customer, **period, **place)
    return request.document(page(scope, items, limit))


def _customer(request: Request) -> int | None:
    """The account that `user_id` and `email` ask for: None for any, 0 if there is none that fits both."""
    user_id: int | None = request.query.get("user_id")
    if "email" not in request.query:
        return user_id
    account = request.read(users.find_user, email=request.query["email"])
    return account.id if account is not None and user_id in (None, account.id) else 0


def _search(
    conn: Connection, /, *, number: str | None, status: str | None, user_id: int | None, before: int, limit: int, **period: Any
) -> list[InvoiceWithEmail]:
    """Choose the query that fits the filters. Each has an index in the order of the list."""
    if number is not None:
        return invoices.search_invoices_by_number(conn, number=number, user_id=user_id, status=status, **period)
    if user_id is not None:
        return invoices.search_invoices_by_user(conn, user_id=user_id, status=status, **period, before=before, limit=limit)
    if status is not None:
        return invoices.search_invoices_by_status(conn, status=status, **period, before=before, limit=limit)
    return invoices.search_invoices(conn, **period, before=before, limit=limit)


def change_invoice(request: Request) -> Response:
    """Give an invoice another status; cancelling and refunding put the goods back, unless `restock` is false.

    A 409 says the `current` status and which are `allowed` next. An invoice gets its number when it becomes paid.
    """
    status, restock = request.body["status"], request.body.get("restock")
    if "restock" in request.body and status != "refunded":
        raise errors.invalid("/restock", "goes with status refunded only")
    return _change(request, find_invoice(request, request.path["invoice_id"]), status, restock)


def cancel_invoice(request: Request) -> Response:
    """Cancel the caller's own invoice, if it is not paid yet; the goods go back into stock.

    Only while it is pending. The body may be left out.
    """
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
