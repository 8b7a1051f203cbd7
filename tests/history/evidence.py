"""What there is to judge by: the history of the clients, the tables at the end, the times at which the cache was broken.

A register is one thing that changes, with all its states in the order in which they came, and for each the times between which
it must have come: the moment when somebody first asked for it, and the moment when somebody was first told that it is so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from types import SimpleNamespace
from typing import Any

from psycopg.rows import namedtuple_row

from petstore import db
from tests.history.clients import Operation

TABLES = (
    "products", "invoices", "invoice_details", "invoice_events", "stock_movements", "credit_notes", "credit_note_lines",
    "idempotency_keys",
)  # fmt: skip
GRACE = 0.5  # seconds after a fault of Redis until the services have seen that it is back, and caught up


def read_tables(url: str) -> SimpleNamespace:
    """Every row of every table that a history is judged by, in the order of their ids."""
    with db.connect(url, row_factory=namedtuple_row) as conn:
        return SimpleNamespace(**{name: conn.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in TABLES})


@dataclass(frozen=True)
class State:
    """excused: who wrote it may have been cut off from the cache, which may then show an older one for a while."""

    value: Any
    begun: float
    acknowledged: float
    excused: bool


class Register:
    """All states of one thing, oldest first."""

    def __init__(self, states: list[State]) -> None:
        self.states = states

    def possible(self, started: float, ended: float, from_cache: bool = False) -> list[Any]:
        """What may be seen between two moments: nothing older than what was acknowledged before the first of them."""
        low = len(self.states) - 1
        while low > 0 and not (self.states[low].acknowledged < started and not (from_cache and self.states[low].excused)):
            low -= 1
        high = low
        while high + 1 < len(self.states) and self.states[high + 1].begun <= ended:
            high += 1
        return [state.value for state in self.states[low : high + 1]]


class Evidence:
    """History, tables and faults, put together. `owns`: the product of each buyer that nobody else buys."""

    def __init__(
        self, history: Iterable[Operation], tables: Any, faults: Iterable[tuple[str, float, float]], owns: dict[int, int]
    ) -> None:
        self.history = sorted(history, key=lambda one: one.started)
        self.tables, self._owns = tables, owns
        self._cut_off = sorted((begin, end + GRACE) for name, begin, end in faults if "redis" in name)
        self.attempts: dict[str, list[Operation]] = defaultdict(list)  # of each logical operation
        for one in self.history:
            if one.name:
                self.attempts[one.name].append(one)
        self.details: dict[int, list[Any]] = defaultdict(list)
        for line in tables.invoice_details:
            self.details[line.invoice_id].append(line)
        self._events: dict[int, list[Any]] = defaultdict(list)
        for event in tables.invoice_events:
            self._events[event.invoice_id].append(event)
        self._changes: dict[int, list[Operation]] = defaultdict(list)  # that were answered with the new status
        for one in self.history:
            if one.kind in ("status", "cancel") and one.outcome == "ok":
                self._changes[one.asked["invoice_id"]].append(one)
        self.purchase_of = {invoice.id: self._purchase(invoice) for invoice in tables.invoices}
        self.edits = self._edits()
        self.stock = _by_id(self._stock_registers())
        self.versions = _by_id({product.id: self._version_register(product) for product in tables.products})
        self.status = _by_id({invoice.id: self._status_register(invoice) for invoice in tables.invoices})

    def begun(self, name: str) -> float:
        """When a logical operation was first asked for."""
        return min((one.started for one in self.attempts.get(name, ())), default=-inf)

    def acknowledged(self, name: str) -> float:
        """When somebody was first told that it is done."""
        return min((one.ended for one in self.attempts.get(name, ()) if one.outcome == "ok"), default=inf)

    def _purchase(self, invoice: Any) -> str:
        own = self._owns.get(invoice.user_id)
        quantity = next((line.quantity for line in self.details[invoice.id] if line.product_id == own), None)
        return f"{invoice.user_id}:{quantity}"

    def _state(self, value: Any, name: str, told: float = inf) -> State:
        """What a logical operation brought about; `told`: when others were told of it."""
        begun, acknowledged = self.begun(name), min(self.acknowledged(name), told)
        position = bisect_left(self._cut_off, (begun, inf))
        before = position > 0 and max(end for _, end in self._cut_off[:position]) > begun
        after = position < len(self._cut_off) and self._cut_off[position][0] < acknowledged
        return State(value, begun, acknowledged, before or after)

    def _edits(self) -> dict[tuple[int, int], str]:
        """The name of each change of stock, by product and difference."""
        found = {}
        for name, attempts in self.attempts.items():
            asked = attempts[0].asked
            if attempts[0].kind == "edit" and "stock_delta" in asked["changes"]:
                found[asked["product_id"], asked["changes"]["stock_delta"]] = name
        return found

    def cause(self, movement: Any) -> str:
        """The logical operation behind a movement of stock."""
        if movement.kind == "sale":
            return self.purchase_of.get(movement.invoice_id, "")
        if movement.kind == "adjust":
            return self.edits.get((movement.product_id, movement.delta), "")
        return movement.reason or ""

    def _stock_registers(self) -> dict[int, Register]:
        states = defaultdict(list)
        for movement in self.tables.stock_movements:
            states[movement.product_id].append(self._state(movement.stock, self.cause(movement)))
        for product_id in states:
            states[product_id][0] = State(states[product_id][0].value, -inf, -inf, False)
        return {product_id: Register(found) for product_id, found in states.items()}

    def _version_register(self, product: Any) -> Register:
        """Versions with their prices, as the edits were answered."""
        answered = {
            one.answer["version"]: (Decimal(one.answer["price"]), one.name)
            for one in self.history
            if one.kind == "edit" and one.outcome == "ok" and one.asked["product_id"] == product.id
        }
        first = Decimal("1.00")  # what every product begins with
        states = [State((1, first), -inf, -inf, False)]
        states += [self._state((version, price), name) for version, (price, name) in sorted(answered.items())]
        return Register(states)

    def _status_register(self, invoice: Any) -> Register:
        """None before the purchase, then each status; also who asks for one that the invoice has already is told that it is so."""
        told: dict[str, float] = defaultdict(lambda: inf)
        for one in self._changes[invoice.id]:
            told[one.asked["to"]] = min(told[one.asked["to"]], one.ended)
        states = [State(None, -inf, -inf, False), self._state("pending", self.purchase_of[invoice.id])]
        events = self._events[invoice.id]
        states += [self._state(event.to_status, event.reason or "", told[event.to_status]) for event in events]
        return Register(states)


def _by_id(registers: dict[int, Register]) -> dict[int, Register]:
    """Of what is not in the tables, no state is possible."""
    return defaultdict(lambda: Register([]), registers)
