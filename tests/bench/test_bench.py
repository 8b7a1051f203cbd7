"""scripts/bench: what it reads out of wrk, pgbench and py-spy, what it makes of it, and one short run."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from petstore.cli.output import CommandError
from petstore.db.queries import load_queries, parse_query

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("load", "limits", "results", "profiling", "memory", "checkouts")


@pytest.fixture(scope="module")
def bench():
    """The modules of scripts/_bench, which are a program of their own."""
    sys.path.insert(0, str(ROOT / "scripts" / "_bench"))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    finally:
        sys.path.pop(0)
        for name in MODULES:
            sys.modules.pop(name, None)


FIGURES = {"requests": 100, "rps": 50.0, "p50": 1.5, "p99": 4.5, "max": 9.0, "bad_status": 2, "socket_errors": 3}


def test_the_figures_of_a_load_are_the_last_line_of_wrk(bench):
    found = bench.load.figures(f'Running 1s test\n{{"rps": 1}}\n\n{json.dumps(FIGURES)}\n')
    assert found == {**FIGURES, "errors": 5}


@pytest.mark.parametrize("printed", ["", "unable to connect to 127.0.0.1:1 Connection refused"])
def test_a_load_without_figures_is_refused_with_the_words_of_wrk(bench, printed):
    with pytest.raises(CommandError, match=f"^wrk printed no figures:\n{printed}$"):
        bench.load.figures(printed)


def test_without_wrk_it_is_said_how_to_get_it(bench, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CommandError, match="apt-get install wrk"):
        bench.load.find_wrk()


def test_the_figures_of_pgbench_are_its_rate_and_what_failed(bench):
    printed = (
        "number of failed transactions: 7 (0.100%)\nlatency average = 4.2 ms\ntps = 1873.402 (without initial connection time)\n"
    )
    assert bench.limits.figures(printed) == {"rps": 1873.402, "errors": 7}
    with pytest.raises(CommandError, match="pgbench printed no figures:\nbroken"):
        bench.limits.figures("broken\n")


def test_a_purchase_that_the_limits_do_not_know_is_not_measured(bench, monkeypatch):
    changed = {name: query for name, query in load_queries().items() if name != "purchases/buy_products"}
    monkeypatch.setattr(bench.limits, "load_queries", lambda: changed)
    with pytest.raises(CommandError, match=r"sql/queries/purchases has changed \(purchases/buy_products\)"):
        bench.limits.script("spread")


def test_a_parameter_that_the_limits_do_not_know_is_not_measured(bench, monkeypatch):
    name = bench.limits.STEPS[0]
    changed = {**load_queries(), name: parse_query(name, "SELECT :'colour'::text;")}
    monkeypatch.setattr(bench.limits, "load_queries", lambda: changed)
    with pytest.raises(CommandError, match=f"{name}.sql has a parameter colour"):
        bench.limits.script("spread")


def test_a_median_is_taken_of_each_figure_and_errors_are_summed_up(bench):
    rounds = [{"rps": 1.0, "errors": 1}, {"rps": 9.0, "errors": 0}, {"rps": 2.0, "errors": 4}]
    assert bench.results.medians(rounds) == {"rps": 2.0, "errors": 5}


@pytest.fixture
def result():
    ours, theirs = {**FIGURES, "errors": 5}, {**FIGURES, "rps": 20.0, "errors": 0}
    return {
        "service": "petstore (abc)",
        "others": ["v1"],
        "machine": "2 cores",
        "notes": ["How it was measured."],
        "memory": {"petstore (abc)": [{"rss": 61.5, "pss": 40.1}, {"rss": 60.0, "pss": 39.0}]},
        "rounds": {
            "product": {"petstore (abc)": [ours], "v1": [theirs], "limit": [{"rps": 200.0, "errors": 0}]},
            "mix": {"petstore (abc)": [ours], "v1": [theirs]},
        },
    }


def test_the_table_has_a_row_for_each_scenario_and_ratios_to_limit_and_others(bench, result):
    head, _, product, mix, *notes = bench.results.table(result).splitlines()
    assert head.endswith("| v1: requests/s | p50 ms | p99 ms | × v1 |")
    assert product == "| product by id, cached | 50 | 1.5 | 4.5 | 3.0 | 5 | 200 | 0.25 | 20 | 1.5 | 4.5 | 2.50 |"
    assert mix == "| 90 % reads, 10 % purchases | 50 | 1.5 | 4.5 | 3.0 | 5 | – | – | 20 | 1.5 | 4.5 | 2.50 |"
    assert "- petstore (abc), memory of each process at the end in MB, RSS (PSS): 61.5 (40.1), 60.0 (39.0)." in notes
    assert "- Errors of petstore (abc): 10." in notes


@pytest.mark.slow
def test_table_and_chart_are_put_into_the_page_in_place_of_older_ones(bench, result, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "performance.md"
    page.write_text(f"Before.\n{bench.results.BEGIN}\nold\n{bench.results.END}\nAfter.\n")
    (tmp_path / "images").mkdir()
    for _ in range(2):
        bench.results.publish(result, page)
    written = page.read_text()
    assert written == f"Before.\n{bench.results.BEGIN}\n{bench.results.table(result)}\n{bench.results.END}\nAfter.\n"
    assert (tmp_path / "images" / "performance.png").read_bytes().startswith(b"\x89PNG")


def test_a_profile_counts_a_function_once_per_stack(bench):
    stacks = ["main (petstore/a.py:1);walk (b.py:2);walk (b.py:3) 3", "main (petstore/a.py:9);stop (c.py:1) 1"]
    busy, _, _, _, *rows = bench.profiling.table(stacks, 8).splitlines()
    assert busy == "0.50 interpreters were busy."
    assert rows == [
        "| 75.0 | 75.0 | `walk (b.py)` |",
        "| 25.0 | 25.0 | `stop (c.py)` |",
        "| 0.0 | 100.0 | `main (petstore/a.py)` |",
    ]


def test_the_processes_of_a_program_are_those_that_it_started(bench):
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & sleep 60 & echo; wait"], stdout=subprocess.PIPE) as shell:
        try:
            shell.stdout.readline()
            first, *others = bench.memory.processes(shell.pid)
            assert first == shell.pid
            assert len(others) == 2
            assert bench.memory.workers(shell.pid) == others
            assert bench.memory.workers(others[0]) == [others[0]]
        finally:
            for pid in bench.memory.processes(shell.pid)[::-1]:
                os.kill(pid, 9)


def test_the_memory_of_a_process_is_in_megabytes(bench):
    found = bench.memory.megabytes(os.getpid())
    assert 20 < found["pss"] <= found["rss"] < 2000


def test_another_revision_is_given_only_what_it_knows(bench, tmp_path):
    (tmp_path / "petstore").mkdir()
    (tmp_path / "petstore" / "__main__.py").write_text('add_argument("--workers")')
    (tmp_path / "petstore" / "settings.py").write_text("threads: int")
    old = bench.checkouts.Checkout("v1", tmp_path, sys.executable, present=False)
    assert old.takes("--workers")
    assert old.takes("threads")
    assert not old.takes("cache_scope")
    assert bench.checkouts.Checkout("now", tmp_path, sys.executable, present=True).takes("cache_scope")


@pytest.mark.slow
def test_a_short_run_prints_the_table_without_errors(tmp_path):
    """Beside the last commit, where there is one."""
    compare = ["--compare", "HEAD"] if (ROOT / ".git").exists() else []
    command = [sys.executable, ROOT / "scripts/bench", "--seconds", "1", "--rounds", "1", "--json", tmp_path / "bench.json"]
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PETSTORE_")}
    done = subprocess.run([*command, *compare], cwd="/", env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == [
        "| product by id, cached",
        "| product list, cached",
        "| my invoices, cached",
        "| product list, cached, in gzip",
        "| my invoices, cached, in gzip",
        "| purchase, spread",
        "| purchase, one hot product",
        "| 90 % reads, 10 % purchases",
    ]
    assert {row[5] for row in rows[2:]} == {"0"}
    rounds = json.loads((tmp_path / "bench.json").read_text())["rounds"]
    assert min(one["rps"] for programs in rounds.values() for figures in programs.values() for one in figures) > 10
    assert [len(programs) for programs in rounds.values()] == [
        2 + bool(compare) - (" gzip" in row[0] or "%" in row[0]) for row in rows[2:]
    ]
