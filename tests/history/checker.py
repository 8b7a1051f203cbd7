"""Judges a history: what was answered against what the tables say, and what was read against what could be seen then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.history import books, reads, refusals
from tests.history.clients import Operation
from tests.history.evidence import Evidence

UNKNOWN = {"unavailable", "outcome-unknown"}  # the only answers above 499, both 503


@dataclass
class Violation:
    """A broken rule, in words, and the requests that it is about."""

    rule: str
    text: str
    operations: list[Operation]

    def __str__(self) -> str:
        return "\n    ".join([f"[{self.rule}] {self.text}", *map(str, self.operations)])


def check(evidence: Evidence) -> list[Violation]:
    """Every broken rule."""
    found = [Violation(rule, text, []) for rule, text in books.audit(evidence.tables)]
    for judge in (_answers, _one_answer_per_key, _purchases, _happened, _keys, _effects, _edits, _numbers_in_time):
        for text, *operations in judge(evidence):
            found.append(Violation(judge.__name__.lstrip("_"), text, operations))
    for name, of_requests in (("reads", reads.stale), ("refusals", refusals.unjustified)):
        found += [Violation(name, text, [operation]) for text, operation in of_requests(evidence)]
    return found


def account(violations: list[Violation]) -> str:
    """All of it to read: how often each rule is broken, then the cases, the first of each rule in full."""
    counts = Counter(violation.rule for violation in violations)
    lines = ["broken rules: " + ", ".join(f"{rule} {count} times" for rule, count in counts.items())]
    for rule in counts:
        lines += [str(violation) for violation in violations if violation.rule == rule][:5]
    return "\n".join(lines)


Found = Iterator[tuple[Any, ...]]  # the text, and the operations


def _answers(evidence: Evidence) -> Found:
    """Nothing but what the contract knows is answered, and in the end whatever has a key is known."""
    for one in evidence.history:
        if one.outcome == "malformed":
            yield "no answer of the contract's form", one
        elif one.status is not None and one.status >= 500 and (one.status, one.slug) not in {(503, slug) for slug in UNKNOWN}:
            yield "a failure of the service itself", one
        elif one.fault.startswith("TimeoutError"):
            yield "no answer at all", one
        elif one.slug == "outcome-unknown" and one.kind in reads.KINDS:
            yield "a read has no outcome that could be unknown", one
    for name, attempts in evidence.attempts.items():
        if attempts[0].key and all(one.outcome == "unknown" and one.slug != "unavailable" for one in attempts):
            yield f"{name} never became known", *attempts[-3:]


def _one_answer_per_key(evidence: Evidence) -> Found:
    """Whoever sends a key again gets the first answer again."""
    for name, attempts in evidence.attempts.items():
        known = [one for one in attempts if one.key and one.outcome in ("ok", "refused")]
        for one in known[1:]:
            if (one.status, one.body) != (known[0].status, known[0].body):
                yield f"{name} has two answers", known[0], one
        if sum(not one.replayed for one in known) > 1:
            yield f"{name} was done more than once", *known


def _purchases(evidence: Evidence) -> Found:
    """Every acknowledged purchase is there, once, with its lines and total; none is there that nobody asked for."""
    counts = Counter(evidence.purchase_of.values())
    invoices = {invoice.id: invoice for invoice in evidence.tables.invoices}
    for name, count in counts.items():
        if count > 1:
            ids = [invoice_id for invoice_id, purchase in evidence.purchase_of.items() if purchase == name]
            yield f"purchase {name} made the invoices {ids}", *evidence.attempts.get(name, [])
    for invoice_id, name in evidence.purchase_of.items():
        attempts = evidence.attempts.get(name, [])
        asked = [{line["product_id"]: line["quantity"] for line in one.asked["lines"]} for one in attempts[:1]]
        if asked != [{line.product_id: line.quantity for line in evidence.details[invoice_id]}]:
            yield f"invoice {invoice_id} is not what anybody asked for", *attempts
    for one in evidence.history:
        if one.kind == "purchase" and one.outcome == "ok":
            yield from ((text, one) for text in _differences(one, invoices.get(one.answer["id"]), evidence))


def _differences(one: Operation, invoice: Any, evidence: Evidence) -> Iterator[str]:
    """In what an acknowledged purchase differs from its invoice."""
    if invoice is None:
        yield f"invoice {one.answer['id']} was acknowledged and is not there"
        return
    lines = {line.product_id: line for line in evidence.details[invoice.id]}
    if evidence.purchase_of[invoice.id] != one.name:
        yield f"invoice {invoice.id} is another one than was answered"
    answered = {line["product_id"]: (line["quantity"], Decimal(line["unit_price"])) for line in one.answer["details"]}
    if answered != {product_id: (line.quantity, line.unit_price) for product_id, line in lines.items()}:
        yield f"invoice {invoice.id} is not what was answered"
    if invoice.total != Decimal(one.answer["total"]) or invoice.total != sum(
        price * pieces for pieces, price in answered.values()
    ):
        yield f"the total of invoice {invoice.id} is not what was answered, or not the sum of its lines"
    first = evidence.begun(one.name) if one.key else one.started
    for asked in one.asked["lines"]:
        price = lines[asked["product_id"]].unit_price if asked["product_id"] in lines else None
        could_be = {price for _, price in evidence.versions[asked["product_id"]].possible(first, one.ended)}
        if price not in could_be:
            yield f"product {asked['product_id']} was sold for {price}, when it could cost {sorted(could_be)}"
        if "expected_price" in asked and Decimal(asked["expected_price"]) != price:
            yield f"product {asked['product_id']} was sold for {price}, not for the price that was agreed to"


def _happened(evidence: Evidence) -> Found:
    """What was refused, and what is said not to have been done, has not happened."""
    causes = _causes(evidence)
    for name, attempts in evidence.attempts.items():
        refused = any(one.outcome == "refused" and one.key for one in attempts)
        denied = all(one.outcome == "refused" or one.slug == "unavailable" for one in attempts)
        if name in causes and (refused or denied):
            yield f"{name} was refused, and there is {causes[name]}", *attempts


def _keys(evidence: Evidence) -> Found:
    """There is a write with its key, or neither."""
    causes = _causes(evidence)
    kept = {row.key: row.status for row in evidence.tables.idempotency_keys}
    for key, status in kept.items():
        attempts = evidence.attempts.get(key, [])
        traced = attempts and (attempts[0].kind != "edit" or "stock_delta" in attempts[0].asked["changes"])
        if status is None or (traced and (status < 300) != (key in causes)):
            yield f"the key {key} is kept with {status}, and there is {causes.get(key, 'nothing')}", *attempts
    for name, attempts in evidence.attempts.items():
        if attempts[0].key and name in causes and name not in kept:
            yield f"there is {causes[name]}, and no key {name}", *attempts


def _causes(evidence: Evidence) -> dict[str, str]:
    """What there is in the tables, by the name of the logical operation that made it."""
    causes = {
        cause: f"movement {movement.id}" for movement in evidence.tables.stock_movements if (cause := evidence.cause(movement))
    }
    causes |= {event.reason: f"event {event.id}" for event in evidence.tables.invoice_events if event.reason}
    causes |= {note.reason: f"credit note {note.id}" for note in evidence.tables.credit_notes}
    causes |= {name: f"invoice {invoice_id}" for invoice_id, name in evidence.purchase_of.items()}
    return causes


def _effects(evidence: Evidence) -> Found:
    """What was acknowledged of changes and credits is in the tables, once."""
    statuses = {(event.invoice_id, event.to_status) for event in evidence.tables.invoice_events}
    notes = Counter(note.reason for note in evidence.tables.credit_notes)
    adjusted = [movement for movement in evidence.tables.stock_movements if movement.kind == "adjust"]
    deltas = Counter(evidence.cause(movement) for movement in adjusted)
    stocks = {evidence.cause(movement): movement.stock for movement in adjusted}
    for name, attempts in evidence.attempts.items():
        done = [one for one in attempts if one.outcome == "ok"]
        kind, asked = attempts[0].kind, attempts[0].asked
        if kind in ("status", "cancel") and done:
            if (asked["invoice_id"], asked["to"]) not in statuses:
                yield f"invoice {asked['invoice_id']} never became {asked['to']}", *attempts
            if any(one.answer["status"] != asked["to"] for one in done):
                yield f"{name} was answered with another status", *attempts
        if (kind == "credit" and notes[name] != bool(done)) or notes[name] > 1:
            yield f"{name} made {notes[name]} credit notes", *attempts
        if kind == "credit" and any(not _adds_up(one.answer) for one in done):
            yield "the amounts of a credit note do not add up", *done
        if (kind == "edit" and "stock_delta" in asked["changes"] and deltas[name] != bool(done)) or deltas[name] > 1:
            yield f"{name} changed the stock {deltas[name]} times", *attempts
        if kind == "edit" and any(one.answer["stock"] != stocks.get(name, one.answer["stock"]) for one in done):
            yield f"{name} made the stock {stocks[name]}, which is not what was answered", *done


def _adds_up(note: Any) -> bool:
    totals = [Decimal(line["unit_price"]) * line["quantity"] for line in note["lines"]]
    return totals == [Decimal(line["line_total"]) for line in note["lines"]] and sum(totals) == Decimal(note["total"])


def _edits(evidence: Evidence) -> Found:
    """Each edit made one version, in order, and the price that it asked for."""
    for product in evidence.tables.products:
        done = [one for one in evidence.history if one.kind == "edit" and one.outcome == "ok"]
        made = {one.name: one for one in done if one.asked["product_id"] == product.id}
        versions = sorted(one.answer["version"] for one in made.values())
        if versions != list(range(2, product.version + 1)):
            twice = sorted(version for version, count in Counter(versions).items() if count > 1)
            missing = sorted(set(range(2, product.version + 1)) - set(versions))
            yield (f"product {product.id} has version {product.version}; of its edits, twice {twice}, missing {missing}",)
        for one in made.values():
            body = one.asked["changes"]
            if "price" in body and Decimal(body["price"]) != Decimal(one.answer["price"]):
                yield "another price than was asked for", one
            if "version" in body and one.answer["version"] != body["version"] + 1:
                yield "an edit of another version than was asked for", one


def _numbers_in_time(evidence: Evidence) -> Found:
    """A number that was acknowledged before another was asked for is the smaller one."""
    paid = {event.invoice_id: event.reason or "" for event in evidence.tables.invoice_events if event.to_status == "paid"}
    numbered = sorted((i.number, paid[i.id]) for i in evidence.tables.invoices if i.number and i.id in paid)
    notes = [(note.number, note.reason) for note in evidence.tables.credit_notes]
    for series in (numbered, sorted(notes)):
        latest = -1.0
        for number, name in series:
            if evidence.acknowledged(name) < latest:
                yield f"number {number} was given before a smaller one was asked for", *evidence.attempts.get(name, [])
            latest = max(latest, evidence.begun(name))
