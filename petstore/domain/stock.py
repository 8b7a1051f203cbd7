"""The lines of a request (product and quantity), the faults that they can have, and the limit of a stock."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from petstore import errors
from petstore.errors import Fault

MAX_STOCK = 1_000_000_000  # pieces
Line = Mapping[str, Any]  # {"product_id": 4, "quantity": 2}


def sum_lines(lines: Sequence[Line]) -> dict[int, int]:
    """Add up lines that name the same product: pieces by product id, in id order."""
    pieces: dict[int, int] = {}
    for line in lines:
        pieces[line["product_id"]] = pieces.get(line["product_id"], 0) + line["quantity"]
    return dict(sorted(pieces.items()))


def unknown_products(member: str, lines: Sequence[Line], known: Container[int], detail: str) -> list[Fault]:
    """A fault for each line whose product is not in `known`. member: the name of the list of lines in the body."""
    return [
        {"pointer": f"/{member}/{number}/product_id", "detail": detail}
        for number, line in enumerate(lines)
        if line["product_id"] not in known
    ]


def shortages(
    member: str, lines: Sequence[Line], requested: Mapping[int, int], available: Mapping[int, int], what: str
) -> list[Fault]:
    """A fault for each line of a product of which more pieces are requested, by all lines together, than are available.

    member: the name of the list of lines in the body; what: ends the sentence "only 3 ...".
    """
    return [
        shortage(f"/{member}/{number}/quantity", product_id, requested[product_id], available[product_id], what)
        for number, product_id in enumerate(line["product_id"] for line in lines)
        if requested[product_id] > available[product_id]
    ]


def shortage(pointer: str, product_id: int, requested: int, available: int, what: str) -> Fault:
    """The fault at `pointer`: more pieces are requested than are available."""
    return {
        "pointer": pointer,
        "detail": f"only {available} {what}",
        "product_id": product_id,
        "requested": requested,
        "available": available,
    }


def check_stock_limit(stocks: Mapping[int, int]) -> None:
    """Raise StockLimit if a product would have more than MAX_STOCK pieces. stocks: the new stock by product id."""
    full = [product_id for product_id, stock in stocks.items() if stock > MAX_STOCK]
    if full:
        raise errors.StockLimit(f"The stock of a product would pass {MAX_STOCK:,} pieces.", product_ids=full)
