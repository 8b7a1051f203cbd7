"""Invoices, as sql/queries/invoices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from petstore.db import Connection, execute, many, one_or_none, scalar


@dataclass(frozen=True)
class Invoice:
    """A purchase, without its lines. total: their sum, in currency."""

    id: int
    user_id: int
    status: str
    total: Decimal
    currency: str
    created_at: datetime


@dataclass(frozen=True)
class InvoiceDetail:
    """A line of an invoice. name, unit_price: those at the moment of purchase; quantity: pieces."""

    product_id: int
    name: str
    unit_price: Decimal
    quantity: int
    line_total: Decimal


@dataclass(frozen=True)
class LockedInvoice:
    """An invoice whose status nobody else can change before this transaction ends. allowed: the states that may follow."""

    user_id: int
    status: str
    allowed: list[str]


def get_invoice(conn: Connection, *, invoice_id: int) -> Invoice | None:
    """One invoice."""
    return one_or_none(conn, "invoices/get_invoice", Invoice, invoice_id=invoice_id)


def list_invoice_details(conn: Connection, *, invoice_id: int) -> list[InvoiceDetail]:
    """The lines of an invoice, in product order."""
    return many(conn, "invoices/list_invoice_details", InvoiceDetail, invoice_id=invoice_id)


def list_invoices(conn: Connection, *, user_id: int, before: int, limit: int) -> list[Invoice]:
    """At most `limit` invoices of a customer with an id below `before`, newest first."""
    return many(conn, "invoices/list_invoices", Invoice, user_id=user_id, before=before, limit=limit)


def lock_invoice(conn: Connection, *, invoice_id: int) -> LockedInvoice | None:
    """Lock an invoice for a change of status."""
    return one_or_none(conn, "invoices/lock_invoice", LockedInvoice, invoice_id=invoice_id)


def update_status(conn: Connection, *, invoice_id: int, from_status: str, to_status: str) -> int:
    """Move an invoice from one state to another; 0 when it is no longer in the first."""
    return execute(conn, "invoices/update_status", invoice_id=invoice_id, from_status=from_status, to_status=to_status)


def create_event(
    conn: Connection,
    *,
    invoice_id: int,
    from_status: str,
    to_status: str,
    actor_id: int,
    restock: bool,
    reason: str | None,
) -> bool:
    """Write a change of status down; whether it puts the goods back."""
    return bool(
        scalar(
            conn,
            "invoices/create_event",
            invoice_id=invoice_id,
            from_status=from_status,
            to_status=to_status,
            actor_id=actor_id,
            restock=restock,
            reason=reason,
        )
    )


def return_stock(conn: Connection, *, invoice_id: int) -> int:
    """Put the goods of an invoice back into stock."""
    return execute(conn, "invoices/return_stock", invoice_id=invoice_id)
