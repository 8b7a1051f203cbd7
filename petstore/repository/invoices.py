"""Invoices, as sql/queries/invoices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from petstore.db import Connection, execute, many, one_or_none, scalar


@dataclass(frozen=True)
class Invoice:
    """A purchase, without its lines. number: None until it is paid; total: sum of the lines, in currency."""

    id: int
    number: str | None
    user_id: int
    status: str
    total: Decimal
    currency: str
    created_at: datetime


@dataclass(frozen=True)
class InvoiceDetail:
    """A line of an invoice. name, unit_price: those at the moment of purchase; quantity, credited, restocked: pieces."""

    invoice_id: int
    product_id: int
    name: str
    unit_price: Decimal
    quantity: int
    line_total: Decimal
    credited: int
    restocked: int


@dataclass(frozen=True)
class Event:
    """A change of an invoice's status. actor_id: who made it; restocked: whether goods went back into stock with it."""

    invoice_id: int
    from_status: str
    to_status: str
    actor_id: int
    restocked: bool
    reason: str | None
    created_at: datetime


@dataclass(frozen=True)
class CreditNote:
    """What was taken back of an invoice, without its lines. total: their sum, in currency."""

    id: int
    number: str
    invoice_id: int
    total: Decimal
    currency: str
    actor_id: int
    reason: str | None
    created_at: datetime


@dataclass(frozen=True)
class CreditNoteLine:
    """A line of a credit note. quantity: pieces; restock: whether they went back into stock."""

    credit_note_id: int
    product_id: int
    name: str
    unit_price: Decimal
    quantity: int
    line_total: Decimal
    restock: bool


@dataclass(frozen=True)
class InvoiceReferences:
    """The ids that an invoice refers to: its owner's and its products'. They never change."""

    id: int
    user_id: int
    product_ids: list[int]


@dataclass(frozen=True)
class LockedStock:
    """A product that nobody else can change before this transaction ends. stock: pieces."""

    id: int
    stock: int


@dataclass(frozen=True)
class LockedInvoice:
    """An invoice whose status nobody else can change before this transaction ends. allowed: the states that may follow."""

    status: str
    allowed: list[str]


def get_invoice(conn: Connection, *, invoice_id: int) -> Invoice | None:
    """One invoice."""
    return one_or_none(conn, "invoices/get_invoice", Invoice, invoice_id=invoice_id)


def list_invoice_details(conn: Connection, *, invoice_ids: list[int]) -> list[InvoiceDetail]:
    """The lines of invoices, in product order."""
    return many(conn, "invoices/list_invoice_details", InvoiceDetail, invoice_ids=invoice_ids)


def list_events(conn: Connection, *, invoice_ids: list[int]) -> list[Event]:
    """The changes of invoices' status, oldest first."""
    return many(conn, "invoices/list_events", Event, invoice_ids=invoice_ids)


def list_credit_notes(conn: Connection, *, invoice_ids: list[int]) -> list[CreditNote]:
    """The credit notes of invoices, oldest first."""
    return many(conn, "invoices/list_credit_notes", CreditNote, invoice_ids=invoice_ids)


def list_credit_note_lines(conn: Connection, *, invoice_ids: list[int]) -> list[CreditNoteLine]:
    """The lines of every credit note of invoices."""
    return many(conn, "invoices/list_credit_note_lines", CreditNoteLine, invoice_ids=invoice_ids)


def list_invoices(conn: Connection, *, user_id: int, before: int, limit: int) -> list[Invoice]:
    """At most `limit` invoices of a customer made before the one with the id `before`, newest first; 0: the first page."""
    return many(conn, "invoices/list_invoices", Invoice, user_id=user_id, before=before, limit=limit)


def search_invoices(
    conn: Connection, *, since: datetime | None, until: datetime | None, before: int, limit: int
) -> list[Invoice]:
    """At most `limit` invoices of all customers made before the one with the id `before`, newest first; 0: the first page."""
    return many(conn, "invoices/search_invoices", Invoice, since=since, until=until, before=before, limit=limit)


def search_invoices_by_status(
    conn: Connection, *, status: str, since: datetime | None, until: datetime | None, before: int, limit: int
) -> list[Invoice]:
    """As `search_invoices`, of those in one state."""
    period = {"since": since, "until": until}
    return many(conn, "invoices/search_invoices_by_status", Invoice, status=status, **period, before=before, limit=limit)


def search_invoices_by_user(
    conn: Connection, *, user_id: int, status: str | None, since: datetime | None, until: datetime | None, before: int, limit: int
) -> list[Invoice]:
    """As `search_invoices`, of one customer's; status: None for any."""
    filters = {"user_id": user_id, "status": status, "since": since, "until": until}
    return many(conn, "invoices/search_invoices_by_user", Invoice, **filters, before=before, limit=limit)


def erase_reasons(conn: Connection, *, user_id: int) -> int:
    """Erase what a customer wrote when cancelling; how many texts."""
    return execute(conn, "invoices/erase_reasons", user_id=user_id)


def get_references(conn: Connection, *, invoice_id: int) -> InvoiceReferences | None:
    """The owner and the products of an invoice."""
    return one_or_none(conn, "invoices/get_references", InvoiceReferences, invoice_id=invoice_id)


def lock_invoice(conn: Connection, *, invoice_id: int) -> LockedInvoice | None:
    """Lock an invoice for a change of status."""
    return one_or_none(conn, "invoices/lock_invoice", LockedInvoice, invoice_id=invoice_id)


def update_status(conn: Connection, *, invoice_id: int, from_status: str, to_status: str) -> int:
    """Move an invoice from one state to another; 0 when it is no longer in the first. Paid, it gets its number: do it last."""
    return execute(conn, "invoices/update_status", invoice_id=invoice_id, from_status=from_status, to_status=to_status)


def create_event(
    conn: Connection,
    *,
    invoice_id: int,
    from_status: str,
    to_status: str,
    actor_id: int,
    restocked: bool,
    reason: str | None,
) -> int:
    """Write a change of status down."""
    return execute(
        conn,
        "invoices/create_event",
        invoice_id=invoice_id,
        from_status=from_status,
        to_status=to_status,
        actor_id=actor_id,
        restocked=restocked,
        reason=reason,
    )


def lock_stock(conn: Connection, *, product_ids: list[int]) -> list[LockedStock]:
    """Lock products whose goods come back, in id order."""
    return many(conn, "invoices/lock_stock", LockedStock, product_ids=product_ids)


def return_stock(
    conn: Connection,
    *,
    product_ids: list[int],
    quantities: list[int],
    kind: str,
    invoice_id: int,
    actor_id: int,
) -> int:
    """Put goods of an invoice back into stock; kind: cancel_restock or return_restock."""
    return execute(
        conn,
        "invoices/return_stock",
        product_ids=product_ids,
        quantities=quantities,
        kind=kind,
        invoice_id=invoice_id,
        actor_id=actor_id,
    )


def create_credit_note(conn: Connection, *, invoice_id: int, actor_id: int, reason: str | None) -> int:
    """A new credit note, with its number and without lines; its id."""
    return int(scalar(conn, "invoices/create_credit_note", invoice_id=invoice_id, actor_id=actor_id, reason=reason))


def create_credit_note_lines(
    conn: Connection,
    *,
    credit_note_id: int,
    invoice_id: int,
    product_ids: list[int],
    quantities: list[int],
    restocks: list[bool],
) -> int:
    """The lines of a credit note."""
    return execute(
        conn,
        "invoices/create_credit_note_lines",
        credit_note_id=credit_note_id,
        invoice_id=invoice_id,
        product_ids=product_ids,
        quantities=quantities,
        restocks=restocks,
    )
