"""Buying: all of it or nothing, in one transaction that locks the products in id order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from petstore import errors
from petstore.cache.prefixes import INVOICES, stock_prefixes
from petstore.db import Connection
from petstore.domain.idempotency import transact_once
from petstore.domain.stock import Line, shortages, sum_lines, unknown_products
from petstore.repository import purchases
from petstore.repository.purchases import BoughtProduct
from petstore.request import Request, Response
from petstore.web.validation import money

_OF_INVOICE = ("number", "user_id", "status", "total", "currency", "created_at")
_OF_DETAIL = ("product_id", "name", "unit_price", "quantity", "line_total", "credited", "restocked")


class Expected(NamedTuple):
    """A price that the buyer knows, and where in the body it stands."""

    pointer: str
    product_id: int
    price: Decimal


def purchase_product(request: Request) -> Response:
    """Turn lines of products into a pending invoice, and take the pieces out of stock."""
    lines = request.body["products"]
    wanted, expected = sum_lines(lines), _expected_prices(request, lines)

    def work(conn: Connection) -> Response:
        found = purchases.buy_products(
            conn,
            user_id=request.user.id,
            product_ids=list(wanted),
            quantities=list(wanted.values()),
            expected_ids=[one.product_id for one in expected],
            expected_prices=[one.price for one in expected],
        )
        if not found or found[0].invoice_id is None:
            raise _refusal(request, lines, wanted, expected, {product.product_id: product for product in found})
        return _answer(found)

    touched = [*stock_prefixes(wanted), INVOICES.format(user_id=request.user.id)]
    return transact_once(request, work, key=request.key, invalidates=touched)


def _answer(bought: Sequence[BoughtProduct]) -> Response:
    invoice = bought[0]
    details = [{name: getattr(product, name) for name in _OF_DETAIL} for product in bought]
    whole = {"id": invoice.invoice_id, **{name: getattr(invoice, name) for name in _OF_INVOICE}}
    whole |= {"details": details, "events": [], "credit_notes": []}
    return Response(201, whole, {"Location": f"/invoices/{invoice.invoice_id}"})


def _expected_prices(request: Request, lines: Sequence[Line]) -> list[Expected]:
    digits = request.services.settings.minor_digits
    return [
        Expected(pointer, line["product_id"], money(pointer, line["expected_price"], digits))
        for number, line in enumerate(lines)
        if "expected_price" in line and (pointer := f"/products/{number}/expected_price")
    ]


def _refusal(
    request: Request,
    lines: Sequence[Line],
    wanted: Mapping[int, int],
    expected: Sequence[Expected],
    locked: Mapping[int, BoughtProduct],
) -> Exception:
    """Why nothing was bought."""
    if faults := unknown_products("products", lines, locked, "there is no such product"):
        return errors.Invalid(faults)
    if faults := _other_prices(request, expected, locked):
        return errors.PriceChanged(errors=faults)
    stock = {product_id: product.stock for product_id, product in locked.items()}
    if faults := shortages("products", lines, wanted, stock, "in stock"):
        return errors.NotEnoughStock(errors=faults)
    return LookupError("purchases/buy_products bought nothing, and nothing is wrong")


def _other_prices(request: Request, expected: Sequence[Expected], locked: Mapping[int, BoughtProduct]) -> list[errors.Fault]:
    digits = request.services.settings.minor_digits
    return [
        {
            "pointer": one.pointer,
            "detail": f"the price is {price:.{digits}f} now",
            "product_id": one.product_id,
            "expected_price": f"{one.price:.{digits}f}",
            "price": f"{price:.{digits}f}",
        }
        for one in expected
        if (price := locked[one.product_id].unit_price) != one.price
    ]
