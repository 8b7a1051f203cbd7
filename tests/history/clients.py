"""The clients of a history: each writes down every request, when it was sent, when its answer came, and what that was.

A logical operation may take several requests: after an unknown outcome its key is sent again, to the other service too, until
the answer is known. What they share is `name`, which the tables show as well: as the reason of a cancellation or a credit note,
as a quantity that no other purchase of the same user has, as a change of stock or a price that no other edit has.
"""

from __future__ import annotations

import http.client
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.client import Client, Response

SECONDS = 10  # that a client waits for an answer: more than the service may take for any
HASTY = 0.03  # how often it does not, and is gone after 10 ms
PATIENCE = 20  # seconds that it goes on asking for an outcome after the end of the run


@dataclass
class Operation:
    """One request. outcome: ok (2xx), refused (4xx), unknown (5xx, a lost connection, no answer, a twin still at work)."""

    name: str
    kind: str
    asked: dict[str, Any]
    user: int
    service: int
    key: str | None
    started: float
    ended: float = 0.0
    outcome: str = "unknown"
    status: int | None = None
    slug: str = ""
    answer: Any = None
    body: bytes = b""
    replayed: bool = False
    cached: str | None = None
    fault: str = ""

    def __str__(self) -> str:
        what = f"{self.status or ''} {self.slug or self.fault}".strip()
        times = f"{self.started:.3f}-{self.ended:.3f}"
        return f"{times} user {self.user} at {self.service} {self.name} {self.kind} {self.asked}: {self.outcome} {what}"


@dataclass
class World:
    """What the clients know of the shop and share with each other."""

    addresses: list[tuple[str, int]]
    scarce: int  # a product of which there is often too little
    edited: int  # a product whose price changes
    still: int  # a product whose price changes now and then, and that nobody buys
    seconds: float
    history: list[Operation] = field(default_factory=list)
    bought: list[dict[str, Any]] = field(default_factory=list)  # invoices, as answered
    paid: list[dict[str, Any]] = field(default_factory=list)
    seen: dict[int, dict[str, Any]] = field(default_factory=dict)  # the newest known state of products
    counter: Any = field(default_factory=lambda: itertools.count(1))
    deltas: Any = field(default_factory=lambda: itertools.count(20))  # pieces that come or go, each number once
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.over = time.monotonic() + self.seconds


class Caller(Client):
    """A client that waits so long for an answer, and then goes away."""

    def wait(self, seconds: float) -> None:
        self._connection.timeout = seconds
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)


class Person(threading.Thread):
    """Somebody with a token, who does things at either service until the time is over."""

    def __init__(self, world: World, user: int, token: str) -> None:
        super().__init__(name=f"{type(self).__name__}-{user}")
        self.world, self.user, self.token = world, user, token
        self.chance = random.Random(user)
        self._clients = [self._client(number) for number in range(len(world.addresses))]
        self._twins = [self._client(number) for number in range(len(world.addresses))]
        self._pool = ThreadPoolExecutor(1)

    def run(self) -> None:
        try:
            while time.monotonic() < self.world.over:
                self.act()
        except BaseException as error:  # noqa: BLE001 - shown by the test, in its own thread
            self.world.errors.append(error)
        finally:
            self._pool.shutdown()
            self.close()

    def close(self) -> None:
        for client in (*self._clients, *self._twins):
            client.close()

    def act(self) -> None:
        """Do one thing."""
        raise NotImplementedError

    def once(self, name: str, kind: str, method: str, path: str, body: Any = None, *, service: int | None = None,
             key: str | None = None, twin: bool = False, **asked: Any) -> Operation:  # fmt: skip
        """One request, written down."""
        service = self.chance.randrange(len(self._clients)) if service is None else service
        operation = Operation(name, kind, asked, self.user, service, key, time.monotonic())
        client, hasty = (self._twins if twin else self._clients)[service], self.chance.random() < HASTY
        client.wait(0.01 if hasty else SECONDS)
        options: dict[str, Any] = {"headers": {"Idempotency-Key": key} if key else {}}
        if body is not None:
            options["body"] = body
        try:
            _fill(operation, client.request(method, path, **options))
        except (OSError, http.client.HTTPException) as error:
            client.close()
            operation.fault = "went away" if hasty else f"{type(error).__name__}: {error}"
            time.sleep(0.02)  # a service that is down is no reason to do nothing but ask
        except (AssertionError, ValueError, KeyError) as error:  # no answer that the contract knows
            client.close()
            operation.outcome, operation.fault = "malformed", f"{type(error).__name__}: {error}"
        operation.ended = time.monotonic()
        self.world.history.append(operation)
        return operation

    def until_known(self, *request: Any, twins: bool = False, **options: Any) -> Operation:
        """The same request until its outcome is known, or until all that was said is that nothing was done, which is enough for some.

        What was said of one attempt says nothing of an earlier one whose answer was lost.
        `twins` are first sent to both services at one moment.
        """
        service = self.chance.randrange(len(self._clients))
        attempts: list[Operation] = []
        while True:
            if twins:
                other = self._pool.submit(self.once, *request, service=1 - service, twin=True, **options)
            operation = self.once(*request, service=service, **options)
            attempts.append(operation)
            if twins:
                attempts.append(other.result())
                if other.result().outcome != "unknown":
                    operation = other.result()
            gives_up = all(one.slug == "unavailable" for one in attempts) and self.chance.random() < 0.3
            if operation.outcome != "unknown" or gives_up or time.monotonic() > self.world.over + PATIENCE:
                return operation
            time.sleep(self.chance.uniform(0.01, 0.1))
            service, twins = self.chance.randrange(len(self._clients)), False

    def look(self, product_id: int) -> None:
        """Read one product, or the list of all."""
        if self.chance.random() < 0.7:
            done = self.once("", "product", "GET", f"/products?id={product_id}", product_id=product_id)
            items = [done.answer]
        else:
            done = self.once("", "products", "GET", "/products")
            items = done.answer["items"] if done.outcome == "ok" else []
        if done.outcome == "ok":
            self.world.seen.update({item["id"]: item for item in items})

    def new_name(self) -> str:
        return f"{self.user}-{next(self.world.counter)}"

    def _client(self, service: int) -> Caller:
        return Caller(self.world.addresses[service], self.token)


def _fill(operation: Operation, response: Response) -> None:
    operation.status, operation.cached = response.status, response["X-Cache"]
    operation.replayed = response["Idempotent-Replayed"] == "true"
    operation.answer, operation.body = response.json(), response.body
    if response.status >= 400:
        operation.slug = operation.answer["type"].removeprefix("/problems/")
    if response.status == 503 or operation.slug == "key-in-use":
        assert response["Retry-After"], "no Retry-After"
    if response.status < 300:
        operation.outcome = "ok"
    elif response.status < 500 and operation.slug != "key-in-use":
        operation.outcome = "refused"
