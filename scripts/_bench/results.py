"""The table and the chart of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from load import SCENARIOS

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
Result = Mapping[str, Any]  # made by __main__.py, saved by --json


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure; errors are added up."""
    return {name: (sum if name == "errors" else median)(one[name] for one in rounds) for name in rounds[0]}


def table(result: Result) -> str:
    """The run in Markdown: one row per scenario, other programs in columns at the right, and notes on how it was measured."""
    others = result["others"]
    head = ["scenario", "requests/s", "p50 ms", "p99 ms", "p99/p50", "errors", "limit", "of the limit"]
    for name in others:
        head += [f"{name}: requests/s", "p50 ms", "p99 ms", f"× {name}"]
    rows = [_row(scenario, result) for scenario in result["rounds"]]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n" + _notes(result)


def _row(scenario: str, result: Result) -> list[str]:
    rounds = result["rounds"][scenario]
    ours = medians(rounds[result["service"]])
    limit = medians(rounds["limit"]) if "limit" in rounds else None
    row = [SCENARIOS[scenario][0], f"{ours['rps']:,.0f}", f"{ours['p50']:.1f}", f"{ours['p99']:.1f}"]
    row += [f"{ours['p99'] / ours['p50']:.1f}", f"{ours['errors']:.0f}"]
    row += [f"{limit['rps']:,.0f}", f"{ours['rps'] / limit['rps']:.2f}"] if limit else ["–", "–"]
    for name in result["others"]:
        other = medians(rounds[name])
        row += [f"{other['rps']:,.0f}", f"{other['p50']:.1f}", f"{other['p99']:.1f}", f"{ours['rps'] / other['rps']:.2f}"]
    return row


def errors(result: Result) -> dict[str, int]:
    """The number of errors by program, without those that had none. `limit` counts as a program."""
    found: dict[str, int] = {}
    for rounds in result["rounds"].values():
        for name, figures in rounds.items():
            found[name] = found.get(name, 0) + sum(int(one["errors"]) for one in figures)
    return {name: count for name, count in found.items() if count}


def _notes(result: Result) -> str:
    lines = [f"{result['service']}; {result['machine']}.", *result["notes"]]
    lines += [memory(f"{name}, memory of each process at the end", found) for name, found in result["memory"].items()]
    lines += [f"Errors of {name}: {count}." for name, count in errors(result).items()]
    return "\n".join(f"- {line}" for line in lines)


def memory(title: str, processes: Sequence[Mapping[str, float]]) -> str:
    """A line with the memory of each process."""
    return f"{title} in MB, RSS (PSS): " + ", ".join(f"{one['rss']} ({one['pss']})" for one in processes) + "."


def publish(result: Result, page: Path) -> None:
    """Put the table between the marks in a page, and the chart into its folder of images."""
    before, rest = page.read_text("utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{rest.split(END)[1]}", "utf-8")
    draw(result, page.parent / "images" / "performance.png")


def draw(result: Result, path: Path) -> None:
    """Draw a bar chart per scenario, each with its own scale, and a bar per program."""
    from matplotlib.figure import Figure

    names = ["limit", result["service"], *result["others"]]
    colours = dict(zip(names, ["#cbd5e1", "#1d4ed8", "#b45309", "#0f766e"], strict=False))
    figure = Figure(figsize=(14, 6), dpi=100, layout="constrained")
    for place, (scenario, rounds) in enumerate(result["rounds"].items(), 1):
        axes = figure.add_subplot(2, 4, place)
        shown = [name for name in names if name in rounds]
        bars = axes.bar(shown, [medians(rounds[name])["rps"] for name in shown], color=[colours[name] for name in shown])
        axes.bar_label(bars, fmt="{:,.0f}")
        axes.set_title(SCENARIOS[scenario][0], size=11)
        axes.set(xticks=[], yticks=[])
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.margins(y=0.12)
    handles = [figure.axes[0].bar(0, 0, color=colours[name], label=name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Requests a second: more is better")
    figure.savefig(path, metadata={"Software": None})
