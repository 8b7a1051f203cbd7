"""The prefixes under which the cache keeps what a write may change."""

from __future__ import annotations

from collections.abc import Iterable

INVOICES = "invoices:{user_id}"  # prefix of the cache: every list of a customer's invoices
LOGINS = "logins:{user_id}"  # prefix of what is remembered of an account's logins
# Prefixes of the cache: one product, every list of products.
PRODUCT = "product:{product_id}"
PRODUCTS = "products"


def stock_prefixes(product_ids: Iterable[int]) -> list[str]:
    """What of the cache shows the stock of these products."""
    return [PRODUCTS, *(PRODUCT.format(product_id=product_id) for product_id in product_ids)]
