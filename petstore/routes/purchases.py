"""Purchases. One transaction locks the products in id order and buys all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from petstore import errors
from petstore.cache.prefixes import INVOICES, stock_prefixes
from petstore.db import Connection
from petstore.domain.idempotency import transact_once
from petstore.domain.refusals import FromFacts
from petstore.domain.stock import Line, short_lines, shortages, sum_lines, unknown_products
from petstore.repository import purchases
from petstore.repository.purchases import BoughtProduct
from petstore.request import Request, Response
from petstore.web.validation import money


class ExpectedPrice(NamedTuple):
    """A price that the buyer expects. pointer: where the body names it."""

    pointer: str
    product_id: int
    price: Decimal


def purchase_product(request: Request) -> Response:
    """Turn lines of products into a pending invoice, and take the pieces out of stock.

    All or nothing: if a line is short of stock, or its `expected_price` is not the price, nothing is bought, and a 409 names
    each such line.
    """
    lines = request.body["products"]
    pieces, expected = sum_lines(lines), _expected_prices(request, lines)

    def buy(conn: Connection) -> Response:
        products = purchases.buy_products(
            conn,
            user_id=request.user.id,
            product_ids=list(pieces),
            quantities=list(pieces.values()),
            expected_ids=[one.product_id for one in expected],
            expected_prices=[one.price for one in expected],
        )
        if not products or products[0].invoice_id is None:
            raise _refusal(request, expected, {product.product_id: product for product in products}, from_facts)
        return _invoice_response(products)

    def from_facts(slug: str, facts: Sequence[int | None]) -> errors.Conflict:
        if slug == errors.PriceChanged.slug:
            return errors.PriceChanged(errors=_other_prices(request, expected, facts), facts=facts)
        return errors.NotEnoughStock(errors=shortages("products", lines, facts, "in stock"), facts=facts)

    # One transaction: BEGIN, claim the key, buy, save the answer, COMMIT. Then the stale cache entries are invalid.
    stale = [*stock_prefixes(pieces), INVOICES.format(user_id=request.user.id)]
    return transact_once(request, buy, key=request.key, invalidates=stale, from_facts=from_facts)


def _invoice_response(products: Sequence[BoughtProduct]) -> Response:
    """The new invoice, as GET /invoices/X shows it. Every row of the query has the columns of the invoice."""
    invoice = products[0].invoice()
    body = {**invoice, "details": [product.detail() for product in products], "events": [], "credit_notes": []}
    return Response(201, body, {"Location": f"/invoices/{invoice['id']}"})


def _expected_prices(request: Request, lines: Sequence[Line]) -> list[ExpectedPrice]:
    digits = request.services.settings.minor_digits
    return [
        ExpectedPrice(pointer, line["product_id"], money(pointer, line["expected_price"], digits))
        for number, line in enumerate(lines)
        if "expected_price" in line and (pointer := f"/products/{number}/expected_price")
    ]


def _refusal(
    request: Request, expected: Sequence[ExpectedPrice], locked: Mapping[int, BoughtProduct], from_facts: FromFacts
) -> Exception:
    """The error that tells why nothing was bought. locked: the products on sale, by id, as the transaction has locked them."""
    lines, digits = request.body["products"], request.services.settings.minor_digits
    if faults := unknown_products("products", lines, locked, "there is no such product"):
        return errors.Invalid(faults)
    now = [(one.price, locked[one.product_id].unit_price) for one in expected]
    if any(price != expected_price for expected_price, price in now):
        prices = [int(price.scaleb(digits)) if price != expected_price else None for expected_price, price in now]
        return from_facts(errors.PriceChanged.slug, prices)
    short = short_lines(lines, {product_id: product.stock for product_id, product in locked.items()})
    if any(available is not None for available in short):
        return from_facts(errors.NotEnoughStock.slug, short)
    return LookupError(
        "purchases/buy_products bought nothing, although everything is on sale, in stock and at the expected price"
    )


def _other_prices(request: Request, expected: Sequence[ExpectedPrice], prices: Sequence[int | None]) -> list[errors.Fault]:
    """A fault for each price that is not the expected one. prices: the present ones in minor units; None where it is."""
    digits = request.services.settings.minor_digits
    now = [None if units is None else f"{Decimal(units).scaleb(-digits):.{digits}f}" for units in prices]
    return [
        {
            "pointer": one.pointer,
            "detail": f"the price is {price} now",
            "product_id": one.product_id,
            "expected_price": f"{one.price:.{digits}f}",
            "price": price,
        }
        for one, price in zip(expected, now, strict=True)
        if price is not None
    ]
