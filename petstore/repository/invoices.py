"""Invoices, their lines and events (sql/queries/invoices)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from petstore.db import Connection, execute, many, one_or_none


@dataclass(frozen=True)
class Invoice:
    """An invoice without its lines. number: None until it is paid; total: the sum of the lines, in `currency`."""

    id: int
    number: str | None
    user_id: int
    status: str
    total: Decimal
    currency: str
    created_at: datetime


@dataclass(frozen=True)
class InvoiceWithEmail(Invoice):
    """An invoice as admins find it. email: the customer's, None once the account is erased."""

    email: str | None


@dataclass(frozen=True)
class InvoiceDetail:
    """A line of an invoice. name, unit_price: as at the purchase; quantity, credited, restocked: pieces."""

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
    """A change of an invoice's status. actor_id: the user who made it; restocked: whether goods went back into stock."""

    invoice_id: int
    from_status: str
    to_status: str
    actor_id: int
    restocked: bool
    reason: str | None
    created_at: datetime


@dataclass(frozen=True)
class InvoiceReferences:
    """The ids that an invoice refers to: its owner's and its products'. They never change."""

    id: int
    user_id: int
    product_ids: list[int]


@dataclass(frozen=True)
class LockedStock:
    """A product that is locked until the transaction ends. stock: pieces."""

    id: int
    stock: int


@dataclass(frozen=True)
class LockedInvoice:
    """An invoice that is locked until the transaction ends. allowed: the statuses that it may get next."""

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


def list_invoices(
    conn: Connection,
    *,
    user_id: int,
    before: int,
    limit: int,
    status: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Invoice]:
    """At most `limit` invoices of a customer older than the one with the id `before` (0: the newest), newest first.

    status: None for any; since, until: created from the one and before the other, None for no bound.
    """
    filters = {"user_id": user_id, "status": status, "since": since, "until": until}
    return many(conn, "invoices/list_invoices", Invoice, **filters, before=before, limit=limit)


def search_invoices(
    conn: Connection, *, since: datetime | None, until: datetime | None, before: int, limit: int
) -> list[InvoiceWithEmail]:
    """As `list_invoices`, for all customers."""
    return many(conn, "invoices/search_invoices", InvoiceWithEmail, since=since, until=until, before=before, limit=limit)


def search_invoices_by_status(
    conn: Connection, *, status: str, since: datetime | None, until: datetime | None, before: int, limit: int
) -> list[InvoiceWithEmail]:
    """As `search_invoices`, for one status."""
    filters = {"status": status, "since": since, "until": until}
    return many(conn, "invoices/search_invoices_by_status", InvoiceWithEmail, **filters, before=before, limit=limit)


def search_invoices_by_user(
    conn: Connection, *, user_id: int, status: str | None, since: datetime | None, until: datetime | None, before: int, limit: int
) -> list[InvoiceWithEmail]:
    """As `search_invoices`, for one customer. status: None for any."""
    filters = {"user_id": user_id, "status": status, "since": since, "until": until}
    return many(conn, "invoices/search_invoices_by_user", InvoiceWithEmail, **filters, before=before, limit=limit)


def search_invoices_by_number(
    conn: Connection, *, number: str, user_id: int | None, status: str | None, since: datetime | None, until: datetime | None
) -> list[InvoiceWithEmail]:
    """The invoice with this number, if it fits the filters; None for any."""
    filters = {"user_id": user_id, "status": status, "since": since, "until": until}
    return many(conn, "invoices/search_invoices_by_number", InvoiceWithEmail, number=number, **filters)


def erase_reasons(conn: Connection, *, user_id: int) -> int:
    """Erase the reasons that a customer gave for cancelling; how many."""
    return execute(conn, "invoices/erase_reasons", user_id=user_id)


def get_references(conn: Connection, *, invoice_id: int) -> InvoiceReferences | None:
    """The owner and the products of an invoice."""
    return one_or_none(conn, "invoices/get_references", InvoiceReferences, invoice_id=invoice_id)


def lock_invoice(conn: Connection, *, invoice_id: int) -> LockedInvoice | None:
    """Lock an invoice until the transaction ends."""
    return one_or_none(conn, "invoices/lock_invoice", LockedInvoice, invoice_id=invoice_id)


def update_status(conn: Connection, *, invoice_id: int, from_status: str, to_status: str) -> int:
    """Change the status; 0 when it is not `from_status`. Becoming paid locks the number series of the year: do it last."""
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
    """Record a change of status."""
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
    """Lock products, in id order, until the transaction ends. Deleted ones too: their goods may come back."""
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
    """Put goods of an invoice back into stock. kind: cancel_restock or return_restock."""
    return execute(
        conn,
        "invoices/return_stock",
        product_ids=product_ids,
        quantities=quantities,
        kind=kind,
        invoice_id=invoice_id,
        actor_id=actor_id,
    )
