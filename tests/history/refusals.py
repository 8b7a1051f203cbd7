"""Which refusals each kind of request can have, and whether one that was given was right at some moment of the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from tests.history.clients import Operation
from tests.history.evidence import Evidence

NEXT = {
    "pending": {"paid", "cancelled"},
    "paid": {"shipped", "refunded"},
    "shipped": {"delivered", "refunded"},
    "delivered": {"refunded"},
    "cancelled": set(),
    "refunded": set(),
}
CREDITABLE = {"paid", "shipped", "delivered"}


def unjustified(evidence: Evidence) -> Iterator[tuple[str, Operation]]:
    """Each refusal that the request cannot have, or that nothing speaks for, and why."""
    for one in evidence.history:
        if one.outcome != "refused":
            continue
        judge = _JUDGES.get((one.kind, one.status, one.slug))
        first = evidence.begun(one.name) if one.key else one.started
        if judge is None:
            yield f"a {one.kind} cannot be refused with {one.status} {one.slug}", one
        elif not judge(evidence, one, first):
            yield f"nothing speaks for {one.slug}: {one.answer}", one


def _not_enough_stock(evidence: Evidence, one: Operation, first: float) -> bool:
    """Each line that is named asks for more than there was."""
    wanted = {line["product_id"]: line["quantity"] for line in one.asked["lines"]}
    return bool(one.answer["errors"]) and all(
        fault["requested"] == wanted.get(fault["product_id"], 0) > fault["available"]
        and fault["available"] in evidence.stock[fault["product_id"]].possible(first, one.ended)
        for fault in one.answer["errors"]
    )


def _price_changed(evidence: Evidence, one: Operation, first: float) -> bool:
    """There was another price than the expected one."""
    return any(
        Decimal(line["expected_price"]) != price
        for line in one.asked["lines"]
        if "expected_price" in line
        for _, price in evidence.versions[line["product_id"]].possible(first, one.ended)
    )


def _too_little_to_take(evidence: Evidence, one: Operation, first: float) -> bool:
    delta = one.asked["changes"].get("stock_delta", 0)
    return any(stock + delta < 0 for stock in evidence.stock[one.asked["product_id"]].possible(first, one.ended))


def _edit_conflict(evidence: Evidence, one: Operation, first: float) -> bool:
    """The version that is told was the current one, and is another than the edit's."""
    current = one.answer["current_version"]
    versions = {version for version, _ in evidence.versions[one.asked["product_id"]].possible(first, one.ended)}
    return "version" in one.asked["changes"] and current != one.asked["changes"]["version"] and current in versions


def _transition(evidence: Evidence, one: Operation, first: float) -> bool:
    """The status that is told was the invoice's, and the one asked for may not follow it, or was reached for another reason.

    Each request names itself as its reason.
    """
    current, invoice_id = one.answer["current"], one.asked["invoice_id"]
    reasons = {event.reason for event in evidence.tables.invoice_events if event.invoice_id == invoice_id}
    again = one.asked["to"] == current and one.answer["errors"][0]["pointer"] == "/reason" and one.name not in reasons
    may_follow = one.asked["to"] in {current, *NEXT[current]}
    return current in evidence.status[invoice_id].possible(first, one.ended) and (again or not may_follow)


def _not_creditable(evidence: Evidence, one: Operation, first: float) -> bool:
    return bool(set(evidence.status[one.asked["invoice_id"]].possible(first, one.ended)) - CREDITABLE)


def _over_credited(evidence: Evidence, one: Operation, first: float) -> bool:
    """More is asked for than was left, if all that others were crediting at that moment is counted."""
    invoice_id = one.asked["invoice_id"]
    notes = {
        note.id
        for note in evidence.tables.credit_notes
        if note.invoice_id == invoice_id and evidence.begun(note.reason) <= one.ended
    }
    bought = {line.product_id: line.quantity for line in evidence.details[invoice_id]}
    for line in evidence.tables.credit_note_lines:
        if line.credit_note_id in notes:
            bought[line.product_id] = bought.get(line.product_id, 0) - line.quantity
    return any(line["quantity"] > bought.get(line["product_id"], 0) for line in one.asked["lines"])


Judge = Callable[[Evidence, Operation, float], Any]
_JUDGES: dict[tuple[str, int | None, str], Judge] = {
    ("purchase", 409, "not-enough-stock"): _not_enough_stock,
    ("purchase", 409, "price-changed"): _price_changed,
    ("edit", 409, "not-enough-stock"): _too_little_to_take,
    ("edit", 409, "edit-conflict"): _edit_conflict,
    ("status", 409, "transition-not-allowed"): _transition,
    ("cancel", 409, "transition-not-allowed"): _transition,
    ("credit", 409, "not-creditable"): _not_creditable,
    ("credit", 409, "credit-exceeds-invoice"): _over_credited,
}
