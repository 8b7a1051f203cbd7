"""What must hold of the tables alone, whoever did what: stock, ledger, amounts, numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

Found = tuple[str, str]  # the rule that is broken, and how
Line = tuple[int, int]  # of an invoice: its id and the product's


def audit(tables: Any) -> Iterator[Found]:
    """Every broken rule."""
    yield from _ledger(tables)
    yield from _stock(tables)
    yield from _amounts(tables)
    yield from _returns(tables)
    yield from _statuses(tables)
    paid = {event.invoice_id for event in tables.invoice_events if event.to_status == "paid"}
    for invoice in tables.invoices:
        if (invoice.number is not None) != (invoice.id in paid):
            yield (
                "numbers",
                f"invoice {invoice.id}, {'once' if invoice.id in paid else 'never'} paid, has number {invoice.number}",
            )
    yield from _gapless("invoice", [invoice.number for invoice in tables.invoices if invoice.number is not None])
    yield from _gapless("credit note", [note.number for note in tables.credit_notes])


def _ledger(tables: Any) -> Iterator[Found]:
    """Each movement goes on where the one before ended, and the last one tells the stock."""
    now: dict[int, int] = {}
    for movement in sorted(tables.stock_movements, key=lambda one: one.id):
        expected = now.get(movement.product_id, 0) + movement.delta
        if movement.stock != expected:
            yield "ledger", f"movement {movement.id} says stock {movement.stock} where {expected} follows"
        if (movement.kind == "initial") != (movement.product_id not in now):
            yield "ledger", f"movement {movement.id} is {movement.kind}"
        now[movement.product_id] = movement.stock
    for product in tables.products:
        if now.get(product.id) != product.stock:
            yield "ledger", f"product {product.id} has stock {product.stock}, its ledger ends with {now.get(product.id)}"


def _stock(tables: Any) -> Iterator[Found]:
    """initial − sold + restocked + adjusted = stock ≥ 0."""
    moved: Counter[tuple[int, str]] = Counter()
    for movement in tables.stock_movements:
        moved[movement.product_id, movement.kind] += movement.delta
    sold: Counter[int] = Counter()
    restocked: Counter[int] = Counter()
    for line in tables.invoice_details:
        sold[line.product_id] += line.quantity
        restocked[line.product_id] += line.restocked
    for product in tables.products:
        own = moved[product.id, "initial"] + moved[product.id, "adjust"]
        expected = own - sold[product.id] + restocked[product.id]
        if product.stock != expected or product.stock < 0:
            yield (
                "stock",
                (
                    f"product {product.id} has stock {product.stock}; {own} put in, {sold[product.id]} sold,"
                    f" {restocked[product.id]} back make {expected}"
                ),
            )


def _amounts(tables: Any) -> Iterator[Found]:
    """A line is price × quantity, an invoice is the sum of its lines; to the last digit."""
    sums: Counter[int] = Counter()
    for line in tables.invoice_details:
        sums[line.invoice_id] += line.line_total
        if line.line_total != line.unit_price * line.quantity:
            yield "amounts", f"invoice {line.invoice_id}: {line.quantity} × {line.unit_price} is not {line.line_total}"
    for invoice in tables.invoices:
        if invoice.total != sums[invoice.id]:
            yield "amounts", f"invoice {invoice.id} has total {invoice.total}, its lines make {sums[invoice.id]}"


def _returns(tables: Any) -> Iterator[Found]:
    """Of each line of an invoice: what went out, what is credited and what came back is the same in every table, and in bounds."""
    credited, restocked, moved = Counter[Line](), Counter[Line](), Counter[tuple[str, Line]]()
    for line in tables.credit_note_lines:
        credited[line.invoice_id, line.product_id] += line.quantity
        restocked[line.invoice_id, line.product_id] += line.quantity * line.restock
    for movement in tables.stock_movements:
        moved[movement.kind, (movement.invoice_id, movement.product_id)] += movement.delta
    status = {invoice.id: invoice.status for invoice in tables.invoices}
    for line in tables.invoice_details:
        key = line.invoice_id, line.product_id
        for what, here, there in (
            ("sold", line.quantity, -moved["sale", key]),
            ("credited", line.credited, credited[key]),
            ("restocked by credit notes", restocked[key], moved["return_restock", key]),
            ("restocked", line.restocked, moved["return_restock", key] + moved["cancel_restock", key]),
            ("cancelled", line.quantity * (status.get(key[0]) == "cancelled"), moved["cancel_restock", key]),
        ):
            if here != there:
                yield "returns", f"of product {key[1]} in invoice {key[0]}, {here} are {what}, and elsewhere {there}"
        if max(line.credited, line.restocked) > line.quantity:
            yield "returns", f"of product {key[1]} in invoice {key[0]} more came back than the {line.quantity} that were bought"
        if status.get(key[0]) == "refunded" and line.credited != line.quantity:
            yield (
                "returns",
                f"invoice {key[0]} is refunded, and {line.credited} of {line.quantity} of product {key[1]} are credited",
            )


def _statuses(tables: Any) -> Iterator[Found]:
    """Each change begins where the one before ended."""
    now = {invoice.id: "pending" for invoice in tables.invoices}
    for event in sorted(tables.invoice_events, key=lambda one: one.id):
        if now.get(event.invoice_id) != event.from_status:
            yield "status", f"event {event.id} leaves {event.from_status}, the invoice was {now.get(event.invoice_id)}"
        now[event.invoice_id] = event.to_status
    for invoice in tables.invoices:
        if invoice.status != now[invoice.id]:
            yield "status", f"invoice {invoice.id} is {invoice.status}, its events end with {now[invoice.id]}"


def _gapless(what: str, numbers: list[str]) -> Iterator[Found]:
    """In each year 1 to N, each once."""
    years = defaultdict(list)
    for number in numbers:
        year, _, rest = number.partition("-")
        years[year].append(int(rest))
    for year, found in years.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            missing = sorted(set(range(1, max(found) + 1)) - set(found))
            twice = sorted(number for number, count in Counter(found).items() if count > 1)
            yield "numbers", f"{what} numbers of {year}: missing {missing}, twice {twice}"
