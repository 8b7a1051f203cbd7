"""The catalogue: lists and single products (cached), and what admins do to them."""

from __future__ import annotations

from functools import partial
from typing import Any

from petstore import errors
from petstore.cached import cached
from petstore.calls import Answer, Call
from petstore.db import Connection
from petstore.documents import Document
from petstore.lines import shortage
from petstore.pagination import page, position
from petstore.parameters import MAX_ID, fault
from petstore.repository import products
from petstore.stock import PRODUCT, PRODUCTS, check_limit, stock_prefixes
from petstore.validation import money
from petstore.writes import write

MAX_NAME = 200  # characters
_SCOPE = "products"  # of the cursors


def get_products(call: Call) -> Document:
    """One product by `id`, or a page of all.

    `id` stands alone, without `limit` and `after`.
    """
    query = call.query
    if "id" not in query:
        after, limit = position(query, _SCOPE, 0)
        return _page(call, after=after, limit=limit)
    if len(query) > 1:
        raise fault("id", "asks for one product: it cannot stand together with limit or after")
    return _single(call, product_id=query["id"])


@cached(PRODUCT, ttl=300)
def _single(call: Call, *, product_id: int) -> Any:
    return _found(call.read(partial(products.get_product, product_id=product_id)))


@cached(PRODUCTS, ttl=600)
def _page(call: Call, *, after: int, limit: int) -> Any:
    return page(_SCOPE, call.read(partial(products.list_products, after=after, limit=limit + 1)), limit)


def list_movements(call: Call) -> Document:
    """A page of the ledger of a product's stock, newest first; also when it is no longer on sale."""
    product_id = call.query["id"]
    scope = f"movements/{product_id}"
    before, limit = position(call.query, scope, MAX_ID)
    items = call.read(partial(products.list_movements, product_id=product_id, before=before, limit=limit + 1))
    if not items and "after" not in call.query:
        raise _no_such_product()  # the first row of every ledger is its initial stock
    return call.document(page(scope, items, limit))


def create_product(call: Call) -> Answer:
    """Put a product on sale."""
    columns = _columns(call)

    def work(conn: Connection) -> Answer:
        product = products.create_product(conn, **columns, stock=call.body["stock"], actor_id=call.user.id)
        return Answer(201, product, {"Location": f"/products?id={product.id}"})

    return write(call, work, PRODUCTS)


def modify_product(call: Call) -> Answer:
    """Change name, price or stock of a product: to a value, or the stock by a number of pieces."""
    product_id, body = call.query["id"], call.body
    _check_changes(body)
    columns = {"name": None, "price": None} | _columns(call)

    def work(conn: Connection) -> Answer:
        locked = _lock(conn, product_id, body.get("version"), pointer="/version")
        columns["stock"] = _new_stock(body, product_id, locked.stock)
        cause = {"actor_id": call.user.id, "reason": body.get("reason")}
        return Answer(200, products.update_product(conn, product_id=product_id, **columns, **cause))

    return write(call, work, *stock_prefixes([product_id]))


def delete_product(call: Call) -> Answer:
    """Take a product off sale; `version`: only if it was not edited since."""
    product_id = call.query["id"]

    def work(conn: Connection) -> Answer:
        _lock(conn, product_id, call.query.get("version"), parameter="version")
        products.delete_product(conn, product_id=product_id)
        return Answer(204)

    return write(call, work, *stock_prefixes([product_id]))


def _lock(conn: Connection, product_id: int, version: int | None, **named: str) -> products.EditedProduct:
    """Lock it for an edit, if it has this version. named: where the request names that."""
    locked = products.lock_product(conn, product_id=product_id)
    if locked is None:
        raise _no_such_product()
    if version not in (None, locked.version):
        detail = f"You name version {version}, and it has version {locked.version} now: read it again."
        there = {**named, "detail": f"is {locked.version} now"}
        raise errors.EditConflict(detail, errors=[there], current_version=locked.version)
    return locked


def _check_changes(body: dict[str, Any]) -> None:
    """What the schema cannot say: which members go together."""
    of_stock = {"stock", "stock_delta"} & body.keys()
    if len(of_stock) == 2:
        raise errors.invalid("/stock_delta", "cannot stand beside stock: one is the new stock, the other a change of it")
    for name in ("expected_stock", "reason"):
        if name in body and not of_stock:
            raise errors.invalid(f"/{name}", "goes with stock or stock_delta only")
    if not body.keys() - {"version"}:
        raise errors.invalid("", "must name at least one of: name, price, stock, stock_delta")


def _new_stock(body: dict[str, Any], product_id: int, stock: int) -> int | None:
    """The stock that a locked product is to have; None to leave it."""
    if body.get("expected_stock", stock) != stock:
        there = {"pointer": "/expected_stock", "detail": f"the stock is {stock} now"}
        raise errors.StockChanged(f"The stock is {stock} now, and nothing was changed.", errors=[there], current_stock=stock)
    if "stock_delta" not in body:
        found: int | None = body.get("stock")
        return found
    wanted = stock + int(body["stock_delta"])
    if wanted < 0:
        short = shortage("/stock_delta", product_id, -int(body["stock_delta"]), stock, "in stock")
        raise errors.NotEnoughStock(errors=[short])
    check_limit({product_id: wanted})
    return wanted


def _found(product: products.Product | None) -> products.Product:
    if product is None:
        raise _no_such_product()
    return product


def _no_such_product() -> errors.NotFound:
    return errors.NotFound("There is no product with this id.")


def _columns(call: Call) -> dict[str, Any]:
    """Name and price of the validated body, as far as they are there: the name trimmed, the price exact."""
    columns = {name: call.body[name] for name in ("name", "price") if name in call.body}
    if "name" in columns:
        columns["name"] = columns["name"].strip()
        if not 1 <= len(columns["name"]) <= MAX_NAME:
            raise errors.invalid("/name", f"must have 1 to {MAX_NAME} characters, spaces at its ends not counted")
    if "price" in columns:
        columns["price"] = money("/price", columns["price"], call.services.settings.minor_digits)
    return columns
