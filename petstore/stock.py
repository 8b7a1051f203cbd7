"""What everything that changes stock has to know: where it shows, and what it is refused with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from petstore import errors

# Prefixes of the cache: one product, every list of products.
PRODUCT = "product:{product_id}"
PRODUCTS = "products"

MAX_STOCK = 1_000_000_000  # pieces


def stock_prefixes(product_ids: Iterable[int]) -> list[str]:
    """What of the cache shows the stock of these products."""
    return [PRODUCTS, *(PRODUCT.format(product_id=product_id) for product_id in product_ids)]


def check_limit(stocks: Mapping[int, int]) -> None:
    """Refuse what would put more into stock than it can hold. stocks: pieces that there would be, by product."""
    full = [product_id for product_id, stock in stocks.items() if stock > MAX_STOCK]
    if full:
        raise errors.StockLimit(product_ids=full)
