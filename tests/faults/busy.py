"""A shop of `petstore serve`, with buyers at work while its way to the database is broken; and whether all they were told is true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from petstore import db
from petstore.auth.key_rotation import generate_key
from petstore.auth.signing_keys import Keyring
from petstore.auth.tokens import Tokens
from petstore.repository.reports import run_report
from petstore.settings import Settings
from tests.buyers import Answer, Buyers
from tests.client import Client
from tests.factories import Factory, Person
from tests.nodes import Node, started
from tests.waiting import eventually

BUYERS = 12


class BusyShop:
    """A node with two workers. url: of its database; owner_url: how a superuser gets there, which may change."""

    def __init__(self, folder: Path, url: str, owner_url: str, redis_url: str, **environ: str) -> None:
        keys = generate_key(folder / "keys").parent
        self.environ = {"PETSTORE_DATABASE_URL": url, "PETSTORE_REDIS_URL": redis_url, "PETSTORE_KEYS": str(keys), **environ}
        self.owner_url, self._defaults = owner_url, Settings()
        self._tokens = Tokens(Keyring(keys), issuer=self._defaults.issuer, audience=self._defaults.audience, seconds=900)
        self.node = Node(folder / "node", self.environ)
        with self.owner() as conn:
            make = Factory(conn)
            self.people = [make.user() for _ in range(BUYERS)]
            self.boss = make.user("boss@example.com", role="admin")
            self.products = [make.product(stock=1_000_000) for _ in range(20)]

    @contextmanager
    def owner(self) -> Iterator[Any]:
        with db.connect(self.owner_url, options="-c search_path=m2_be_project") as conn:
            yield conn

    def client(self, person: Person) -> Client:
        return Client(self.node.address, self._tokens.issue(person))

    def buyers(self) -> Buyers:
        """Buy and read from many threads, for the block."""
        return Buyers([self.node.address], [self._tokens.issue(each) for each in self.people], self.products, pause=0.05)

    def check(self, bought: dict[str, Any], unanswered: int) -> None:
        """Each acknowledged purchase is there once, as it was answered; of those without an answer some may be; the ledger holds."""
        with self.owner() as conn:
            rows = dict(conn.execute("SELECT id, total::text FROM invoices").fetchall())
            assert run_report(conn, "ledger_proof") == []
        told = {invoice["id"]: invoice["total"] for invoice in bought.values()}
        assert len(told) == len(bought) > 100
        assert told.items() <= rows.items()
        assert len(rows) - len(told) <= unanswered

    def buy_again(self, bought: dict[str, Any]) -> None:
        """The key of a purchase gives its invoice, whatever was restarted meanwhile."""
        with self.client(self.people[0]) as client:
            body = {"products": [{"product_id": self.products[0], "quantity": 1}]}
            first, second = (client.post("/purchase_product", body, headers={"Idempotency-Key": "once"}) for _ in range(2))
        assert (first.status, second.status, first.body) == (201, 201, second.body)
        bought["once"] = first.json()


@contextmanager
def busy_shop(*arguments: Any, **environ: str) -> Iterator[BusyShop]:
    shop = BusyShop(*arguments, **environ)
    with started(shop.node):
        yield shop


def sold(buyers: Buyers, since: float) -> bool:
    """Whether a purchase that was begun since then (time.monotonic()) has succeeded."""
    return any(answer.started >= since and answer.status == 201 for answer in list(buyers.answers))


def sells(buyers: Buyers, since: float, seconds: float = 20) -> None:
    """Wait until purchases succeed again."""
    eventually(lambda: sold(buyers, since), seconds)


def gap(answers: list[Answer]) -> float:
    """The longest time in which no purchase succeeded, in seconds."""
    times = sorted(answer.started + answer.seconds for answer in answers if answer.status == 201)
    return max(after - before for before, after in pairwise(times))


def refusals(answers: list[Answer]) -> list[Answer]:
    """Those that are neither a success nor an honest 503."""
    return [answer for answer in answers if answer.status not in (200, 201, 503)]
