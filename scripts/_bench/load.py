"""Loads a program with wrk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from petstore.cli.output import CommandError
from petstore.embedded.processes import run

SCRIPT = Path(__file__).with_name("load.lua")
# Scenario of load.lua -> its title, and the limit that it is held against: a bare server, PostgreSQL alone, or none.
SCENARIOS = {
    "product": ("product by id, cached", "bare"),
    "list": ("product list, cached", "bare"),
    "invoices": ("my invoices, cached", "bare"),
    "spread": ("purchase, spread", "pgbench"),
    "hot": ("purchase, one hot product", "pgbench"),
    "mix": ("90 % reads, 10 % purchases", None),
}
Figures = dict[str, Any]


def find_wrk() -> str:
    """wrk on PATH; Refused without it."""
    found = shutil.which("wrk")
    if found is None:
        raise CommandError("wrk, which makes the load, is missing; on Debian and Ubuntu: apt-get install wrk")
    return found


def load(url: str, scenario: str, argument: object, *, seconds: int, connections: int) -> Figures:
    """Load a program for some seconds; what load.lua says of it: requests, rps, p50, p99, max (ms), bad_status, socket_errors."""
    threads = min(2, connections)
    options = [f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(SCRIPT)]
    status, printed = run([find_wrk(), *options, url, "--", scenario, str(argument)])
    if status:
        raise CommandError(f"wrk ended with status {status}:\n{printed.strip()}")
    return figures(printed)


def figures(printed: str) -> Figures:
    """What the last line of wrk's output says, with `errors` added: answers that are errors, and requests without an answer."""
    try:
        found = json.loads(printed.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise CommandError(f"wrk gave no figures:\n{printed.strip()}") from None
    return {**found, "errors": found["bad_status"] + found["socket_errors"]}
