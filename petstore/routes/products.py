"""Products: the list and single ones (cached); creating, changing and deleting them; the stock ledger."""

from __future__ import annotations

from typing import Any

from petstore import errors
from petstore.cache.decorator import cached
from petstore.cache.document import Document
from petstore.cache.prefixes import PRODUCT, PRODUCTS, stock_prefixes
from petstore.db import Connection
from petstore.domain.idempotency import transact_once
from petstore.domain.preconditions import check_if_match, product_tag
from petstore.domain.stock import check_stock_limit, shortage
from petstore.domain.transactions import transact
from petstore.repository import products
from petstore.request import Request, Response
from petstore.web.pagination import page, position
from petstore.web.parameters import MAX_ID, fault
from petstore.web.validation import SCHEMAS, money

COLUMNS = tuple(SCHEMAS["product_new"]["properties"])  # that a request may set
MAX_NAME: int = SCHEMAS["product"]["properties"]["name"]["maxLength"]
_SCOPE = "products"  # a cursor made for another list is refused


def get_products(request: Request) -> Document:
    """One product by `id`, some by `ids`, or a page of all.

    With `id` the answer is that `Product`, or a 404. With `ids=4,1,7` it is a `ProductPage` without a next one: these products,
    in this order, each once; one that there is not, or that is not on sale any more, is left out. `id` and `ids` stand alone.
    Without them it is a `ProductPage` in id order: `limit` says how many products it has, `after` where it begins.
    """
    query = request.query
    if len(query) > 1:
        for name, wanted in (("id", "one product"), ("ids", "these products")):
            if name in query:
                others = ", ".join(other for other in ("id", "ids", "limit", "after") if other != name)
                raise fault(name, f"asks for {wanted}: it cannot stand together with {others}")
    if "id" in query:
        return _single(request, product_id=query["id"])
    if "ids" in query:
        return _some(request, product_ids=_ids(query["ids"]))
    after, limit = position(query, _SCOPE, 0)
    return _page(request, after=after, limit=limit)


@cached(PRODUCT, ttl=300, tag_of=product_tag)
def _single(request: Request, *, product_id: int) -> Any:
    return _require(request.read(products.get_product, product_id=product_id))


@cached(PRODUCTS, ttl=600)
def _page(request: Request, *, after: int, limit: int) -> Any:
    return page(_SCOPE, request.read(products.list_products, after=after, limit=limit + 1), limit)


@cached(PRODUCTS, ttl=600)
def _some(request: Request, *, product_ids: tuple[int, ...]) -> Any:
    return page(_SCOPE, request.read(products.list_products_by_id, product_ids=list(product_ids)), len(product_ids))


def _ids(text: str) -> tuple[int, ...]:
    """The ids, each once, of a text that its schema has accepted."""
    ids = tuple(dict.fromkeys(map(int, text.split(","))))
    if max(ids) > MAX_ID:
        raise fault("ids", f"must have ids of at most {MAX_ID}")
    return ids


def list_movements(request: Request) -> Document:
    """A page of the ledger of a product's stock, newest first; also when it is no longer on sale.

    A movement is a purchase, a cancellation, a credit or an edit; `stock` is what was there after it.
    """
    product_id = request.query["id"]
    scope = f"movements/{product_id}"
    before, limit = position(request.query, scope, MAX_ID)
    items = request.read(products.list_movements, product_id=product_id, before=before, limit=limit + 1)
    if not items and "after" not in request.query:
        raise _no_such_product()  # every product has at least the row of its initial stock
    return request.document(page(scope, items, limit))


def create_product(request: Request) -> Response:
    """Put a product on sale.

    It is in lists and can be bought at once. `Location` says where it can be read.
    """
    columns = _columns(request)

    def create(conn: Connection) -> Response:
        product = products.create_product(conn, **columns, actor_id=request.user.id)
        return Response(201, product, {"Location": f"/products?id={product.id}"})

    return _tagged(request, transact_once(request, create, key=request.key, invalidates=[PRODUCTS]))


def modify_product(request: Request) -> Response:
    """Change members of a product: to a value, or the stock by a number of pieces.

    What is left out stays. With `version` or `expected_stock` it is done only if these are still right, else it is a 409.
    """
    product_id, body = request.query["id"], request.body
    if {"stock", "stock_delta"} <= body.keys():
        raise errors.invalid("/stock_delta", "cannot stand beside stock: one is the new stock, the other a change of it")
    columns = _columns(request)

    def modify(conn: Connection) -> Response:
        locked = _lock(conn, request, body.get("version"), pointer="/version")
        columns["stock"] = _new_stock(body, product_id, locked.stock)
        cause = {"actor_id": request.user.id, "reason": body.get("reason")}
        # None: it has all of that already. The cache is told nevertheless: its entries may be older than a change made in psql.
        return Response(200, products.update_product(conn, product_id=product_id, **columns, **cause) or locked)

    return _tagged(request, transact_once(request, modify, key=request.key, invalidates=stock_prefixes([product_id])))


def _tagged(request: Request, response: Response) -> Response:
    """An answer that shows a product, with the product's ETag: who edits it again need not read it."""
    if response.status >= 400:
        return response
    body = request.encode(response.value)
    return Response(response.status, body, {**response.headers, "ETag": product_tag(body)})


def delete_product(request: Request) -> Response:
    """Take a product off sale; `version`: only if it was not edited since.

    It is gone from lists, reads and purchases. Invoices still show it.
    """
    product_id = request.query["id"]

    def delete(conn: Connection) -> Response:
        _lock(conn, request, request.query.get("version"), parameter="version")
        products.delete_product(conn, product_id=product_id)
        return Response(204)

    return transact(request, delete, invalidates=stock_prefixes([product_id]))


def _lock(conn: Connection, request: Request, version: int | None, **place: str) -> products.Product:
    """Lock the product of the request until the transaction ends. PreconditionFailed, EditConflict if it has changed since.

    version: that the request names, if it does; place: where.
    """
    locked = _require(products.lock_product(conn, product_id=request.query["id"]))
    check_if_match(request, locked)
    if version not in (None, locked.version):
        detail = f"You name version {version}, and it has version {locked.version} now: read it again."
        there = {**place, "detail": f"is {locked.version} now"}
        raise errors.EditConflict(detail, errors=[there], current_version=locked.version)
    return locked


def _new_stock(body: dict[str, Any], product_id: int, stock: int) -> int | None:
    """The new stock of a locked product, from `stock` or `stock_delta`; None leaves it. stock: the present one."""
    if body.get("expected_stock", stock) != stock:
        there = {"pointer": "/expected_stock", "detail": f"the stock is {stock} now"}
        raise errors.StockChanged(f"The stock is {stock} now, and nothing was changed.", errors=[there], current_stock=stock)
    if "stock_delta" not in body:
        new_stock: int | None = body.get("stock")
        return new_stock
    new_stock = stock + int(body["stock_delta"])
    if new_stock < 0:
        short = shortage("/stock_delta", product_id, -int(body["stock_delta"]), stock, "in stock")
        raise errors.NotEnoughStock(errors=[short])
    check_stock_limit({product_id: new_stock})
    return new_stock


def _require(product: products.Product | None) -> products.Product:
    if product is None:
        raise _no_such_product()
    return product


def _no_such_product() -> errors.NotFound:
    return errors.NotFound("There is no product with this id.")


def _columns(request: Request) -> dict[str, Any]:
    """The columns of the body, None where it has none: the name trimmed, the price as a Decimal."""
    columns = {name: request.body.get(name) for name in COLUMNS}
    if columns["name"] is not None:
        columns["name"] = columns["name"].strip()
        if len(columns["name"]) > MAX_NAME:
            raise errors.invalid("/name", f"must have at most {MAX_NAME} characters, spaces at its ends not counted")
    if columns["price"] is not None:
        columns["price"] = money("/price", columns["price"], request.services.settings.minor_digits)
    return columns
