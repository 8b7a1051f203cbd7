"""Whether what was read could be seen then: in the cache or beside it, of products and of invoices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.history.clients import Operation
from tests.history.evidence import Evidence

KINDS = ("product", "products", "invoices", "invoice")
Found = Iterator[tuple[str, Operation]]


def stale(evidence: Evidence) -> Found:
    """Each read that is older than the newest write that was acknowledged before it began, or from the future."""
    of_user = defaultdict(list)
    for invoice in evidence.tables.invoices:
        of_user[invoice.user_id].append(invoice.id)
    for one in evidence.history:
        if one.outcome != "ok" or one.kind not in KINDS:
            continue
        if one.kind == "product":
            yield from _product_read(evidence, one, one.answer)
        elif one.kind == "products":
            shown = {item["id"] for item in one.answer["items"]}
            if shown != {product.id for product in evidence.tables.products}:
                yield f"a list of the products {sorted(shown)}", one
            for item in one.answer["items"]:
                yield from _product_read(evidence, one, item)
        elif one.kind == "invoice":
            yield from _status_read(evidence, one, one.answer["id"], one.answer["status"])
        else:
            shown = {item["id"]: item["status"] for item in one.answer["items"]}
            oldest = min(shown) if one.answer["next"] else 0  # a page shows the newest ones
            for invoice_id in of_user[one.user]:
                if invoice_id >= oldest:
                    yield from _status_read(evidence, one, invoice_id, shown.pop(invoice_id, None))
            if shown:
                yield f"the invoices {sorted(shown)}, which are not there", one


def _product_read(evidence: Evidence, one: Operation, item: Any) -> Found:
    from_cache = one.cached == "HIT"
    stocks = evidence.stock[item["id"]].possible(one.started, one.ended, from_cache)
    if item["stock"] not in stocks:
        yield f"product {item['id']} shows stock {item['stock']}, when it could be {stocks}", one
    states = evidence.versions[item["id"]].possible(one.started, one.ended, from_cache)
    if (item["version"], Decimal(item["price"])) not in states:
        yield f"product {item['id']} shows version {item['version']} at {item['price']}, when it could be {states}", one


def _status_read(evidence: Evidence, one: Operation, invoice_id: int, status: str | None) -> Found:
    states = evidence.status[invoice_id].possible(one.started, one.ended, one.cached == "HIT")
    if status not in states:
        yield f"invoice {invoice_id} shows status {status}, when it could be {states}", one
