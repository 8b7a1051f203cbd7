"""The lines of a request, each a product and a quantity, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from petstore import errors
from petstore.errors import Fault

Line = Mapping[str, Any]


def sum_lines(lines: Sequence[Line]) -> dict[int, int]:
    """Pieces by product, in id order."""
    pieces: dict[int, int] = {}
    for line in lines:
        pieces[line["product_id"]] = pieces.get(line["product_id"], 0) + line["quantity"]
    return dict(sorted(pieces.items()))


def unknown_products(member: str, lines: Sequence[Line], known: Container[int], detail: str) -> list[Fault]:
    """The faults of those lines of the body's `member` whose product is not a known one."""
    return [
        {"pointer": f"/{member}/{number}/product_id", "detail": detail}
        for number, line in enumerate(lines)
        if line["product_id"] not in known
    ]


def shortages(
    member: str, lines: Sequence[Line], requested: Mapping[int, int], available: Mapping[int, int], what: str
) -> list[Fault]:
    """The faults of those lines of the body's `member` of whose product more pieces are requested, in all, than available."""
    return [
        shortage(f"/{member}/{number}/quantity", product_id, requested[product_id], available[product_id], what)
        for number, product_id in enumerate(line["product_id"] for line in lines)
        if requested[product_id] > available[product_id]
    ]


def shortage(pointer: str, product_id: int, requested: int, available: int, what: str) -> Fault:
    """What is wrong at `pointer`: so many pieces are requested, and only so many available."""
    return {
        "pointer": pointer,
        "detail": f"only {available} {what}",
        "product_id": product_id,
        "requested": requested,
        "available": available,
    }


MAX_STOCK = 1_000_000_000  # pieces


def check_stock_limit(stocks: Mapping[int, int]) -> None:
    """Refuse what would put more into stock than it can hold. stocks: pieces that there would be, by product."""
    full = [product_id for product_id, stock in stocks.items() if stock > MAX_STOCK]
    if full:
        raise errors.StockLimit(f"The stock of a product would pass {MAX_STOCK:,} pieces.", product_ids=full)
