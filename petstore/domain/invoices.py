"""What belongs to an invoice beyond its row: its changes of status, what comes back of it, and the whole of it as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from petstore import errors
from petstore.cache.prefixes import INVOICES, stock_prefixes
from petstore.db import Connection
from petstore.domain.stock import check_stock_limit
from petstore.repository import invoices
from petstore.repository.invoices import Invoice, LockedInvoice, Touched
from petstore.request import Request

GIVING_BACK = ("cancelled", "refunded")  # the states in which goods come back
Goods = Mapping[tuple[int, bool], int]  # pieces that come back, by product and whether they go into stock


@dataclass(frozen=True)
class Step:
    """Something done to an invoice. actor_id: by whom; reason: in their words, or None."""

    conn: Connection
    invoice_id: int
    actor_id: int
    reason: str | None


def no_such_invoice() -> errors.NotFound:
    """A 404, the same for one that is not there and one that is somebody else's."""
    return errors.NotFound("There is no invoice with this id.")


def touched(request: Request, invoice_id: int) -> Touched:
    """Whose an invoice is, and its products: what has to be known before the transaction, for the cache."""

    found = request.read(invoices.get_touched, invoice_id=invoice_id)
    if found is None:
        raise no_such_invoice()
    return found


def prefixes(invoice: Touched, restocks: bool) -> list[str]:
    """What of the cache shows a change of this invoice."""
    return [INVOICES.format(user_id=invoice.user_id), *(stock_prefixes(invoice.product_ids) if restocks else [])]


def lock(step: Step) -> LockedInvoice:
    """Keep every other change of the invoice out until the transaction ends."""
    locked = invoices.lock_invoice(step.conn, invoice_id=step.invoice_id)
    if locked is None:
        raise no_such_invoice()
    return locked


def move(step: Step, status: str, restock: bool = True) -> None:
    """Change the status, with all that belongs to it: goods, credit note, event. Nothing, if it has that status."""
    locked = lock(step)
    if status == locked.status:
        return
    if status not in locked.allowed:
        detail = f"The invoice is {locked.status}; it can become: {', '.join(locked.allowed) or 'nothing else'}."
        raise errors.TransitionNotAllowed(detail, current=locked.status, allowed=locked.allowed)
    goods = _all_goods(step, restock) if status in GIVING_BACK else {}
    if status == "cancelled":
        _restock(step, goods, "cancel_restock")
    elif goods:
        credit(step, goods)
    change: dict[str, Any] = {"invoice_id": step.invoice_id, "from_status": locked.status, "to_status": status}
    restocked = restock and bool(goods)
    invoices.create_event(step.conn, **change, actor_id=step.actor_id, restocked=restocked, reason=step.reason)
    if not invoices.update_status(step.conn, **change):
        raise LookupError("a locked invoice has changed its status")


def credit(step: Step, goods: Goods) -> int:
    """Make a credit note for goods of a locked invoice; its id."""
    _restock(step, goods, "return_restock")
    credit_note_id = invoices.create_credit_note(
        step.conn, invoice_id=step.invoice_id, actor_id=step.actor_id, reason=step.reason
    )
    invoices.create_credit_note_lines(
        step.conn,
        credit_note_id=credit_note_id,
        invoice_id=step.invoice_id,
        product_ids=[product_id for product_id, _ in goods],
        quantities=list(goods.values()),
        restocks=[restock for _, restock in goods],
    )
    return credit_note_id


def _all_goods(step: Step, restock: bool) -> Goods:
    """What has not come back yet."""
    details = invoices.list_invoice_details(step.conn, invoice_ids=[step.invoice_id])
    return {(line.product_id, restock): line.quantity - line.credited for line in details if line.credited < line.quantity}


def _restock(step: Step, goods: Goods, kind: str) -> None:
    """Put those of the goods back into stock that are to go there."""
    back = {product_id: quantity for (product_id, restock), quantity in goods.items() if restock}
    if not back:
        return
    in_stock = {product.id: product.stock for product in invoices.lock_stock(step.conn, product_ids=list(back))}
    check_stock_limit({product_id: in_stock[product_id] + quantity for product_id, quantity in back.items()})
    invoices.return_stock(
        step.conn,
        product_ids=list(back),
        quantities=list(back.values()),
        kind=kind,
        invoice_id=step.invoice_id,
        actor_id=step.actor_id,
    )


def whole(conn: Connection, invoice_id: int) -> dict[str, Any]:
    """An invoice as it is shown alone: with its details, events and credit notes. In one snapshot, or with the invoice locked."""
    invoice = invoices.get_invoice(conn, invoice_id=invoice_id)
    if invoice is None:
        raise no_such_invoice()
    return wholes(conn, [invoice])[0]


def wholes(conn: Connection, found: Sequence[Invoice]) -> list[dict[str, Any]]:
    """As `whole`, of many."""
    ids = [invoice.id for invoice in found]
    details = parts("invoice_id", invoices.list_invoice_details(conn, invoice_ids=ids))
    events = parts("invoice_id", invoices.list_events(conn, invoice_ids=ids))
    notes = defaultdict(list)
    for note in credit_notes(conn, ids):
        notes[note["invoice_id"]].append(note)
    return [{**vars(one), "details": details[one.id], "events": events[one.id], "credit_notes": notes[one.id]} for one in found]


def credit_notes(conn: Connection, invoice_ids: list[int]) -> list[dict[str, Any]]:
    """The credit notes of invoices, oldest first, each with its lines."""
    lines = parts("credit_note_id", invoices.list_credit_note_lines(conn, invoice_ids=invoice_ids))
    notes = invoices.list_credit_notes(conn, invoice_ids=invoice_ids)
    return [{**vars(note), "lines": lines[note.id]} for note in notes]


def parts(whole_id: str, rows: Iterable[Any]) -> Mapping[int, list[dict[str, Any]]]:
    """Rows by the whole that each is a part of, and without its id."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        shown = dict(vars(row))
        found[shown.pop(whole_id)].append(shown)
    return found
