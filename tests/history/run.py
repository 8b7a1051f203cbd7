"""One run: a shop, its clients, the nemesis, and the verdict."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from petstore import db
from tests.factories import Factory
from tests.history.checker import Violation, account, check
from tests.history.clients import Operation, Person, World
from tests.history.evidence import Evidence, read_tables
from tests.history.nemesis import Fault, Nemesis
from tests.history.people import Admin, Buyer, Looker
from tests.history.servers import Shop

BUYERS, ADMINS, LOOKERS = 5, 2, 2


@dataclass
class Run:
    """What was done, and what is wrong with it."""

    history: list[Operation]
    faults: list[tuple[str, float, float]]
    violations: list[Violation]
    failures: list[str]  # of the services, from their logs

    def account(self) -> str:
        """What is wrong, to read."""
        return "\n".join([account(self.violations), *self.failures])

    def summary(self) -> str:
        counts = Counter((one.kind, one.outcome) for one in self.history)
        hits = sum(one.cached == "HIT" for one in self.history)
        replays = sum(one.replayed for one in self.history)
        told = ", ".join(f"{kind} {outcome} {count}" for (kind, outcome), count in sorted(counts.items()))
        return f"{told}; {hits} hits, {replays} replays; faults: {', '.join(name for name, _, _ in self.faults)}"


def perform(shop: Shop, seconds: float, faults: tuple[Fault, ...], *, seed: int = 0, keyless: float = 0.15) -> Run:
    """Let clients loose on an empty shop while the nemesis is at work; then judge."""
    with db.connect(shop.owner_url) as conn:
        people, world, owns = _arrange(shop, Factory(conn), seconds, keyless)
    with db.connect(shop.postgres.url("postgres")) as conn:
        conn.execute("CHECKPOINT")  # what has been arranged outlasts every crash
    nemesis = Nemesis(shop, faults, seed=seed)
    for person in people:
        person.start()
    try:
        nemesis.run(world.over)
    finally:
        world.over = min(world.over, time.monotonic())
        for person in people:
            person.join()
    if world.errors:
        raise world.errors[0]
    _look_once_more(people)
    # A loaded machine may cut a service off from Redis without our help.
    cut_off = [("redis, says the log", *span) for service in shop.services for span in service.cut_off()]
    evidence = Evidence(world.history, read_tables(shop.owner_url), [*nemesis.done, *cut_off], owns)
    return Run(world.history, nemesis.done, check(evidence), [service.failure() for service in shop.services])


def _arrange(shop: Shop, make: Factory, seconds: float, keyless: float) -> tuple[list[Person], World, dict[int, int]]:
    scarce, edited, still = (make.product(price="1.00", stock=stock) for stock in (40, 1_000_000, 1))
    buyers = [make.user() for _ in range(BUYERS)]
    owns = {user.id: make.product(price="1.00", stock=100_000_000) for user in buyers}
    world = World([service.address for service in shop.services], scarce, edited, still, seconds)
    people: list[Any] = [Buyer(world, user.id, shop.token(user), owns[user.id], keyless) for user in buyers]
    for kind, count, role in ((Admin, ADMINS, "admin"), (Looker, LOOKERS, "user")):
        for _ in range(count):
            user = make.user(role=role)
            people.append(kind(world, user.id, shop.token(user)))
    return people, world, owns


def _look_once_more(people: list[Person]) -> None:
    """When all is quiet, both services show the same as the tables."""
    for person in people[:BUYERS]:
        for service in range(2):
            person.once("", "products", "GET", "/products", service=service)
            person.once("", "invoices", "GET", "/invoices?limit=100", service=service)
        person.close()
