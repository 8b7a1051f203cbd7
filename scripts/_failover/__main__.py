"""`scripts/failover`: lets PostgreSQL fail over under a shop with buyers, and tells what they were told."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "_bench"))

from cases import CASES, Case, Servers

from petstore import signals
from petstore.cli.output import CommandError, report
from petstore.embedded import EmbeddedError, Redis
from petstore.repository.reports import run_report
from tests.buyers import Buyers
from tests.faults.busy import BusyShop, gap, sells
from tests.faults.links import with_options
from tests.history import books
from tests.history.evidence import read_tables
from tests.nodes import started

BEFORE_SECONDS, AFTER_SECONDS = 3.0, 4.0
_KEYS = "SELECT key FROM idempotency_keys WHERE status = 201"
HEAD = (
    "| fail-over | s without a purchase | answers to purchases | to reads | acknowledged | of these lost | done without an answer"
    " | books |\n| --- | ---: | --- | --- | ---: | ---: | ---: | --- |"
)


@dataclass(frozen=True)
class Outcome:
    """seconds: the longest time in which no purchase succeeded. lost: acknowledged keys that the database does not have.

    unanswered: keys of purchases that were done and not acknowledged. proved: whether ledger, stock, sums and states fit.
    """

    case: Case
    seconds: float
    purchases: Counter[int]
    reads: Counter[int]
    acknowledged: int
    lost: int
    unanswered: int
    proved: bool

    @property
    def good(self) -> bool:
        return self.proved and (self.case.lossy or not self.lost)


def main() -> int:
    """Carry out the options. Exit status 1: something acknowledged was lost that must not be; 2: it could not run."""
    options = _parse()
    signals.raise_interrupted()
    logging.getLogger("petstore.embedded").setLevel(logging.CRITICAL)  # that a server has stopped is no news here
    print(HEAD, flush=True)
    try:
        return 1 if [name for name in options.cases if not _print(name, options.logs)] else 0
    except (CommandError, EmbeddedError) as error:
        report(str(error))
        return 2
    except signals.Interrupted as interrupt:
        report("interrupted")
        return interrupt.status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/failover", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", default=",".join(CASES), metavar="A,B", help=f"fail-overs, of {', '.join(CASES)}")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep the log of the service in each of them")
    options = parser.parse_args()
    options.cases = options.only.split(",")
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"there is no fail-over {', '.join(sorted(unknown))}")
    return options


def _print(name: str, logs: Path | None) -> bool:
    """Let it happen and print its row; whether nothing was lost that must not be."""
    case = CASES[name]
    if missing := case.missing():
        print(f"| {case.title} | skipped: {missing} not installed |" + " |" * 6, flush=True)
        return True
    report(case.title)
    with tempfile.TemporaryDirectory(prefix="petstore-failover-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL refuses to run as root, and runs as another account
        outcome = _happen(case, Path(folder))
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / "shop" / "node" / "log", logs / f"{name}.log")
    print(_row(outcome), flush=True)
    return outcome.good


def _happen(case: Case, folder: Path) -> Outcome:
    places = {name: folder / name for name in ("servers", "shop", "redis")}
    for place in places.values():
        place.mkdir(mode=0o755)
    redis = Redis(places["redis"])
    redis.start()
    try:
        with case.servers(places["servers"]) as servers:
            shop = BusyShop(places["shop"], servers.app_url, servers.owner_url, redis.url)
            with started(shop.node), shop.buyers() as buyers:
                time.sleep(BEFORE_SECONDS)
                case.act(servers)
                sells(buyers, time.monotonic(), 60)
                time.sleep(AFTER_SECONDS)
            return _outcome(case, servers, shop, buyers)
    finally:
        redis.stop()


def _outcome(case: Case, servers: Servers, shop: BusyShop, buyers: Buyers) -> Outcome:
    shop.owner_url = servers.owner_url
    with shop.owner() as conn:
        done = {key for (key,) in conn.execute(_KEYS).fetchall()}
        wrong = run_report(conn, "ledger_proof")
    wrong += books.audit(read_tables(with_options(servers.owner_url, search_path="m2_be_project")))
    for one in wrong:
        report(f"{case.title}: {one}")
    statuses: dict[str, Counter[int]] = {"purchase": Counter(), "read": Counter()}
    for answer in buyers.answers:
        statuses[answer.kind][answer.status] += 1
    told = set(buyers.bought)
    return Outcome(
        case,
        gap(buyers.answers),
        statuses["purchase"],
        statuses["read"],
        len(told),
        len(told - done),
        len(done - told),
        not wrong,
    )


def _row(outcome: Outcome) -> str:
    cells = [
        outcome.case.title,
        f"{outcome.seconds:.1f}",
        _statuses(outcome.purchases),
        _statuses(outcome.reads),
        str(outcome.acknowledged),
        str(outcome.lost),
        str(outcome.unanswered),
        "proved" if outcome.proved else "**wrong**",
    ]
    return f"| {' | '.join(cells)} |"


def _statuses(counts: Counter[int]) -> str:
    return ", ".join(f"{count} × {status or 'no answer'}" for status, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
