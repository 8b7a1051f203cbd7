"""scripts/outages and scripts/failover: what they make of the answers, and one short run of each."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("figures", "http_client")


@pytest.fixture(scope="module")
def outages():
    """The modules of scripts/_outages, which are a program of their own."""
    sys.path.insert(0, str(ROOT / "scripts" / "_outages"))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.pop(0)
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture
def outage(outages):
    """A fault from second 10 to 20. Worker 1 knows it from 11 on, worker 2 from 14 on, as their first quick refusals tell."""
    answers = [
        ("uncached", 9.0, 0.005, 200, 501),
        ("livez", 9.5, 0.2, 200, 501),
        ("uncached", 10.0, 1.0, 503, 501),
        ("uncached", 10.995, 0.005, 503, 501),
        ("uncached", 13.995, 0.005, 503, 502),
        ("uncached", 13.0, 0.9, 503, 502),
        ("uncached", 15.0, 0.03, 503, 501),
        ("uncached", 16.0, 0.004, 503, 502),
        ("purchase", 16.0, 2.0, 503, 502),
        ("livez", 10.5, 0.001, 200, 501),
        ("livez", 15.0, 0.06, 200, 501),
        ("livez", 13.0, 0.001, 200, 501),
        ("product", 15.0, 0.002, 200, 501, True),
        ("purchase", 20.5, 0.5, 503, 502),
        ("uncached", 21.0, 0.002, 200, 501),
    ]
    made = [outages.http_client.Answer(*answer) for answer in answers]
    return outages.figures.Outage("silent", "open load", made, 10.0, 20.0, {501: 1, 502: 2}, 0.004)


def test_a_fault_is_known_to_each_worker_by_itself(outages, outage):
    assert outage.known == {(1, False): pytest.approx(11), (2, False): pytest.approx(14)}
    assert outage.known_seconds(writes=False) == pytest.approx(4)
    assert Counter(outage.phase(one) for one in outage.answers if one.kind == "uncached") == {
        "well": 1,
        "unknown": 4,
        "known": 2,
        "over": 1,
    }
    assert [outage.phase(one) for one in outage.answers if one.kind in ("livez", "product")] == [
        "well",
        "unknown",
        "known",
        "unknown",
        "known",
    ]
    assert outage.served_again == pytest.approx(0.5)


def test_what_misses_the_goal_is_bold(outages, outage):
    row = outages.figures.summary(outage).split(" | ")
    assert row == ["| silent", "open load", "**60.0**, 60", "**60.0**, 60", "**30.0**", "1 of 2", "4.00", "–", "0.50", "4 |"]


def test_a_table_has_a_row_for_each_kind_and_phase(outages, outage):
    rows = outages.figures.table(outage).splitlines()[2:]
    assert rows == [
        "| livez | well | 1 | 200.0 | 200.0 | 200 | 1 × 200 |",
        "| livez | unknown | 2 | 1.0 | 1.0 | 1 | 2 × 200 |",
        "| livez | known | 1 | 60.0 | 60.0 | 60 | 1 × 200 |",
        "| product, cached | known | 1 | 2.0 | 2.0 | 2 | 1 × 200 |",
        "| purchase | unknown | 1 | 2000.0 | 2000.0 | 2000 | 1 × 503 |",
        "| purchase | over | 1 | 500.0 | 500.0 | 500 | 1 × 503 |",
        "| uncached | well | 1 | 5.0 | 5.0 | 5 | 1 × 200 |",
        "| uncached | unknown | 4 | 5.0 | 1000.0 | 1000 | 4 × 503 |",
        "| uncached | known | 2 | 4.0 | 30.0 | 30 | 2 × 503 |",
        "| uncached | over | 1 | 2.0 | 2.0 | 2 | 1 × 200 |",
    ]


def run(*command: str) -> list[list[str]]:
    """The rows of the last table that a script prints, without its head."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PETSTORE_")}
    script, *options = command
    words = [sys.executable, ROOT / "scripts" / script, *options]
    done = subprocess.run(words, cwd="/", env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    return rows[max(number for number, row in enumerate(rows) if row[0] == "| ---") + 1 :]


@pytest.mark.slow
def test_a_short_outage_is_known_and_over():
    (row,) = run("outages", "--only", "refused", "--loads", "4", "--seconds", "3", "--capacity", "100")
    fault, load, _, _, _, refused, *known, again, _ = row
    assert (fault, load) == ("| refused", "4 buyers")
    assert int(refused.split()[2]) > 50
    assert all(float(seconds) < 3 for seconds in known)
    assert float(again) < 4


@pytest.mark.slow
def test_a_fail_over_loses_nothing_that_was_acknowledged():
    (row,) = run("failover", "--only", "switchover")
    title, seconds, purchases, reads, acknowledged, lost, _, books = row
    assert title.startswith("| switchover")
    assert 0 < float(seconds) < 20
    assert int(acknowledged) > 20
    assert f"{acknowledged} × 201" in purchases
    assert "× 200" in reads
    assert (lost, books) == ("0", "proved |")
