"""`scripts/bench`: loads the service and its limits in turn, on temporary servers, and prints one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import checkouts
import memory
import profiling
import results
import servers as servers_module
from limits import pgbench, script
from load import SCENARIOS, find_wrk, load
from programs import How, Program, make_shop, size, start_bare, start_baseline, start_service

from petstore import signals
from petstore.cli.output import CommandError, report
from petstore.embedded import EmbeddedError

PAGE = checkouts.ROOT / "docs" / "performance.md"
WARM_SECONDS = 1
_PATHS = {"product": "/products?id=1", "list": "/products", "invoices": "/invoices"}


def main() -> int:
    """Carry out the options. Exit status 1: there were errors under load; 2: the bench could not run."""
    options = _parse()
    signals.raise_interrupted()
    try:
        if options.chart:
            results.publish(json.loads(options.chart.read_text()), PAGE)
            return 0
        find_wrk()
        with tempfile.TemporaryDirectory(prefix="petstore-bench-") as folder, ExitStack() as stack:
            Path(folder).chmod(0o755)  # PostgreSQL refuses to run as root, and runs as another account
            return _run(options, Path(folder), stack)
    except (CommandError, EmbeddedError) as error:
        report(str(error))
        return 2
    except signals.Interrupted as interrupt:
        report("interrupted")
        return interrupt.status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--only", type=_scenarios, default=list(SCENARIOS), metavar="A,B", help=f"scenarios, of {', '.join(SCENARIOS)}"
    )
    parser.add_argument("--rounds", type=_positive, default=3, metavar="N", help="rounds of each scenario; all take turns (3)")
    parser.add_argument("--seconds", type=_positive, default=8, metavar="N", help="duration of each load (8)")
    parser.add_argument("--connections", type=_positive, default=32, metavar="N", help="connections that wrk keeps open (32)")
    parser.add_argument("--workers", type=_positive, metavar="N", help="worker processes of the service")
    parser.add_argument("--scope", choices=["machine", "machines"], help="PETSTORE_CACHE_SCOPE")
    parser.add_argument("--compare", metavar="REV", help="load this git revision as well, without options that it does not know")
    parser.add_argument("--baseline", type=Path, metavar="FOLDER", help="load another program as well: see docs/performance.md")
    parser.add_argument(
        "--profile", type=Path, metavar="FOLDER", help="show where the time of each scenario goes, instead of the table"
    )
    parser.add_argument(
        "--soak", type=_positive, metavar="N", help="show how memory grows over N cached reads, instead of the table"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures of all rounds")
    parser.add_argument(
        "--chart", type=Path, metavar="FILE", help=f"put the table and chart of a file that --json has saved into {PAGE.name}"
    )
    return parser.parse_args()


def _scenarios(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SCENARIOS):
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    return names


def _positive(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _run(options: argparse.Namespace, folder: Path, stack: ExitStack) -> int:
    for scenario in options.only:
        if SCENARIOS[scenario][1] == "pgbench":
            script(scenario)  # checked before anything is started
    how = How(options.workers, options.scope)
    servers = stack.enter_context(servers_module.running(folder))
    report("making a shop")
    here = checkouts.this_checkout()
    make_shop(here, servers, "shop")
    servers.copy_database("shop", "limits")
    programs = [start_service(stack, here, servers, "shop", how)]
    if options.soak or options.profile:
        (_soak if options.soak else _profile)(programs[0], options)
        return 0
    if options.compare:
        other = checkouts.revision(options.compare, folder / "compare")
        make_shop(other, servers, "compare")
        programs.append(start_service(stack, other, servers, "compare", how))
    if options.baseline:
        programs.append(start_baseline(stack, options.baseline, servers))
    bare = start_bare(stack, len(memory.workers(programs[0].pids[0])), folder)
    result = {**_facts(options, servers, programs), "rounds": _rounds(options, programs, bare, servers)}
    result["memory"] = {one.name: _memory(one) for one in programs}
    print(results.table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if results.errors(result) else 0


def _rounds(options: argparse.Namespace, programs: list[Program], bare: Program, servers: servers_module.Servers) -> Any:
    """scenario -> program, or `limit` -> figures of each round. All take turns, so that noise of the machine hits all alike."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {scenario: {} for scenario in options.only}
    limits = servers.postgres.url("petstore_app", "limits")
    how = {"seconds": options.seconds, "connections": options.connections}
    for number in range(1, options.rounds + 1):
        for scenario, rounds in found.items():
            report(f"round {number} of {options.rounds}: {SCENARIOS[scenario][0]}")
            for program in programs:
                load(program.url, scenario, program.tokens, seconds=WARM_SECONDS, connections=options.connections)
                rounds.setdefault(program.name, []).append(load(program.url, scenario, program.tokens, **how))
            if SCENARIOS[scenario][1] == "pgbench":
                rounds.setdefault("limit", []).append(pgbench(limits, scenario, servers.folder, seconds=options.seconds))
            elif SCENARIOS[scenario][1] == "bare":
                rounds.setdefault("limit", []).append(load(bare.url, "constant", size(programs[0], _PATHS[scenario]), **how))
    return found


def _soak(program: Program, options: argparse.Namespace) -> None:
    """Send cached reads, and print the memory of every process at the start and after each quarter of them."""
    done = 0
    print(results.memory("0 requests, memory of each process", _memory(program)), flush=True)
    for quarter in range(1, 5):
        while done < options.soak * quarter // 4:
            found = load(program.url, "product", program.tokens, seconds=options.seconds, connections=options.connections)
            if found["errors"]:
                raise CommandError(f"{found['errors']:.0f} requests of the soak failed")
            done += int(found["requests"])
        print(results.memory(f"{done:,} requests, memory of each process", _memory(program)), flush=True)


def _profile(program: Program, options: argparse.Namespace) -> None:
    """Print where the time of each scenario goes. The stacks go to SCENARIO.folded, the format of flame graphs."""
    options.profile.mkdir(parents=True, exist_ok=True)
    how = {"connections": options.connections}
    for scenario in options.only:
        load(program.url, scenario, program.tokens, seconds=WARM_SECONDS, **how)
        path = options.profile / f"{scenario}.folded"
        with profiling.recording(program.pids[0], path, options.seconds):
            found = load(program.url, scenario, program.tokens, seconds=options.seconds + 2, **how)
        print(f"\n{SCENARIOS[scenario][0]}, {found['rps']:,.0f} requests/s while profiled:\n")
        print(profiling.table(path.read_text().splitlines(), profiling.RATE * options.seconds), flush=True)


def _memory(program: Program) -> list[dict[str, float]]:
    return [memory.megabytes(pid) for first in program.pids for pid in memory.processes(first)]


def _facts(options: argparse.Namespace, servers: servers_module.Servers, programs: list[Program]) -> dict[str, Any]:
    settings = {name: text for name, text in sorted(os.environ.items()) if name.startswith("PETSTORE_")}
    asked = [f"{name}={text}" for name, text in settings.items() if name not in ("PETSTORE_HOME", "PETSTORE_KEYS")]
    asked += [f"--{name} {value}" for name in ("workers", "scope") if (value := getattr(options, name))]
    return {
        "service": programs[0].name,
        "others": [one.name for one in programs[1:]],
        "machine": f"{os.cpu_count()} cores, which all share, Python {platform.python_version()}, {servers.versions()}",
        "notes": [
            f"Medians of {options.rounds} rounds of {options.seconds} s in turn, {options.connections} connections;"
            f" {' '.join(asked) or 'default settings'}; PETSTORE_RATE_LIMIT=0, as all load comes from one address; fsync and"
            " synchronous_commit on.",
            "Limit of reads: a bare waitress with as many workers and a constant of the same size; of"
            " purchases: pgbench with the service's SQL, prepared, 8 clients.",
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
