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


def get_product(conn: Connection, *, product_id: int) -> Product | None:
    """One product on sale."""
    return one_or_none(conn, "products/get_product", Product, product_id=product_id)


def list_products(conn: Connection, *, after: int, limit: int) -> list[Product]:
    """At most `limit` products on sale with an id above `after`, in id order."""
    return many(conn, "products/list_products", Product, after=after, limit=limit)


def create_product(conn: Connection, *, name: str, price: Decimal, stock: int) -> Product:
    """A new product on sale."""
    return one(conn, "products/create_product", Product, name=name, price=price, stock=stock)


def update_product(
    conn: Connection, *, product_id: int, name: str | None, price: Decimal | None, stock: int | None
) -> Product | None:
    """Change what is not None of a product on sale."""
    return one_or_none(conn, "products/update_product", Product, product_id=product_id, name=name, price=price, stock=stock)


def delete_product(conn: Connection, *, product_id: int) -> int | None:
    """Take a product off sale; its id, or None."""
    found: int | None = scalar(conn, "products/delete_product", product_id=product_id)
    return found
