"""Credit notes: an admin takes back a part of an invoice. (Status `refunded` takes back all that remains.)"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from petstore import errors
from petstore.db import Connection
from petstore.domain.idempotency import transact_once
from petstore.domain.invoices import (
    Goods,
    InvoiceChange,
    cache_prefixes,
    credit_goods,
    find_invoice,
    full_credit_notes,
    lock_invoice,
)
from petstore.domain.stock import Line, short_lines, shortages, unknown_products
from petstore.repository import invoices
from petstore.request import Request, Response

CREDITABLE = ("paid", "shipped", "delivered")


def create_credit_note(request: Request) -> Response:
    """Take back pieces of an invoice; they go back into stock unless their line says `restock` false.

    All or nothing: never more pieces than were bought and are not credited yet. It gets the next number of its year.
    """
    invoice_id, lines = request.path["invoice_id"], request.body["lines"]
    invoice = find_invoice(request, invoice_id)
    if faults := unknown_products("lines", lines, invoice.product_ids, "is not on this invoice"):
        raise errors.Invalid(faults)
    goods, from_facts = _goods(lines), partial(_exceeding, lines)

    def credit(conn: Connection) -> Response:
        change = InvoiceChange(conn, invoice_id, request.user.id, request.body.get("reason"))
        locked = lock_invoice(change)
        if locked.status not in CREDITABLE:
            detail = f"The invoice is {locked.status}; one that is {', '.join(CREDITABLE)} can be credited."
            raise errors.NotCreditable(detail, current=locked.status)
        details = invoices.list_invoice_details(conn, invoice_ids=[invoice_id])
        creditable = {detail.product_id: detail.quantity - detail.credited for detail in details}
        short = short_lines(lines, creditable)
        if any(available is not None for available in short):
            raise from_facts(errors.CreditExceedsInvoice.slug, short)
        credit_note_id = credit_goods(change, goods)
        return Response(201, next(note for note in full_credit_notes(conn, [invoice_id]) if note["id"] == credit_note_id))

    # One transaction: BEGIN, claim the key, credit, save the answer, COMMIT. Then the stale cache entries are invalid.
    restocks = any(restock for _, restock in goods)
    stale = cache_prefixes(invoice, restocks)
    return transact_once(request, credit, key=request.key, invalidates=stale, from_facts=from_facts)


def _goods(lines: Sequence[Line]) -> Goods:
    goods: dict[tuple[int, bool], int] = {}
    for line in lines:
        kind = line["product_id"], line.get("restock", True)
        goods[kind] = goods.get(kind, 0) + line["quantity"]
    return goods


def _exceeding(lines: Sequence[Line], slug: str, short: Sequence[int | None]) -> errors.Conflict:
    """The refusal of more than can be credited. slug: its own; short: as short_lines gives it."""
    faults = shortages("lines", lines, short, "bought and not credited yet")
    return errors.CreditExceedsInvoice(errors=faults, facts=short)
