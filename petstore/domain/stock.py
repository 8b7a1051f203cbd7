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


def short_lines(lines: Sequence[Line], available: Mapping[int, int]) -> list[int | None]:
    """For each line the pieces that are available of its product, if all lines together request more; else None."""
    requested = sum_lines(lines)
    return [
        available[product_id] if requested[product_id] > available[product_id] else None
        for product_id in (line["product_id"] for line in lines)
    ]


def shortages(member: str, lines: Sequence[Line], short: Sequence[int | None], what: str) -> list[Fault]:
    """A fault for each line that is short. short: as `short_lines` gives it.

    member: the name of the list of lines in the body; what: ends the sentence "only 3 ...".
    """
    requested = sum_lines(lines)
    return [
        shortage(f"/{member}/{number}/quantity", line["product_id"], requested[line["product_id"]], available, what)
        for number, (line, available) in enumerate(zip(lines, short, strict=True))
        if available is not None
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
