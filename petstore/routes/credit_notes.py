"""Credit notes: what an admin takes back of an invoice, in part; a refund is one for all that remains."""

from __future__ import annotations

from petstore import errors
from petstore.calls import Answer, Call
from petstore.db import Connection
from petstore.invoicing import Step, credit, credit_notes, lock, prefixes, touched
from petstore.repository import invoices
from petstore.validation import positive_id
from petstore.writes import write

CREDITABLE = ("paid", "shipped", "delivered")


def create(call: Call) -> Answer:
    """Take back pieces of an invoice; they go back into stock unless their line says `restock` false."""
    invoice_id, lines = positive_id(call.path["invoice_id"]), call.body["lines"]
    invoice = touched(call, invoice_id)
    _check_known(lines, invoice.product_ids)
    goods: dict[tuple[int, bool], int] = {}
    for line in lines:
        kind = line["product_id"], line.get("restock", True)
        goods[kind] = goods.get(kind, 0) + line["quantity"]

    def work(conn: Connection) -> Answer:
        step = Step(conn, invoice_id, call.user.id, call.body.get("reason"))
        locked = lock(step)
        if locked.status not in CREDITABLE:
            raise errors.NotCreditable(f"The invoice is {locked.status}.", current=locked.status)
        _check_left(conn, invoice_id, lines)
        credit_note_id = credit(step, goods)
        return Answer(201, next(note for note in credit_notes(conn, invoice_id) if note["id"] == credit_note_id))

    return write(call, work, *prefixes(invoice, any(restock for _, restock in goods)))


def _check_known(lines: list[dict[str, int]], product_ids: list[int]) -> None:
    faults = [
        {"pointer": f"/lines/{number}/product_id", "detail": "is not on this invoice"}
        for number, line in enumerate(lines)
        if line["product_id"] not in product_ids
    ]
    if faults:
        raise errors.Invalid(errors=faults)


def _check_left(conn: Connection, invoice_id: int, lines: list[dict[str, int]]) -> None:
    """Refuse more than was bought and is not credited yet."""
    left = {line.product_id: line.quantity - line.credited for line in invoices.list_invoice_details(conn, invoice_id=invoice_id)}
    wanted: dict[int, int] = {}
    for line in lines:
        wanted[line["product_id"]] = wanted.get(line["product_id"], 0) + line["quantity"]
    faults = [
        {
            "pointer": f"/lines/{number}/quantity",
            "detail": f"only {left[product_id]} bought and not credited yet",
            "product_id": product_id,
            "requested": wanted[product_id],
            "available": left[product_id],
        }
        for number, product_id in enumerate(line["product_id"] for line in lines)
        if wanted[product_id] > left[product_id]
    ]
    if faults:
        raise errors.CreditExceedsInvoice(errors=faults)
