"""Buying: all of it or nothing, in one transaction that locks the products in id order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from petstore import errors
from petstore.calls import Answer, Call
from petstore.repository import purchases
from petstore.repository.purchases import LockedProduct
from petstore.routes import INVOICES, PRODUCTS

Line = Mapping[str, int]


def purchase(call: Call) -> Answer:
    """Turn lines of products into a pending invoice, and take the pieces out of stock."""
    lines = call.body["products"]
    wanted = _sum_lines(lines)
    ids, quantities = list(wanted), list(wanted.values())
    with call.db.transaction() as conn:
        locked = {product.id: product for product in purchases.lock_products(conn, product_ids=ids)}
        _check_known(lines, locked)
        _check_stock(lines, wanted, locked)
        total = sum((product.price * wanted[product.id] for product in locked.values()), Decimal(0))
        purchases.take_stock(conn, product_ids=ids, quantities=quantities)
        invoice = purchases.create_invoice(conn, user_id=call.user.id, total=total)
        details = purchases.create_invoice_details(conn, invoice_id=invoice.id, product_ids=ids, quantities=quantities)
    call.cache.invalidate(PRODUCTS, INVOICES.format(user_id=call.user.id))
    return Answer(201, {**vars(invoice), "details": details}, {"Location": f"/invoices/{invoice.id}"})


def _sum_lines(lines: Sequence[Line]) -> dict[int, int]:
    """Pieces by product, in id order."""
    wanted: dict[int, int] = {}
    for line in lines:
        wanted[line["product_id"]] = wanted.get(line["product_id"], 0) + line["quantity"]
    return dict(sorted(wanted.items()))


def _check_known(lines: Sequence[Line], locked: Mapping[int, LockedProduct]) -> None:
    faults = [
        {"pointer": f"/products/{number}/product_id", "detail": "there is no such product"}
        for number, line in enumerate(lines)
        if line["product_id"] not in locked
    ]
    if faults:
        raise errors.Invalid("At least one product does not exist.", errors=faults)


def _check_stock(lines: Sequence[Line], wanted: Mapping[int, int], locked: Mapping[int, LockedProduct]) -> None:
    faults: list[dict[str, Any]] = []
    for number, line in enumerate(lines):
        product_id = line["product_id"]
        requested, available = wanted[product_id], locked[product_id].stock
        if requested > available:
            faults.append(
                {
                    "pointer": f"/products/{number}/quantity",
                    "detail": f"only {available} in stock",
                    "product_id": product_id,
                    "requested": requested,
                    "available": available,
                }
            )
    if faults:
        raise errors.NotEnoughStock(errors=faults)
