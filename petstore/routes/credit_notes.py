"""Credit notes: what an admin takes back of an invoice, in part; a refund is one for all that remains."""

from __future__ import annotations

from petstore import errors
from petstore.db import Connection
from petstore.domain.idempotency import transact_once
from petstore.domain.invoices import Step, credit, credit_notes, lock, prefixes, touched
from petstore.domain.stock import shortages, sum_lines, unknown_products
from petstore.repository import invoices
from petstore.request import Request, Response

CREDITABLE = ("paid", "shipped", "delivered")


def create_credit_note(request: Request) -> Response:
    """Take back pieces of an invoice; they go back into stock unless their line says `restock` false."""
    invoice_id, lines = request.path["invoice_id"], request.body["lines"]
    invoice = touched(request, invoice_id)
    if faults := unknown_products("lines", lines, invoice.product_ids, "is not on this invoice"):
        raise errors.Invalid(faults)
    goods: dict[tuple[int, bool], int] = {}
    for line in lines:
        kind = line["product_id"], line.get("restock", True)
        goods[kind] = goods.get(kind, 0) + line["quantity"]

    def work(conn: Connection) -> Response:
        step = Step(conn, invoice_id, request.user.id, request.body.get("reason"))
        locked = lock(step)
        if locked.status not in CREDITABLE:
            detail = f"The invoice is {locked.status}; one that is {', '.join(CREDITABLE)} can be credited."
            raise errors.NotCreditable(detail, current=locked.status)
        details = invoices.list_invoice_details(conn, invoice_ids=[invoice_id])
        left = {detail.product_id: detail.quantity - detail.credited for detail in details}
        if faults := shortages("lines", lines, sum_lines(lines), left, "bought and not credited yet"):
            raise errors.CreditExceedsInvoice(errors=faults)
        credit_note_id = credit(step, goods)
        return Response(201, next(note for note in credit_notes(conn, [invoice_id]) if note["id"] == credit_note_id))

    restocks = any(restock for _, restock in goods)
    return transact_once(request, work, key=request.key, invalidates=prefixes(invoice, restocks))
