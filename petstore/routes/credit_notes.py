"""Credit notes: an admin takes back a part of an invoice. (Status `refunded` takes back all that remains.)"""

from __future__ import annotations

from petstore import errors
from petstore.db import Connection
from petstore.domain.idempotency import transact_once
from petstore.domain.invoices import (
    InvoiceChange,
    cache_prefixes,
    credit_goods,
    find_invoice,
    full_credit_notes,
    lock_invoice,
)
from petstore.domain.stock import shortages, sum_lines, unknown_products
from petstore.repository import invoices
from petstore.request import Request, Response

CREDITABLE = ("paid", "shipped", "delivered")


def create_credit_note(request: Request) -> Response:
    """Take back pieces of an invoice; they go back into stock unless their line says `restock` false."""
    invoice_id, lines = request.path["invoice_id"], request.body["lines"]
    invoice = find_invoice(request, invoice_id)
    if faults := unknown_products("lines", lines, invoice.product_ids, "is not on this invoice"):
        raise errors.Invalid(faults)
    goods: dict[tuple[int, bool], int] = {}
    for line in lines:
        kind = line["product_id"], line.get("restock", True)
        goods[kind] = goods.get(kind, 0) + line["quantity"]

    def credit(conn: Connection) -> Response:
        change = InvoiceChange(conn, invoice_id, request.user.id, request.body.get("reason"))
        locked = lock_invoice(change)
        if locked.status not in CREDITABLE:
            detail = f"The invoice is {locked.status}; one that is {', '.join(CREDITABLE)} can be credited."
            raise errors.NotCreditable(detail, current=locked.status)
        details = invoices.list_invoice_details(conn, invoice_ids=[invoice_id])
        creditable = {detail.product_id: detail.quantity - detail.credited for detail in details}
        if faults := shortages("lines", lines, sum_lines(lines), creditable, "bought and not credited yet"):
            raise errors.CreditExceedsInvoice(errors=faults)
        credit_note_id = credit_goods(change, goods)
        return Response(201, next(note for note in full_credit_notes(conn, [invoice_id]) if note["id"] == credit_note_id))

    # One transaction: BEGIN, claim the key, credit, save the answer, COMMIT. Then the stale cache entries are invalid.
    restocks = any(restock for _, restock in goods)
    return transact_once(request, credit, key=request.key, invalidates=cache_prefixes(invoice, restocks))
