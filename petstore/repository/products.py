"""The catalogue, as sql/queries/products."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from petstore.db import Connection, many, one, one_or_none, scalar


@dataclass(frozen=True)
class Product:
    """What is on sale. price: of one piece, in currency; stock: pieces; updated_at: last edit, purchases leave it."""

    id: int
    name: str
    price: Decimal
    currency: str
    stock: int
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class EditedProduct:
    """A product that nobody else can change before this transaction ends. stock: pieces."""

    stock: int
    version: int


@dataclass(frozen=True)
class Movement:
    """A row of the ledger. delta: pieces that came or went; stock: pieces after it; actor_id: None for a change in SQL."""

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
    """One product on sale."""
    return one_or_none(conn, "products/get_product", Product, product_id=product_id)


def list_products(conn: Connection, *, after: int, limit: int) -> list[Product]:
    """At most `limit` products on sale with an id above `after`, in id order."""
    return many(conn, "products/list_products", Product, after=after, limit=limit)


def create_product(conn: Connection, *, name: str, price: Decimal, stock: int, actor_id: int) -> Product:
    """A new product on sale."""
    return one(conn, "products/create_product", Product, name=name, price=price, stock=stock, actor_id=actor_id)


def lock_product(conn: Connection, *, product_id: int) -> EditedProduct | None:
    """Lock a product on sale for an edit."""
    return one_or_none(conn, "products/lock_product", EditedProduct, product_id=product_id)


def update_product(
    conn: Connection,
    *,
    product_id: int,
    name: str | None,
    price: Decimal | None,
    stock: int | None,
    actor_id: int,
    reason: str | None,
) -> Product | None:
    """Change what is not None of a product on sale; the reason goes into the ledger, if its stock changes."""
    return one_or_none(
        conn,
        "products/update_product",
        Product,
        product_id=product_id,
        name=name,
        price=price,
        stock=stock,
        actor_id=actor_id,
        reason=reason,
    )


def delete_product(conn: Connection, *, product_id: int) -> int | None:
    """Take a product off sale; its id, or None."""
    found: int | None = scalar(conn, "products/delete_product", product_id=product_id)
    return found


def list_movements(conn: Connection, *, product_id: int, before: int, limit: int) -> list[Movement]:
    """At most `limit` movements of a product's stock with an id below `before`, newest first."""
    return many(conn, "products/list_movements", Movement, product_id=product_id, before=before, limit=limit)
