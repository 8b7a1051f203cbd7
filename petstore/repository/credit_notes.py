"""Credit notes and their lines (sql/queries/credit_notes)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from petstore.db import Connection, execute, many, scalar


@dataclass(frozen=True)
class CreditNote:
    """A credit note without its lines. total: the sum of the lines, in `currency`."""

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


def list_credit_notes(conn: Connection, *, invoice_ids: list[int]) -> list[CreditNote]:
    """The credit notes of invoices, oldest first."""
    return many(conn, "credit_notes/list_credit_notes", CreditNote, invoice_ids=invoice_ids)


def list_credit_note_lines(conn: Connection, *, invoice_ids: list[int]) -> list[CreditNoteLine]:
    """The lines of every credit note of invoices."""
    return many(conn, "credit_notes/list_credit_note_lines", CreditNoteLine, invoice_ids=invoice_ids)


def create_credit_note(conn: Connection, *, invoice_id: int, actor_id: int, reason: str | None) -> int:
    """Create a credit note, with its number and without lines; its id."""
    return int(scalar(conn, "credit_notes/create_credit_note", invoice_id=invoice_id, actor_id=actor_id, reason=reason))


def create_credit_note_lines(
    conn: Connection,
    *,
    credit_note_id: int,
    invoice_id: int,
    product_ids: list[int],
    quantities: list[int],
    restocks: list[bool],
) -> int:
    """Create the lines of a credit note; how many."""
    return execute(
        conn,
        "credit_notes/create_credit_note_lines",
        credit_note_id=credit_note_id,
        invoice_id=invoice_id,
        product_ids=product_ids,
        quantities=quantities,
        restocks=restocks,
    )
