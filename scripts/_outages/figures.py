"""What the answers of a run show: times by kind and phase, when the fault was known, when all was served again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from http_client import Answer

KNOWN_SECONDS = 0.02  # a refusal that comes sooner was no attempt to reach the database
WRITES = ("purchase", "hot")
WITHOUT_DATABASE = ("livez", "jwks", "page")
PHASES = ("well", "unknown", "known", "over")
GOAL_MS, REFUSAL_GOAL_MS, REDIS_GOAL_MS = 50, 20, 250


@dataclass(frozen=True)
class Outage:
    """A run: the answers, and when the fault began and ended (time.monotonic()).

    workers: the process that served a connection, by the client's port. late: seconds that the load sent a request too late.
    """

    fault: str
    load: str
    answers: Sequence[Answer]
    began: float
    ended: float
    workers: Mapping[int, int]
    late: float

    @cached_property
    def known(self) -> dict[tuple[int, bool], float]:
        """When a worker first refused a request without an attempt: by process, and whether it was a write."""
        found: dict[tuple[int, bool], float] = {}
        for one in self.during(lambda one: is_refusal(one) and one.seconds < KNOWN_SECONDS):
            place = self.workers.get(one.port, 0), one.kind in WRITES
            found[place] = min(one.sent + one.seconds, found.get(place, math.inf))
        return found

    def known_seconds(self, writes: bool) -> float:
        """From the beginning until all workers that ever did so refuse without an attempt; NaN if none did."""
        return max((at for (_, of_writes), at in self.known.items() if of_writes == writes), default=math.nan) - self.began

    def phase(self, one: Answer) -> str:
        """When an answer was asked for: well, unknown, known (by its worker; what needs no database: by each), over."""
        if not self.began <= one.sent < self.ended:
            return "well" if one.sent < self.began else "over"
        if one.kind in WITHOUT_DATABASE or one.hit:
            return "known" if one.sent >= max(self.known.values(), default=math.inf) else "unknown"
        known = self.known.get((self.workers.get(one.port, 0), one.kind in WRITES), math.inf)
        return "known" if one.sent >= known else "unknown"

    @property
    def served_again(self) -> float:
        """Seconds from the end to the last request that was not served."""
        missed = (one.sent for one in self.answers if one.sent >= self.ended and not is_served(one))
        return max(missed, default=self.ended) - self.ended

    def during(self, chosen: Callable[[Answer], bool]) -> Iterable[Answer]:
        """The answers to requests that were sent while the fault lasted."""
        return (one for one in self.answers if self.began <= one.sent < self.ended and chosen(one))


def is_refusal(answer: Answer) -> bool:
    return answer.status == 503


def is_served(answer: Answer) -> bool:
    return 200 <= answer.status < 300


def percentile(numbers: Sequence[float], part: float) -> float:
    """The nearest rank; NaN of nothing."""
    return sorted(numbers)[max(0, math.ceil(part * len(numbers)) - 1)] if numbers else math.nan


def table(outage: Outage) -> str:
    """Times by kind and phase, in Markdown; what came from the cache is a kind of its own."""
    lines = [
        "| kind | phase | answers | p50 ms | p99 ms | max ms | statuses |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    groups: dict[tuple[str, str], list[Answer]] = {}
    for one in outage.answers:
        groups.setdefault((one.kind + ", cached" * one.hit, outage.phase(one)), []).append(one)
    for (kind, phase), found in sorted(groups.items(), key=lambda item: (item[0][0], PHASES.index(item[0][1]))):
        times = [one.seconds * 1000 for one in found]
        figures = f"{percentile(times, 0.5):.1f} | {percentile(times, 0.99):.1f} | {max(times):.0f}"
        lines.append(f"| {kind} | {phase} | {len(found)} | {figures} | {statuses(found)} |")
    return "\n".join(lines)


def statuses(answers: Iterable[Answer]) -> str:
    """How often each was answered."""
    counts = Counter(one.status for one in answers)
    return ", ".join(f"{count} × {status or 'no answer'}" for status, count in sorted(counts.items()))


SUMMARY = (
    "| fault | load | /livez p99, max ms | cached p99, max ms | refusals, once known: p99 ms | of 20 ms and more"
    " | reads known after s | writes | all served again after s | load late ms |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def summary(outage: Outage) -> str:
    """One line of the table of all runs: while the fault lasted. What misses the goal is bold."""
    refusals = [one.seconds * 1000 for one in outage.during(lambda one: is_refusal(one) and outage.phase(one) == "known")]
    slow = sum(one >= REFUSAL_GOAL_MS for one in refusals)
    cells = [
        outage.fault,
        outage.load,
        _times(outage, lambda one: one.kind == "livez"),
        _times(outage, lambda one: one.hit or one.kind in WITHOUT_DATABASE),
        _bold(percentile(refusals, 0.99), REFUSAL_GOAL_MS),
        f"{slow} of {len(refusals)}",
        _number(outage.known_seconds(writes=False), 2),
        _number(outage.known_seconds(writes=True), 2),
        f"{outage.served_again:.2f}",
        f"{outage.late * 1000:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _times(outage: Outage, chosen: Callable[[Answer], bool]) -> str:
    """With Redis stopped, p99 is from when the fault is known: each thread may wait for Redis once."""
    found = list(outage.during(chosen))
    longest = max((one.seconds * 1000 for one in found), default=math.nan)
    if "redis" in outage.fault:
        found = [one for one in found if outage.phase(one) == "known"] or found
    p99 = _bold(percentile([one.seconds * 1000 for one in found], 0.99), GOAL_MS)
    return f"{p99}, {_bold(longest, REDIS_GOAL_MS, 0) if 'redis' in outage.fault else _number(longest, 0)}"


def _bold(milliseconds: float, limit: float, digits: int = 1) -> str:
    text = _number(milliseconds, digits)
    return f"**{text}**" if milliseconds >= limit else text


def _number(number: float, digits: int) -> str:
    return "–" if math.isnan(number) else f"{number:.{digits}f}"
