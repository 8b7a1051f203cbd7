"""Credit notes: what an admin takes back of an invoice, in part; a refund is one for all that remains."""

from __future__ import annotations

from petstore import errors
from petstore.calls import Answer, Call
from petstore.db import Connection
from petstore.invoicing import Step, credit, credit_notes, lock, prefixes, touched
from petstore.lines import shortages, sum_lines, unknown_products
from petstore.repository import invoices
from petstore.writes import write

CREDITABLE = ("paid", "shipped", "delivered")


def create_credit_note(call: Call) -> Answer:
    """Take back pieces of an invoice; they go back into stock unless their line says `restock` false."""
    invoice_id, lines = call.path["invoice_id"], call.body["lines"]
    invoice = touched(call, invoice_id)
    if faults := unknown_products("lines", lines, invoice.product_ids, "is not on this invoice"):
        raise errors.Invalid(faults)
    goods: dict[tuple[int, bool], int] = {}
    for line in lines:
        kind = line["product_id"], line.get("restock", True)
        goods[kind] = goods.get(kind, 0) + line["quantity"]

    def work(conn: Connection) -> Answer:
        step = Step(conn, invoice_id, call.user.id, call.body.get("reason"))
        locked = lock(step)
        if locked.status not in CREDITABLE:
            detail = f"The invoice is {locked.status}; one that is {', '.join(CREDITABLE)} can be credited."
            raise errors.NotCreditable(detail, current=locked.status)
        details = invoices.list_invoice_details(conn, invoice_ids=[invoice_id])
        left = {detail.product_id: detail.quantity - detail.credited for detail in details}
        if faults := shortages("lines", lines, sum_lines(lines), left, "bought and not credited yet"):
            raise errors.CreditExceedsInvoice(errors=faults)
        credit_note_id = credit(step, goods)
        return Answer(201, next(note for note in credit_notes(conn, [invoice_id]) if note["id"] == credit_note_id))

    return write(call, work, *prefixes(invoice, any(restock for _, restock in goods)))
