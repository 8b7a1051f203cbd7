"""`scripts/outages`: how fast the service answers while its database is away, slow or locked. See docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "_bench"))

import checkouts
import redis
import servers as servers_module
from connected import connected
from faults import FAULTS, Place
from figures import SUMMARY, Outage, is_served, summary, table
from http_client import Answer
from programs import How, Program, make_shop, start_service
from psycopg.conninfo import conninfo_to_dict
from traffic import MIX, Plan

from petstore import signals
from petstore.cli.output import CommandError, report
from petstore.embedded import EmbeddedError
from tests.proxy import Proxy

WELL_SECONDS = 3.0  # before the fault
_PROBES = {
    "livez": 20.0,
    "jwks": 10.0,
    "page": 10.0,
    "product": 20.0,
    "list": 10.0,
    "invoices": 10.0,
    "bought": 10.0,
    "uncached": 20.0,
}  # 1/s


def main() -> int:
    """Carry out the options. Exit status 2: it could not run."""
    options = _parse()
    signals.raise_interrupted()
    try:
        with tempfile.TemporaryDirectory(prefix="petstore-outages-") as folder, ExitStack() as stack:
            Path(folder).chmod(0o755)  # PostgreSQL refuses to run as root, and runs as another account
            _run(options, Path(folder), stack)
            return 0
    except (CommandError, EmbeddedError) as error:
        report(str(error))
        return 2
    except signals.Interrupted as interrupt:
        report("interrupted")
        return interrupt.status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/outages", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", default=",".join(FAULTS), metavar="A,B", help=f"faults, of {', '.join(FAULTS)}")
    parser.add_argument("--loads", default="open,24,60", metavar="A,B", help="open: at half of capacity; N: buyers (open,24,60)")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="N", help="how long each fault lasts (8)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes of the service (2)")
    parser.add_argument("--revision", metavar="REV", help="measure this git revision instead of the checkout")
    parser.add_argument("--capacity", type=float, metavar="N", help="requests/s, instead of measuring it")
    parser.add_argument("--summary", action="store_true", help="only the table of all runs, not one for each")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the log of the service")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every answer of every run")
    options = parser.parse_args()
    options.faults = options.only.split(",")
    if unknown := set(options.faults) - set(FAULTS):
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    return options


def _run(options: argparse.Namespace, folder: Path, stack: ExitStack) -> None:
    servers = stack.enter_context(servers_module.running(folder))
    checkout = checkouts.revision(options.revision, folder / "revision") if options.revision else checkouts.this_checkout()
    report("making a shop")
    make_shop(checkout, servers, "shop")
    if options.log:
        stack.callback(shutil.copy, folder / "shop.log", options.log)
    (folder / "way").mkdir()
    proxy = stack.enter_context(Proxy(folder / "way" / ".s.PGSQL.5432", _socket(servers)))
    way = {"PETSTORE_DATABASE_URL": f"postgresql://petstore_app@/shop?host={folder / 'way'}&port=5432"}
    program = start_service(stack, checkout, servers, "shop", How(options.workers, environ={**way, "PETSTORE_ACCESS_LOG": "off"}))
    place = Place(servers, "shop", proxy)
    capacity = options.capacity or _capacity(program, folder)
    print(f"{program.name}: {capacity:,.0f} requests/s of the mix; {os.cpu_count()} cores, {servers.versions()}\n", flush=True)
    lines, outages = [], []
    for fault in options.faults:
        for load in options.loads.split(","):
            report(f"{fault}, {load}: {FAULTS[fault][0]}")
            outage = _outage(options, place, program, fault, load, capacity)
            if not options.summary:
                print(f"## {fault}, {_title(load)}\n\n{table(outage)}\n", flush=True)
            lines.append(summary(outage))
            outages += [asdict(outage)] if options.json else []
    print("\n".join([SUMMARY, *lines]))
    if options.json:
        options.json.write_text(json.dumps(outages))


def _socket(servers: servers_module.Servers) -> Path:
    return Path(str(conninfo_to_dict(servers.postgres.url("postgres"))["host"])) / ".s.PGSQL.5432"


def _title(load: str) -> str:
    return "open load" if load == "open" else f"{load} buyers"


def _outage(options: argparse.Namespace, place: Place, program: Program, fault: str, load: str, capacity: float) -> Outage:
    """Load the service, break what it needs, mend it, and wait until it serves again."""
    redis.Redis.from_url(place.servers.redis_url).flushall()
    tokens = _tokens(program)
    if load == "open":
        total = sum(MIX.values())
        plan = Plan(_address(program), tokens, rates={kind: capacity / 2 * part / total for kind, part in MIX.items()})
    else:
        plan = Plan(_address(program), tokens, rates=_PROBES, buyers=int(load))
    _warm(program, place.servers.folder)
    with _sending(plan, place.servers.folder) as answers:
        time.sleep(WELL_SECONDS)
        began = time.monotonic()
        with FAULTS[fault][1](place):
            time.sleep(options.seconds)
            ended = time.monotonic()
        workers = connected(program)
        time.sleep(4)
        workers |= connected(program)
    late = answers.pop().seconds
    return Outage(fault, _title(load), answers, began, ended, workers, late)


def _capacity(program: Program, folder: Path) -> float:
    """How many requests of the mix it serves in a second."""
    report("measuring the capacity")
    _warm(program, folder)
    with _sending(Plan(_address(program), _tokens(program), mix=24), folder) as answers:
        time.sleep(6)
    answers.pop()
    if bad := [one for one in answers if not is_served(one)]:
        raise CommandError(f"{len(bad)} of {len(answers)} requests failed without a fault, such as {bad[0]}")
    last = max(one.sent for one in answers)
    return len([one for one in answers if one.sent > last - 5]) / 5


def _warm(program: Program, folder: Path) -> None:
    """Have everything cached that is to be, in each worker."""
    with _sending(Plan(_address(program), _tokens(program), rates={"product": 400, "invoices": 100, "list": 20}), folder):
        time.sleep(1.5)


@contextmanager
def _sending(plan: Plan, folder: Path) -> Iterator[list[Answer]]:
    """Send what the plan tells during the block. The list is filled at its end; the last one's seconds are how late it sent."""
    answers: list[Answer] = []
    file = folder / "answers"
    command = [sys.executable, Path(__file__).with_name("traffic.py"), file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(asdict(plan)) + "\n")
        process.stdin.flush()
        try:
            yield answers
        finally:
            process.stdin.close()
    if process.returncode:
        raise CommandError(f"the load ended with status {process.returncode}")
    answers += [Answer(*json.loads(line)) for line in file.read_text().splitlines()]


def _tokens(program: Program) -> list[str]:
    return program.tokens.read_text().split()


def _address(program: Program) -> tuple[str, int]:
    host, _, port = program.url.removeprefix("http://").partition(":")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
