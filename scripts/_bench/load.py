"""Load a program with wrk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from petstore.cli.output import CommandError
from petstore.embedded.processes import run

SCRIPT = Path(__file__).with_name("load.lua")
# Scenario of load.lua -> its title, and the limit it is compared with: a bare server, PostgreSQL alone (pgbench), or none.
SCENARIOS = {
    "product": ("product by id, cached", "bare"),
    "list": ("product list, cached", "bare"),
    "invoices": ("my invoices, cached", "bare"),
    "list_gzip": ("product list, cached, in gzip", None),
    "invoices_gzip": ("my invoices, cached, in gzip", None),
    "spread": ("purchase, spread", "pgbench"),
    "hot": ("purchase, one hot product", "pgbench"),
    "mix": ("90 % reads, 10 % purchases", None),
}
Figures = dict[str, Any]


def find_wrk() -> str:
    """The path of wrk; CommandError when it is not installed."""
    found = shutil.which("wrk")
    if found is None:
        raise CommandError("wrk, which makes the load, is not installed; on Debian and Ubuntu: apt-get install wrk")
    return found


def load(url: str, scenario: str, argument: object, *, seconds: int, connections: int) -> Figures:
    """Load a program for some seconds. Figures of load.lua: requests, rps, p50, p99, max (ms), bad_status, socket_errors."""
    threads = min(2, connections)
    options = [f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(SCRIPT)]
    status, printed = run([find_wrk(), *options, url, "--", scenario, str(argument)])
    if status:
        raise CommandError(f"wrk ended with status {status}:\n{printed.strip()}")
    return figures(printed)


def figures(printed: str) -> Figures:
    """The figures in the last line of wrk's output. errors: error responses and requests without a response."""
    try:
        found = json.loads(printed.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise CommandError(f"wrk printed no figures:\n{printed.strip()}") from None
    return {**found, "errors": found["bad_status"] + found["socket_errors"]}
