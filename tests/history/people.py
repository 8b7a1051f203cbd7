"""Who takes part in a history: customers who buy and cancel, admins who edit, take payments and credit, and those who only look."""

from __future__ import annotations

from typing import Any

from tests.history.clients import Person, World


class Buyer(Person):
    """Buys: of a product of its own a quantity that it buys once only, and some of what the others want, too."""

    def __init__(self, world: World, user: int, token: str, own: int, keyless: float = 0.15) -> None:
        super().__init__(world, user, token)
        self._own, self._keyless, self._number = own, keyless, 0
        self._invoices: list[int] = []

    def act(self) -> None:
        chance = self.chance.random()
        if chance < 0.5:
            self._buy()
            self.look(self.chance.choice((self.world.scarce, self._own)))
        elif chance < 0.6 and self._invoices:
            self._cancel()
            self._list()
        elif chance < 0.8:
            self._list()
        else:
            self.look(self.world.scarce)

    def _buy(self) -> None:
        self._number += 1
        lines: list[dict[str, Any]] = [{"product_id": self._own, "quantity": self._number}]
        if self.chance.random() < 0.7:
            lines.append({"product_id": self.world.scarce, "quantity": self.chance.randint(1, 4)})
        if self.chance.random() < 0.6:
            lines.append({"product_id": self.world.edited, "quantity": self.chance.randint(1, 3)})
            if self.chance.random() < 0.5 and self.world.edited in self.world.seen:
                lines[-1]["expected_price"] = self.world.seen[self.world.edited]["price"]
        self.chance.shuffle(lines)
        body = {"products": lines}
        request = (f"{self.user}:{self._number}", "purchase", "POST", "/purchase_product", body)
        if self.chance.random() < self._keyless:
            done = self.once(*request, lines=lines, number=self._number)
        else:
            twins = self.chance.random() < 0.3
            done = self.until_known(*request, twins=twins, key=request[0], lines=lines, number=self._number)
        if done.outcome == "ok":
            self._invoices.append(done.answer["id"])
            self.world.bought.append(done.answer)

    def _cancel(self) -> None:
        invoice_id, name = self.chance.choice(self._invoices[-4:]), self.new_name()
        body = {"reason": name}
        self.until_known(name, "cancel", "POST", f"/invoices/{invoice_id}/cancel", body, invoice_id=invoice_id, to="cancelled")

    def _list(self) -> None:
        self.once("", "invoices", "GET", "/invoices?limit=100")


class Admin(Person):
    """Changes prices and stock, takes payments, refunds and credits."""

    def act(self) -> None:
        chance = self.chance.random()
        if chance < 0.2:
            product_id = self.chance.choice((self.world.edited, self.world.still))
            self._change_price(product_id)
            self.look(product_id)
        elif chance < 0.4:
            self._change_stock()
            self.look(self.world.scarce)
        elif self.world.bought:
            pay = chance < 0.7 or not self.world.paid
            invoice = self.chance.choice((self.world.bought if pay else self.world.paid)[-20:])
            self._change_status(invoice["id"]) if chance < 0.8 else self._credit(invoice)
            self.once("", "invoice", "GET", f"/invoices/{invoice['id']}", invoice_id=invoice["id"])

    def _change_price(self, product_id: int) -> None:
        number = next(self.world.counter)
        body: dict[str, Any] = {"price": f"{1 + number // 100}.{number % 100:02}"}
        if self.chance.random() < 0.4 and product_id in self.world.seen:
            body["version"] = self.world.seen[product_id]["version"]
        self._edit(product_id, body)

    def _change_stock(self) -> None:
        """Some more, or almost as much less: by a number of pieces that no other edit has."""
        number = next(self.world.deltas)
        delta = number if self.chance.random() < 0.55 else -number
        self._edit(self.world.scarce, {"stock_delta": delta})

    def _edit(self, product_id: int, body: dict[str, Any]) -> None:
        name = self.new_name()
        path, twins = f"/modify_product?id={product_id}", self.chance.random() < 0.2
        done = self.until_known(name, "edit", "PATCH", path, body, twins=twins, key=name, product_id=product_id, changes=body)
        if done.outcome == "ok":
            self.world.seen[done.answer["id"]] = done.answer

    def _change_status(self, invoice_id: int) -> None:
        to = self.chance.choices(("paid", "shipped", "cancelled", "refunded"), (6, 1, 1, 2))[0]
        name = self.new_name()
        body = {"status": to, "reason": name}
        done = self.until_known(name, "status", "PATCH", f"/admin/invoices/{invoice_id}", body, invoice_id=invoice_id, to=to)
        if done.outcome == "ok" and to == "paid":
            self.world.paid.append(done.answer)

    def _credit(self, invoice: dict[str, Any]) -> None:
        name = self.new_name()
        goods = self.chance.sample(invoice["details"], self.chance.randint(1, len(invoice["details"])))
        lines = [
            {"product_id": good["product_id"], "quantity": self.chance.randint(1, 2), "restock": self.chance.random() < 0.7}
            for good in goods
        ]
        path, body = f"/admin/invoices/{invoice['id']}/credit_notes", {"lines": lines, "reason": name}
        twins = self.chance.random() < 0.2
        self.until_known(name, "credit", "POST", path, body, twins=twins, key=name, invoice_id=invoice["id"], lines=lines)


class Looker(Person):
    """Reads what the others write, all the time."""

    def act(self) -> None:
        product_id = self.chance.choice((self.world.scarce, self.world.edited, self.world.still))
        for _ in range(3):  # so that some is found in the cache
            self.look(product_id)
