"""The catalogue: lists and single products (cached), and what admins do to them."""

from __future__ import annotations

from typing import Any

from petstore import errors
from petstore.cache import Document, cached
from petstore.calls import Answer, Call
from petstore.pagination import page, page_limit, read_cursor
from petstore.repository import products
from petstore.routes import PRODUCTS
from petstore.validation import money, positive_id

MAX_NAME = 200  # characters
_SCOPE = "products"  # of the cursors


def read(call: Call) -> Document:
    """One product by `id`, or a page of all."""
    query = call.query
    if "id" not in query:
        after = read_cursor(_SCOPE, query["after"]) if "after" in query else 0
        return _page(call, after=after, limit=page_limit(query.get("limit")))
    if len(query) > 1:
        raise errors.BadRequest("id asks for one product: it cannot stand together with limit or after.")
    return _single(call, product_id=positive_id(query["id"]))


@cached(PRODUCTS, ttl=300)
def _single(call: Call, *, product_id: int) -> Any:
    with call.db.connection() as conn:
        return _found(products.get_product(conn, product_id=product_id))


@cached(PRODUCTS, ttl=600)
def _page(call: Call, *, after: int, limit: int) -> Any:
    with call.db.connection() as conn:
        items = products.list_products(conn, after=after, limit=limit + 1)
    return page(_SCOPE, items, limit)


def create(call: Call) -> Answer:
    """Put a product on sale."""
    changes = _columns(call)
    with call.db.transaction() as conn:
        product = products.create_product(conn, **changes)
    call.cache.invalidate(PRODUCTS)
    return Answer(201, product, {"Location": f"/products?id={product.id}"})


def modify(call: Call) -> Answer:
    """Change name, price or stock of a product."""
    product_id = _required_id(call)
    columns = {"name": None, "price": None, "stock": None} | _columns(call)
    with call.db.transaction() as conn:
        product = _found(products.update_product(conn, product_id=product_id, **columns))
    call.cache.invalidate(PRODUCTS)
    return Answer(200, product)


def delete(call: Call) -> Answer:
    """Take a product off sale."""
    product_id = _required_id(call)
    with call.db.transaction() as conn:
        if products.delete_product(conn, product_id=product_id) is None:
            raise _no_such_product()
    call.cache.invalidate(PRODUCTS)
    return Answer(204)


def _found(product: products.Product | None) -> products.Product:
    if product is None:
        raise _no_such_product()
    return product


def _no_such_product() -> errors.NotFound:
    return errors.NotFound("There is no product with this id.")


def _required_id(call: Call) -> int:
    if "id" not in call.query:
        raise errors.BadRequest("Query parameter id is missing: it names the product.")
    return positive_id(call.query["id"])


def _columns(call: Call) -> dict[str, Any]:
    """The validated body as columns: the name trimmed, the price exact."""
    columns = dict(call.body)
    if "name" in columns:
        columns["name"] = columns["name"].strip()
        if not 1 <= len(columns["name"]) <= MAX_NAME:
            raise errors.invalid("/name", f"must have 1 to {MAX_NAME} characters, spaces at its ends not counted")
    if "price" in columns:
        columns["price"] = money("/price", columns["price"], call.services.settings.minor_digits)
    return columns
