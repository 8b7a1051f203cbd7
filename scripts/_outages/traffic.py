"""A load in a process of its own: requests at given rates, whatever the service does (an open load), and buyers.

By hand: python scripts/_outages/traffic.py FILE. Reads a `Plan` as JSON, in one line; runs until standard input ends, then writes
an `Answer` per line to the file, as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from http_client import Answer, Client

HOT = 1  # the product whose row gets locked
BOUGHT, CACHED, UNCACHED = range(2, 202), range(301, 341), range(1001, 10_001)  # the other products, by what is done with them
MIX = {
    "livez": 2,
    "jwks": 2,
    "page": 2,
    "product": 42,
    "list": 10,
    "invoices": 6,
    "bought": 2,
    "uncached": 16,
    "purchase": 14,
    "hot": 4,
}
READERS = 20  # users who read their invoices, and buy nothing


@dataclass
class Plan:
    """What is sent.

    tokens: of users. rates: requests a second by kind. buyers: how many; pause: seconds between two purchases of one, on average.
    mix: how many clients send what MIX tells, each as soon as it has its answer.
    """

    address: tuple[str, int]
    tokens: list[str]
    rates: dict[str, float] = field(default_factory=dict)
    buyers: int = 0
    pause: float = 0.1
    mix: int = 0


class Traffic:
    """Sends what the plan tells; answers: what came, in the order of arrival; late: seconds that a request was sent too late."""

    def __init__(self, plan: Plan) -> None:
        self.answers, self.late = list[Answer](), 0.0
        self._plan, self._client = plan, Client(*plan.address)
        self._readers = itertools.cycle(plan.tokens[:READERS])
        self._uncached, self._cached = itertools.cycle(UNCACHED), itertools.cycle(CACHED)
        self._run, self._numbers = uuid.uuid4().hex[:12], itertools.count()
        self._over = False

    async def run(self, over: asyncio.Future[None]) -> None:
        """Until `over`, and until the last answer."""
        kinds, weights = list(MIX), list(MIX.values())
        tasks = [self._at_rate(kind, rate) for kind, rate in self._plan.rates.items() if rate]
        tasks += [self._buy(token) for token in self._plan.tokens[READERS : READERS + self._plan.buyers]]
        tasks += [self._mixed(kinds, weights) for _ in range(self._plan.mix)]
        running = [asyncio.ensure_future(task) for task in tasks]
        await over
        self._over = True
        await asyncio.gather(*running)

    async def send(self, kind: str, token: str = "") -> None:
        """A request of a kind."""
        key = f"{self._run}-{next(self._numbers)}" if kind in ("purchase", "hot") else ""
        answer, body = await self._client.send(kind, self._request(kind, token or next(self._readers), key))
        if key:
            answer = answer._replace(key=key, invoice=json.loads(body)["id"] if answer.status == 201 else 0)
        self.answers.append(answer)

    def _request(self, kind: str, token: str, key: str) -> bytes:
        if key:
            product = HOT if kind == "hot" else random.choice(BOUGHT)
            return self._post(json.dumps({"products": [{"product_id": product, "quantity": 1}]}), token, key)
        path = {
            "livez": "/livez",
            "jwks": "/.well-known/jwks.json",
            "page": "/docs",
            "list": "/products?limit=20",
            "invoices": "/invoices?limit=20",
            "bought": f"/products?id={random.choice(BOUGHT)}",
            "product": f"/products?id={next(self._cached)}" if kind == "product" else "",
            "uncached": f"/products?id={next(self._uncached)}" if kind == "uncached" else "",
        }[kind]
        login = f"Authorization: Bearer {token}\r\n" if kind == "invoices" else ""
        return f"GET {path} HTTP/1.1\r\nHost: {self._plan.address[0]}\r\n{login}\r\n".encode()

    def _post(self, body: str, token: str, key: str) -> bytes:
        return (
            f"POST /purchase_product HTTP/1.1\r\nHost: {self._plan.address[0]}\r\nAuthorization: Bearer {token}\r\n"
            f"Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def _at_rate(self, kind: str, rate: float) -> None:
        """Requests at random times, as clients who know nothing of each other send them."""
        due, sent = time.monotonic(), set[asyncio.Future[None]]()
        buyers = itertools.cycle(self._plan.tokens[READERS:])
        while not self._over:
            due += random.expovariate(rate)
            await asyncio.sleep(due - time.monotonic())
            self.late = max(self.late, time.monotonic() - due)
            sent.add(task := asyncio.ensure_future(self.send(kind, next(buyers) if kind in ("purchase", "hot") else "")))
            task.add_done_callback(sent.discard)
        await asyncio.gather(*sent)

    async def _buy(self, token: str) -> None:
        """A purchase, a pause, and so on; one in four is of the hot product."""
        while not self._over:
            await asyncio.sleep(random.uniform(0.5, 1.5) * self._plan.pause)
            await self.send("hot" if random.random() < 0.25 else "purchase", token)

    async def _mixed(self, kinds: list[str], weights: list[int]) -> None:
        token = random.choice(self._plan.tokens[READERS:])
        for kind in iter(lambda: random.choices(kinds, weights)[0], None):
            if self._over:
                return
            await self.send(kind, token if kind in ("purchase", "hot") else "")


async def main(file: Path) -> None:
    """Read the plan from the first line, send until the end of standard input, write the file."""
    with suppress(PermissionError):
        os.nice(-10)  # a client that waits for a core would measure itself
    plan, loop = json.loads(sys.stdin.readline()), asyncio.get_running_loop()
    load, over = Traffic(Plan(**plan)), loop.create_future()
    loop.add_reader(sys.stdin, lambda: over.done() or over.set_result(None))
    gc.freeze()
    gc.disable()
    await load.run(over)
    with file.open("w") as out:
        out.writelines(json.dumps(answer) + "\n" for answer in [*load.answers, Answer("late", 0, load.late, 0, 0)])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
