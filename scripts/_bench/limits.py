"""The limit of purchases: pgbench runs the same SQL in the same transaction, without the service."""

from __future__ import annotations

import re
from pathlib import Path

from petstore.cli.output import CommandError
from petstore.db.queries import load_queries
from petstore.embedded import find_program
from petstore.embedded.processes import run

CLIENTS = 8
# How a purchase is done: its query files in order, and each parameter as a pgbench expression.
STEPS = ("purchases/buy_products",)
PARAMETERS = {
    "product_ids": "array[{products}]",
    "quantities": "array[{quantities}]",
    "user_id": ":user_id",
    "expected_ids": "array[]",
    "expected_prices": "array[]",
}
LINES = {
    "spread": {"products": ":one, :two", "quantities": ":of_one, :of_two"},
    "hot": {"products": "1", "quantities": ":of_one"},
}
# The begin of each transaction. As in petstore.db, it is one round trip with the first query.
_BEGIN = r"""\set user_id random(1, 1000)
\set one random(1, 10000)
\set two (:one + random(1, 9999) - 1) % 10000 + 1
\set of_one random(1, 3)
\set of_two random(1, 3)
\startpipeline
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT begin_request(('{"actor_id": ' || :user_id::text || ', "address": "127.0.0.1"}')::jsonb);"""


def script(scenario: str) -> str:
    """The pgbench script of a purchase; CommandError when the files of sql/queries/purchases are not those of STEPS."""
    present = {name for name in load_queries() if name.startswith("purchases/")}
    if present != set(STEPS):
        raise CommandError(
            f"sql/queries/purchases has changed ({', '.join(sorted(present ^ set(STEPS)))}): change {__file__}, too"
        )
    steps = [_statement(name, LINES[scenario]) + ";" for name in STEPS]
    return "\n".join([_BEGIN, steps[0], "\\endpipeline", *steps[1:], "COMMIT;"]) + "\n"


def _statement(name: str, lines: dict[str, str]) -> str:
    unknown = set(load_queries()[name].names) - set(PARAMETERS)
    if unknown:
        raise CommandError(f"{name}.sql has a parameter {', '.join(sorted(unknown))} that {__file__} does not know: add it there")
    return re.sub(
        r"%\((\w+)\)s|%%", lambda match: PARAMETERS[match[1]].format(**lines) if match[1] else "%", load_queries()[name].sql
    )


def pgbench(url: str, scenario: str, folder: Path, *, seconds: int) -> dict[str, float]:
    """Purchase for some seconds. rps: transactions per second; errors: failed ones."""
    path = folder / f"{scenario}.pgbench"
    path.write_text(script(scenario))
    command = [find_program("pgbench"), "-n", "-M", "prepared", f"-c{CLIENTS}", "-j2", f"-T{seconds}", "-f", path, url]
    status, printed = run(command)
    if status:
        raise CommandError(f"pgbench ended with status {status}:\n{printed.strip()}")
    return figures(printed)


def figures(printed: str) -> dict[str, float]:
    """The figures in the output of pgbench."""
    rps, failed = re.search(r"^tps = ([\d.]+)", printed, re.M), re.search(r"failed transactions: (\d+)", printed)
    if rps is None or failed is None:
        raise CommandError(f"pgbench printed no figures:\n{printed.strip()}")
    return {"rps": float(rps[1]), "errors": int(failed[1])}
