"""Buying, as sql/queries/purchases."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from petstore.db import Connection, execute, many, one
from petstore.repository.invoices import Invoice, InvoiceDetail


@dataclass(frozen=True)
class LockedProduct:
    """A product that nobody else can change before this transaction ends. price: of one piece; stock: pieces."""

    id: int
    price: Decimal
    stock: int


def lock_products(conn: Connection, *, product_ids: list[int]) -> list[LockedProduct]:
    """Lock those of the products that are on sale, in id order."""
    return many(conn, "purchases/lock_products", LockedProduct, product_ids=product_ids)


def take_stock(conn: Connection, *, product_ids: list[int], quantities: list[int], invoice_id: int, actor_id: int) -> int:
    """Take pieces of locked products out of stock, for an invoice that has its lines."""
    return execute(
        conn,
        "purchases/take_stock",
        product_ids=product_ids,
        quantities=quantities,
        invoice_id=invoice_id,
        actor_id=actor_id,
    )


def create_invoice(conn: Connection, *, user_id: int, total: Decimal) -> Invoice:
    """A new pending invoice."""
    return one(conn, "purchases/create_invoice", Invoice, user_id=user_id, total=total)


def create_invoice_details(
    conn: Connection, *, invoice_id: int, product_ids: list[int], quantities: list[int]
) -> list[InvoiceDetail]:
    """The lines of an invoice, with the names and prices of locked products."""
    return many(
        conn,
        "purchases/create_invoice_details",
        InvoiceDetail,
        invoice_id=invoice_id,
        product_ids=product_ids,
        quantities=quantities,
    )
