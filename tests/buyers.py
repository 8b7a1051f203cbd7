"""Buyers that buy and read over HTTP all the time, and write down every answer: cheap in CPU, so that they leave it to the service.

They reach the shop by one node or several, as a load balancer would: a node that refuses the connection is passed over, and a connection
that the node has closed is not used again. If a node closes the connection without a byte of an answer, the request is sent once more: its
Idempotency-Key makes that safe (RFC 9110, 9.2.2). How often that was is told, too. Everything else that is no answer is a broken request.
"""

from __future__ import annotations

import http.client
import json
import random
import select
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

SECONDS = 10.0  # that a buyer waits for an answer: more than the service may take for any


class Answer(NamedTuple):
    """A request and what came of it. started: time.monotonic(); status: 0 if there was no answer; body: as JSON, or the fault."""

    kind: str
    node: int
    started: float
    seconds: float
    status: int
    body: Any

    def __str__(self) -> str:
        return f"{self.kind} at node {self.node}: {self.status} after {self.seconds:.3f} s: {str(self.body)[:300]}"


class Balancer:
    """One client's connections, at most one to each node. keep_alive: whether they are used again; resent: requests sent twice.

    patience: seconds that it waits for an answer.
    """

    resent = 0

    def __init__(
        self, addresses: Sequence[tuple[str, int]], *, keep_alive: bool, chance: random.Random, patience: float = SECONDS
    ) -> None:
        self._addresses, self._keep_alive, self._chance, self._patience = addresses, keep_alive, chance, patience
        self._connections: dict[int, http.client.HTTPConnection] = {}

    def send(self, kind: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """A request to a node of chance, or to the next one that takes the connection."""
        started, first = time.monotonic(), self._chance.randrange(len(self._addresses))
        node, status = first, 0
        try:
            node, connection = self._connect(first)
            try:
                response = self._exchange(connection, method, path, body, headers)
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                self._close(node)
                self.resent += 1
                node, connection = self._connect(first)
                response = self._exchange(connection, method, path, body, headers)
            status, answer = response.status, json.loads(response.read())
            if not self._keep_alive or response.will_close:
                self._close(node)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._close(node)
            answer = f"{type(error).__name__}: {error}"
        return Answer(kind, node, started, time.monotonic() - started, status, answer)

    def close(self) -> None:
        for node in list(self._connections):
            self._close(node)

    @staticmethod
    def _exchange(connection: http.client.HTTPConnection, *request: Any) -> http.client.HTTPResponse:
        connection.request(*request)
        return connection.getresponse()

    def _connect(self, first: int) -> tuple[int, http.client.HTTPConnection]:
        """The first node, or the next one, that takes a connection, and the connection."""
        nodes = [(first + number) % len(self._addresses) for number in range(len(self._addresses))]
        for node in nodes:
            connection = self._connections.get(node)
            if connection is not None and not select.select([connection.sock], [], [], 0)[0]:
                return node, connection
            self._close(node)  # the node has closed it
            connection = http.client.HTTPConnection(*self._addresses[node], timeout=self._patience)
            try:
                connection.connect()
            except ConnectionRefusedError:
                if node == nodes[-1]:
                    raise
            else:
                self._connections[node] = connection
                return node, connection
        raise AssertionError("the last node takes it or refuses it")

    def _close(self, node: int) -> None:
        if connection := self._connections.pop(node, None):
            connection.close()


class Buyers:
    """Buys with each token, from a thread of its own, for the block.

    products: what is bought, one or two of each time, with enough in stock. pause: seconds between two requests, on average.
    patience: seconds that a buyer waits for an answer. keyed: whether purchases have an Idempotency-Key; without one, none may be sent again, so `resent` has to be 0.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        tokens: Sequence[str],
        products: Sequence[int],
        *,
        pause: float = 0.1,
        keyed: bool = True,
        patience: float = SECONDS,
    ) -> None:
        self.answers: list[Answer] = []
        self.bought: dict[str, Any] = {}  # Idempotency-Key, or what would be: the invoice, as answered
        self.resent = 0  # requests
        self._addresses, self._products, self._pause, self._keyed = addresses, products, pause, keyed
        self._patience = patience
        self._over, self._run = threading.Event(), uuid.uuid4().hex
        self._threads = [threading.Thread(target=self._buy, args=each, name=f"buyer-{each[0]}") for each in enumerate(tokens)]
        self._errors: list[BaseException] = []

    def __enter__(self) -> Buyers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        if self._errors and error is None:
            raise self._errors[0]

    def faults(self) -> list[Answer]:
        """The requests that were refused, broken, or not answered: there is enough of everything, so none may be."""
        return [answer for answer in self.answers if not 200 <= answer.status < 300]

    def longest(self) -> str:
        """How many requests of each kind there were, and the longest answer, for people."""
        kinds: dict[str, list[float]] = defaultdict(list)
        for answer in self.answers:
            kinds[answer.kind].append(answer.seconds)
        each = (f"{len(found)} {kind} (longest {max(found):.3f} s)" for kind, found in sorted(kinds.items()))
        return ", ".join(each)

    def _buy(self, number: int, token: str) -> None:
        chance = random.Random(number)
        balancer = Balancer(self._addresses, keep_alive=number % 2 == 0, chance=chance, patience=self._patience)

        def send(kind: str, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
            headers = {"Authorization": f"Bearer {token}"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            if key is not None and self._keyed:
                headers["Idempotency-Key"] = key
            answer = balancer.send(kind, method, path, json.dumps(body).encode() if body else None, headers)
            self.answers.append(answer)
            return answer

        try:
            for count in range(10**9):
                if self._over.wait(chance.uniform(0.5, 1.5) * self._pause):
                    break
                self._act(f"{self._run}-{number}-{count}", chance, send)
        except BaseException as error:  # noqa: BLE001 - raised by the test, in its own thread
            self._errors.append(error)
        finally:
            balancer.close()
            self.resent += balancer.resent

    def _act(self, key: str, chance: random.Random, send: Callable[..., Answer]) -> None:
        """Buy, or read."""
        product_id = chance.choice(self._products)
        if chance.random() < 0.5:
            wanted = sorted({product_id, chance.choice(self._products)})
            body = {"products": [{"product_id": each, "quantity": 1} for each in wanted]}
            answer = send("purchase", "POST", "/purchase_product", body, key)
            if answer.status == 201:
                self.bought[key] = answer.body
        else:
            path = chance.choice((f"/products?id={product_id}", "/products?limit=20", "/invoices?limit=20"))
            send("read", "GET", path)
