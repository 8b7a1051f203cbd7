"""Invoices: change the status, take goods back, and build the JSON of one with its details, events and credit notes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from petstore import errors
from petstore.cache.prefixes import INVOICES, stock_prefixes
from petstore.db import Connection
from petstore.domain.stock import check_stock_limit
from petstore.repository import credit_notes, invoices
from petstore.repository.invoices import Event, Invoice, InvoiceReferences, LockedInvoice
from petstore.request import Request

RETURN_STATUSES = ("cancelled", "refunded")  # on entering one of these, goods come back
Goods = Mapping[tuple[int, bool], int]  # pieces that come back, by (product id, whether they go back into stock)


@dataclass(frozen=True)
class InvoiceChange:
    """A change of one invoice, inside a transaction. actor_id: the user who makes it; reason: in their words, or None."""

    conn: Connection
    invoice_id: int
    actor_id: int
    reason: str | None


def no_such_invoice() -> errors.NotFound:
    """A 404. It is the same for an invoice that does not exist and for one of somebody else."""
    return errors.NotFound("There is no invoice with this id.")


def find_invoice(request: Request, invoice_id: int) -> InvoiceReferences:
    """The owner and the products of an invoice. Read before the transaction: the cache prefixes follow from them."""
    found = request.read(invoices.get_references, invoice_id=invoice_id)
    if found is None:
        raise no_such_invoice()
    return found


def cache_prefixes(invoice: InvoiceReferences, restocks: bool) -> list[str]:
    """The cache prefixes that a change of this invoice makes invalid: its owner's lists; with `restocks` its products, too."""
    return [INVOICES.format(user_id=invoice.user_id), *(stock_prefixes(invoice.product_ids) if restocks else [])]


def lock_invoice(change: InvoiceChange) -> LockedInvoice:
    """Lock the invoice until the transaction ends, so that no other change of it runs at the same time."""
    locked = invoices.lock_invoice(change.conn, invoice_id=change.invoice_id)
    if locked is None:
        raise no_such_invoice()
    return locked


def change_status(change: InvoiceChange, status: str, restock: bool | None = None) -> None:
    """Give the invoice another status: lock, check, take goods back, write the event.

    If it has that status already, nothing is changed; TransitionNotAllowed if the request says what was not kept with it.
    Cancelling puts all goods back into stock. Refunding makes a credit note for all that was not credited yet.
    restock: whether a refund puts its goods into stock; None if the request does not say so: then it does.
    """
    locked = lock_invoice(change)
    if status == locked.status:
        _check_same_request(change, locked, restock)
        return
    restock = restock is not False
    if status not in locked.allowed:
        detail = f"The invoice is {locked.status}; it can become: {', '.join(locked.allowed) or 'nothing else'}."
        raise errors.TransitionNotAllowed(detail, current=locked.status, allowed=locked.allowed)
    goods = _goods_left(change, restock) if status in RETURN_STATUSES else {}
    if status == "cancelled":
        _put_into_stock(change, goods, "cancel_restock")
    elif goods:
        credit_goods(change, goods)
    statuses: dict[str, Any] = {"invoice_id": change.invoice_id, "from_status": locked.status, "to_status": status}
    restocked = restock and bool(goods)
    invoices.create_event(change.conn, **statuses, actor_id=change.actor_id, restocked=restocked, reason=change.reason)
    if not invoices.update_status(change.conn, **statuses):
        raise LookupError("a locked invoice has changed its status")


def _check_same_request(change: InvoiceChange, locked: LockedInvoice, restock: bool | None) -> None:
    """Raise TransitionNotAllowed if the request adds something to the change that gave the invoice its status.

    The error does not say what was kept: a customer asks, too.
    """
    events = invoices.list_events(change.conn, invoice_ids=[change.invoice_id])
    kept = next((event for event in events if event.to_status == locked.status), None)
    faults: list[errors.Fault] = []
    if change.reason is not None and (kept is None or change.reason != kept.reason):
        faults.append({"pointer": "/reason", "detail": "is not what was kept with this status, and that stays"})
    if restock is not None and kept is not None and restock != kept.restocked and (kept.restocked or _credited(change, kept)):
        faults.append({"pointer": "/restock", "detail": "is not what was done with the goods, and that stays"})
    if faults:
        detail = f"The invoice is {locked.status} already, and the {faults[0]['pointer'][1:]} {faults[0]['detail']}."
        raise errors.TransitionNotAllowed(detail, errors=faults, current=locked.status, allowed=locked.allowed)


def _credited(change: InvoiceChange, event: Event) -> bool:
    """Whether a refund had goods left to credit. The credit note is from its transaction, so it has its time."""
    notes = credit_notes.list_credit_notes(change.conn, invoice_ids=[change.invoice_id])
    return any(note.created_at == event.created_at for note in notes)


def credit_goods(change: InvoiceChange, goods: Goods) -> int:
    """Make a credit note for goods of a locked invoice, and put those into stock that are to go there; its id."""
    _put_into_stock(change, goods, "return_restock")
    credit_note_id = credit_notes.create_credit_note(
        change.conn, invoice_id=change.invoice_id, actor_id=change.actor_id, reason=change.reason
    )
    credit_notes.create_credit_note_lines(
        change.conn,
        credit_note_id=credit_note_id,
        invoice_id=change.invoice_id,
        product_ids=[product_id for product_id, _ in goods],
        quantities=list(goods.values()),
        restocks=[restock for _, restock in goods],
    )
    return credit_note_id


def _goods_left(change: InvoiceChange, restock: bool) -> Goods:
    """The goods of the invoice that are not credited yet."""
    details = invoices.list_invoice_details(change.conn, invoice_ids=[change.invoice_id])
    return {(line.product_id, restock): line.quantity - line.credited for line in details if line.credited < line.quantity}


def _put_into_stock(change: InvoiceChange, goods: Goods, kind: str) -> None:
    """Put those of the goods into stock that are to go there. kind: of the movement in the stock ledger."""
    restocked = {product_id: quantity for (product_id, restock), quantity in goods.items() if restock}
    if not restocked:
        return
    stocks = {product.id: product.stock for product in invoices.lock_stock(change.conn, product_ids=list(restocked))}
    check_stock_limit({product_id: stocks[product_id] + quantity for product_id, quantity in restocked.items()})
    invoices.return_stock(
        change.conn,
        product_ids=list(restocked),
        quantities=list(restocked.values()),
        kind=kind,
        invoice_id=change.invoice_id,
        actor_id=change.actor_id,
    )


def full_invoice(conn: Connection, invoice_id: int) -> dict[str, Any]:
    """An invoice with its details, events and credit notes, as JSON members.

    It takes several queries, so they need one snapshot, or the lock of the invoice.
    """
    invoice = invoices.get_invoice(conn, invoice_id=invoice_id)
    if invoice is None:
        raise no_such_invoice()
    return full_invoices(conn, [invoice])[0]


def full_invoices(conn: Connection, rows: Sequence[Invoice]) -> list[dict[str, Any]]:
    """As `full_invoice`, for many, with the same number of queries."""
    ids = [invoice.id for invoice in rows]
    details = group_by("invoice_id", invoices.list_invoice_details(conn, invoice_ids=ids))
    events = group_by("invoice_id", invoices.list_events(conn, invoice_ids=ids))
    notes = defaultdict(list)
    for note in full_credit_notes(conn, ids):
        notes[note["invoice_id"]].append(note)
    return [{**vars(row), "details": details[row.id], "events": events[row.id], "credit_notes": notes[row.id]} for row in rows]


def full_credit_notes(conn: Connection, invoice_ids: list[int]) -> list[dict[str, Any]]:
    """The credit notes of these invoices with their lines, oldest first, as JSON members."""
    lines = group_by("credit_note_id", credit_notes.list_credit_note_lines(conn, invoice_ids=invoice_ids))
    notes = credit_notes.list_credit_notes(conn, invoice_ids=invoice_ids)
    return [{**vars(note), "lines": lines[note.id]} for note in notes]


def group_by(parent_id: str, rows: Iterable[Any]) -> Mapping[int, list[dict[str, Any]]]:
    """Rows as JSON members, grouped by the column `parent_id`, which is left out of them."""
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        members = dict(vars(row))
        groups[members.pop(parent_id)].append(members)
    return groups
