"""The prefixes of the cache: a read is stored under one, a write names those that it may change."""

from __future__ import annotations

from collections.abc import Iterable

PRODUCT = "product:{product_id}"  # one product
PRODUCTS = "products"  # every list of products
INVOICES = "invoices:{user_id}"  # every list of a customer's invoices
LOGINS = "logins:{user_id}"  # an account's role and live logins, kept in memory by petstore.domain.logins


def stock_prefixes(product_ids: Iterable[int]) -> list[str]:
    """Every prefix that shows the stock of these products."""
    return [PRODUCTS, *(PRODUCT.format(product_id=product_id) for product_id in product_ids)]
