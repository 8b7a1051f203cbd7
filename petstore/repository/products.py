"""Products and their stock ledger (sql/queries/products)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from petstore.db import Connection, many, one, one_or_none, scalar


@dataclass(frozen=True)
class Product:
    """A product. price: of one piece, in `currency`; stock: pieces; version, updated_at: of the last edit, not of a purchase."""

    id: int
    name: str
    price: Decimal
    currency: str
    stock: int
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Movement:
    """A row of the stock ledger. delta: pieces added; stock: pieces after it; actor_id: None for a change made in psql."""

    id: int
    product_id: int
    kind: str
    delta: int
    stock: int
    invoice_id: int | None
    actor_id: int | None
    reason: str | None
    created_at: datetime


def get_product(conn: Connection, *, product_id: int) -> Product | None:
    """One product; None when it does not exist or is deleted."""
    return one_or_none(conn, "products/get_product", Product, product_id=product_id)


def list_products(conn: Connection, *, after: int, limit: int) -> list[Product]:
    """At most `limit` products with an id above `after`, in id order, without deleted ones."""
    return many(conn, "products/list_products", Product, after=after, limit=limit)


def list_products_by_id(conn: Connection, *, product_ids: list[int]) -> list[Product]:
    """The products on sale among these, in this order. product_ids: each once."""
    return many(conn, "products/list_products_by_id", Product, product_ids=product_ids)


def create_product(conn: Connection, *, actor_id: int, **columns: Any) -> Product:
    """Create a product. columns: those of Product that its query takes."""
    return one(conn, "products/create_product", Product, actor_id=actor_id, **columns)


def lock_product(conn: Connection, *, product_id: int) -> Product | None:
    """A product, locked until the transaction ends; None when it does not exist or is deleted."""
    return one_or_none(conn, "products/lock_product", Product, product_id=product_id)


def update_product(conn: Connection, *, product_id: int, actor_id: int, reason: str | None, **columns: Any) -> Product | None:
    """Change the columns that are not None; None if it is not on sale, or has these values already.

    reason: goes into the stock ledger, if the stock changes.
    """
    given = {"product_id": product_id, "actor_id": actor_id, "reason": reason, **columns}
    return one_or_none(conn, "products/update_product", Product, **given)


def delete_product(conn: Connection, *, product_id: int) -> int | None:
    """Mark a product as deleted; its id, or None."""
    found: int | None = scalar(conn, "products/delete_product", product_id=product_id)
    return found


def list_movements(conn: Connection, *, product_id: int, before: int, limit: int) -> list[Movement]:
    """At most `limit` rows of a product's stock ledger with an id below `before`, newest first."""
    return many(conn, "products/list_movements", Movement, product_id=product_id, before=before, limit=limit)
