"""What the answers of a run show: times by kind and phase, when the fault was known, when all was served again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from http_client import Answer

KNOWN_SECONDS = 0.02  # a refusal that comes sooner was no attempt to reach the database
ASKING = ("uncached", "purchase", "hot")  # kinds that need the database
CACHED = ("livez", "jwks", "page", "product", "invoices", "list", "bought")  # those that need not, as long as they are cached


class Row(NamedTuple):
    """Times in ms. statuses: how many answers had which; 0 is no answer."""

    kind: str
    phase: str
    p50: float
    p99: float
    longest: float
    statuses: Counter[int]


@dataclass(frozen=True)
class Outage:
    """A run: the answers, and when the fault began and ended (time.monotonic()). late: as `Traffic` tells."""

    fault: str
    load: str
    answers: Sequence[Answer]
    began: float
    ended: float
    late: float

    @property
    def known(self) -> float:
        """Seconds from the beginning to the first refusal that cost no attempt; infinite if none did."""
        quick = (one.sent + one.seconds for one in self._during() if is_refusal(one) and one.seconds < KNOWN_SECONDS)
        return min(quick, default=math.inf) - self.began

    @property
    def settled(self) -> float:
        """Seconds from the beginning to the last request whose refusal took longer; so each worker knows by then."""
        slow = (one.sent for one in self._during() if is_refusal(one) and one.seconds >= KNOWN_SECONDS)
        return max(slow, default=self.began) - self.began

    @property
    def served_again(self) -> float:
        """Seconds from the end to the last request that was not served."""
        missed = (one.sent for one in self.answers if one.sent >= self.ended and not is_served(one))
        return max(missed, default=self.ended) - self.ended

    def rows(self) -> list[Row]:
        """By kind: before the fault, until it was known, from then on, and after its end."""
        known = min(self.began + self.known, self.ended)
        edges = {
            "well": (0.0, self.began),
            "unknown": (self.began, known),
            "known": (known, self.ended),
            "over": (self.ended, math.inf),
        }
        return [
            row(kind, phase, found)
            for kind in (*CACHED, *ASKING)
            for phase, (first, last) in edges.items()
            if (found := [one for one in self.answers if one.kind == kind and first <= one.sent < last])
        ]

    def p99(self, kinds: Sequence[str], phase: str, only: str = "") -> float:
        """ms, of all answers of some kinds in a phase, or only of those `refused` or `served`. NaN: there are none."""
        known = min(self.began + self.known, self.ended)
        first, last = {"unknown": (self.began, known), "known": (known, self.ended)}[phase]
        chosen = [one for one in self.answers if one.kind in kinds and first <= one.sent < last]
        if only:
            chosen = [one for one in chosen if (is_refusal if only == "refused" else is_served)(one)]
        return percentile([one.seconds for one in chosen], 0.99) * 1000 if chosen else math.nan

    def _during(self) -> Iterable[Answer]:
        return (one for one in self.answers if one.kind in ASKING and self.began <= one.sent < self.ended)


def is_refusal(answer: Answer) -> bool:
    return answer.status == 503


def is_served(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def row(kind: str, phase: str, answers: Sequence[Answer]) -> Row:
    seconds = [one.seconds * 1000 for one in answers]
    statuses = Counter(one.status for one in answers)
    return Row(kind, phase, percentile(seconds, 0.5), percentile(seconds, 0.99), max(seconds), statuses)


def percentile(numbers: Sequence[float], part: float) -> float:
    """The nearest rank."""
    return sorted(numbers)[max(0, math.ceil(part * len(numbers)) - 1)]


def table(outage: Outage) -> str:
    """Every row, in Markdown."""
    head = "| kind | phase | answers | p50 ms | p99 ms | max ms | statuses |\n| --- | --- | ---: | ---: | ---: | ---: | --- |"
    return "\n".join([head, *map(_line, outage.rows())])


def _line(one: Row) -> str:
    statuses = ", ".join(f"{count} × {status or 'none'}" for status, count in sorted(one.statuses.items()))
    return (
        f"| {one.kind} | {one.phase} | {one.statuses.total()} | {one.p50:.1f} | {one.p99:.1f} | {one.longest:.0f} | {statuses} |"
    )


SUMMARY = (
    "| fault | load | /livez p99 until known, then | cached p99 until known, then | refusals p99 | known after s, everywhere"
    " | served again after s | load late ms |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def summary(outage: Outage) -> str:
    """One line of the table of all runs. Cached are answers that were served; what misses the goal is bold."""
    cached = [kind for kind in CACHED if kind != "livez"]
    limit = 250 if "redis" in outage.fault else 50
    cells = [
        outage.fault,
        outage.load,
        _pair(outage.p99(["livez"], "unknown"), outage.p99(["livez"], "known"), limit),
        _pair(outage.p99(cached, "unknown", "served"), outage.p99(cached, "known", "served"), limit),
        _bold(outage.p99(CACHED + ASKING, "known", "refused"), 20),
        f"{outage.known:.2f}, {outage.settled:.2f}" if outage.known < math.inf else f"never, {outage.settled:.2f}",
        f"{outage.served_again:.2f}",
        f"{outage.late * 1000:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _pair(first: float, second: float, limit: float) -> str:
    return f"{_bold(first, limit)}, {_bold(second, 50)}"


def _bold(milliseconds: float, limit: float) -> str:
    if math.isnan(milliseconds):
        return "–"
    return f"**{milliseconds:.1f}**" if milliseconds >= limit else f"{milliseconds:.1f}"
