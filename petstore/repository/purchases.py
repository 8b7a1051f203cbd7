"""Purchases (sql/queries/purchases)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from petstore.db import Connection, many
from petstore.repository.invoices import Invoice, InvoiceDetail

_INVOICE_MEMBERS = [field.name for field in fields(Invoice)]
_DETAIL_MEMBERS = [field.name for field in fields(InvoiceDetail) if field.name != "invoice_id"]


@dataclass(frozen=True)
class BoughtProduct:
    """A product that the purchase has locked, its line of the invoice, and the invoice.

    unit_price: the present price of one piece; stock: pieces before the purchase. The members from `quantity` on are those of
    InvoiceDetail and Invoice; when nothing was bought, they are None in every row (but `currency`).
    """

    product_id: int
    name: str
    unit_price: Decimal
    stock: int
    quantity: int | None
    line_total: Decimal | None
    credited: int | None
    restocked: int | None
    invoice_id: int | None
    number: str | None
    user_id: int | None
    status: str | None
    total: Decimal | None
    currency: str
    created_at: datetime | None

    def invoice(self) -> dict[str, Any]:
        """The members of Invoice, if it was bought."""
        return {name: getattr(self, "invoice_id" if name == "id" else name) for name in _INVOICE_MEMBERS}

    def detail(self) -> dict[str, Any]:
        """The members of InvoiceDetail without `invoice_id`, if it was bought."""
        return {name: getattr(self, name) for name in _DETAIL_MEMBERS}


def buy_products(
    conn: Connection,
    *,
    user_id: int,
    product_ids: list[int],
    quantities: list[int],
    expected_ids: list[int],
    expected_prices: list[Decimal],
) -> list[BoughtProduct]:
    """Buy all products or none. Returns one row for each of them that is on sale, in id order, also when nothing was bought."""
    return many(
        conn,
        "purchases/buy_products",
        BoughtProduct,
        user_id=user_id,
        product_ids=product_ids,
        quantities=quantities,
        expected_ids=expected_ids,
        expected_prices=expected_prices,
    )
