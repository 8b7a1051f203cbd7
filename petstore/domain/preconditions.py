"""If-Match: a write to a product that is done only if the product still is what the client has read (RFC 9110, 13.1.1).

The ETag of a product is `"<hash of its body>-<pieces in stock>"`. If today's product has that hash with the stock of back then,
nothing but the stock has changed since. So the tag alone tells purchases from edits, also from those that psql makes.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from petstore import errors
from petstore.cache.document import etag, new_hash
from petstore.repository.products import Product
from petstore.request import Request

# A weak tag never matches. That of a compressed answer has -gzip at its end, and what an older release has cached has no stock.
_PRODUCT_TAG = re.compile('"([0-9a-f]{32})(?:-([0-9]{1,10}))?(?:-gzip)?"')


def product_tag(body: bytes) -> str:
    """The ETag of a product. body: its JSON."""
    return f'{etag(new_hash(body))[:-1]}-{json.loads(body)["stock"]}"'


def check_if_match(request: Request, product: Product) -> None:
    """Raise PreconditionFailed if the request has an If-Match without the ETag of a product. product: as it is locked now."""
    if request.if_match is None or request.if_match == ("*",):
        return
    read = [(found[1], int(found[2] or product.stock)) for found in map(_PRODUCT_TAG.fullmatch, request.if_match) if found]
    stocks = [stock for digest, stock in read if _digest(request, replace(product, stock=stock)) == digest]
    if product.stock not in stocks:
        raise _refusal(product, _what(bool(read), bool(stocks)), only_stock=bool(stocks))


def _digest(request: Request, product: Product) -> str:
    return new_hash(request.encode(product)).hexdigest()


def _what(any_read: bool, only_stock: bool) -> str:
    """What is wrong, and what to do. any_read: whether there is an ETag that a product may have had."""
    if not any_read:
        return (
            'No ETag in your If-Match is one of a product (W/"..." never matches), and nothing was done: send that of the read.'
        )
    if only_stock:
        return (
            "Only the stock of the product has changed since you read it, and nothing was done: read it again; or send its"
            " version in place of If-Match: purchases leave it alone."
        )
    return "The product has changed since you read it, and nothing was done: read it again to see what it is now."


def _refusal(product: Product, detail: str, only_stock: bool) -> errors.PreconditionFailed:
    return errors.PreconditionFailed(
        detail,
        errors=[{"parameter": "If-Match", "detail": "has not the ETag that the product has now"}],
        current_version=product.version,
        only_stock_changed=only_stock,
    )
