"""Buying: all of it or nothing, in one transaction that locks the products in id order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from petstore import errors
from petstore.calls import Answer, Call
from petstore.db import Connection
from petstore.invoicing import INVOICES, parts
from petstore.lines import Line, shortages, sum_lines, unknown_products
from petstore.repository import purchases
from petstore.repository.purchases import LockedProduct
from petstore.stock import stock_prefixes
from petstore.validation import money
from petstore.writes import write

Locked = Mapping[int, LockedProduct]


def purchase_product(call: Call) -> Answer:
    """Turn lines of products into a pending invoice, and take the pieces out of stock."""
    lines = call.body["products"]
    wanted, expected = sum_lines(lines), _expected_prices(call, lines)

    def work(conn: Connection) -> Answer:
        locked = {product.id: product for product in purchases.lock_products(conn, product_ids=list(wanted))}
        if faults := unknown_products("products", lines, locked, "there is no such product"):
            raise errors.Invalid(faults)
        _check_prices(call, expected, locked)
        stock = {product.id: product.stock for product in locked.values()}
        if faults := shortages("products", lines, wanted, stock, "in stock"):
            raise errors.NotEnoughStock(errors=faults)
        return _buy(conn, call.user.id, wanted, locked)

    return write(call, work, *stock_prefixes(wanted), INVOICES.format(user_id=call.user.id))


def _buy(conn: Connection, user_id: int, wanted: Mapping[int, int], locked: Locked) -> Answer:
    ids, quantities = list(wanted), list(wanted.values())
    total = sum((product.price * wanted[product.id] for product in locked.values()), Decimal(0))
    invoice = purchases.create_invoice(conn, user_id=user_id, total=total)
    details = purchases.create_invoice_details(conn, invoice_id=invoice.id, product_ids=ids, quantities=quantities)
    purchases.take_stock(conn, product_ids=ids, quantities=quantities, invoice_id=invoice.id, actor_id=user_id)
    whole = {**vars(invoice), "details": parts("invoice_id", details)[invoice.id], "events": [], "credit_notes": []}
    return Answer(201, whole, {"Location": f"/invoices/{invoice.id}"})


def _expected_prices(call: Call, lines: Sequence[Line]) -> list[tuple[str, int, Decimal]]:
    """Of each line that has an expected price: where it stands, the product, the price."""
    digits = call.services.settings.minor_digits
    return [
        (pointer, line["product_id"], money(pointer, line["expected_price"], digits))
        for number, line in enumerate(lines)
        if "expected_price" in line and (pointer := f"/products/{number}/expected_price")
    ]


def _check_prices(call: Call, expected: Sequence[tuple[str, int, Decimal]], locked: Locked) -> None:
    digits = call.services.settings.minor_digits
    faults = [
        {
            "pointer": pointer,
            "detail": f"the price is {locked[product_id].price:.{digits}f} now",
            "product_id": product_id,
            "expected_price": f"{price:.{digits}f}",
            "price": f"{locked[product_id].price:.{digits}f}",
        }
        for pointer, product_id, price in expected
        if locked[product_id].price != price
    ]
    if faults:
        raise errors.PriceChanged(errors=faults)
