"""The checker, on histories made by hand: a right one, and the same with one thing wrong in it."""

from decimal import Decimal
from types import SimpleNamespace

import pytest

from tests.history.checker import account, check
from tests.history.clients import Operation
from tests.history.evidence import Evidence

ANA, OWN, BONE = 7, 1, 2  # a customer, the product that only she buys, and one for all


class Story:
    """Ana buys one of her own and two bones, the admin takes the payment, she looks at a bone and at her invoices."""

    def __init__(self):
        lines = [{"product_id": OWN, "quantity": 1}, {"product_id": BONE, "quantity": 2}]
        details = [{**line, "unit_price": "1.00"} for line in lines]
        invoice = {"id": 1, "status": "pending", "total": "3.00", "details": details}
        self.bought = _operation("7:1", "purchase", 1, 201, invoice, key="7:1", lines=lines)
        self.paid = _operation("9-1", "status", 3, 200, {**invoice, "status": "paid"}, invoice_id=1, to="paid")
        self.looked = _operation("", "product", 5, 200, {"id": BONE, "stock": 8, "version": 1, "price": "1.00"}, cached="HIT")
        listed = {"items": [{"id": 1, "status": "paid"}], "next": None}
        self.listed = _operation("", "invoices", 7, 200, listed, cached="HIT")
        self.others, self.faults = [], []
        self.product = SimpleNamespace(id=BONE, stock=8, price=Decimal("1.00"), version=1)
        own = SimpleNamespace(id=OWN, stock=9, price=Decimal("1.00"), version=1)
        self.invoice = SimpleNamespace(id=1, user_id=ANA, status="paid", total=Decimal("3.00"), number="2026-000001")
        self.tables = SimpleNamespace(
            products=[own, self.product],
            invoices=[self.invoice],
            invoice_details=[_detail(1, OWN, 1), _detail(1, BONE, 2)],
            invoice_events=[SimpleNamespace(id=1, invoice_id=1, from_status="pending", to_status="paid", reason="9-1")],
            stock_movements=[
                _movement(1, OWN, "initial", 10, 10), _movement(2, BONE, "initial", 10, 10),
                _movement(3, OWN, "sale", -1, 9, 1), _movement(4, BONE, "sale", -2, 8, 1),
            ],
            credit_notes=[],
            credit_note_lines=[],
            idempotency_keys=[SimpleNamespace(key="7:1", status=201)],
        )  # fmt: skip

    def violations(self):
        history = [self.bought, self.paid, self.looked, self.listed, *self.others]
        return check(Evidence(history, self.tables, self.faults, {ANA: OWN}))


def _operation(name, kind, at, status, answer, key=None, cached=None, **asked):
    outcome = "ok" if status < 300 else "refused" if status < 500 else "unknown"
    slug = answer.get("type", "").removeprefix("/problems/")
    return Operation(name, kind, asked, ANA, 0, key, at, at + 1, outcome, status, slug, answer, cached=cached)


def _detail(invoice_id, product_id, quantity):
    price = Decimal("1.00")
    amounts = {"unit_price": price, "line_total": price * quantity, "quantity": quantity, "credited": 0, "restocked": 0}
    return SimpleNamespace(invoice_id=invoice_id, product_id=product_id, **amounts)


def _movement(number, product_id, kind, delta, stock, invoice_id=None):
    return SimpleNamespace(
        id=number, product_id=product_id, kind=kind, delta=delta, stock=stock, invoice_id=invoice_id, reason=None
    )


def refuse(story, slug, **answer):
    story.bought.outcome, story.bought.status, story.bought.slug = "refused", 409, slug
    story.bought.answer = {"errors": [], **answer}


def lose(story):
    for table in ("invoices", "invoice_details", "invoice_events"):
        getattr(story.tables, table).clear()
    del story.tables.stock_movements[2:]


def buy_twice(story):
    again = SimpleNamespace(**{**vars(story.invoice), "id": 2, "status": "pending", "number": None})
    story.tables.invoices.append(again)
    story.tables.invoice_details += [_detail(2, OWN, 1), _detail(2, BONE, 2)]


def fail(story, status, slug):
    failed = _operation("7:2", "purchase", 9, status, {"type": f"/problems/{slug}"}, lines=[])
    story.others.append(failed)


def answer_late(story):
    """The old stock, by a read that began before the purchase was acknowledged."""
    story.looked.started, story.looked.answer["stock"] = 1.5, 10


def read_while_redis_was_down(story):
    story.faults.append(("kill_redis", 1.5, 1.6))
    story.looked.answer["stock"] = 10


def test_the_story_as_it_is_is_right():
    assert not Story().violations(), account(Story().violations())


@pytest.mark.parametrize(
    "still_right", [answer_late, read_while_redis_was_down, lambda story: fail(story, 503, "outcome-unknown")]
)
def test_what_may_be_is_no_violation(still_right):
    story = Story()
    still_right(story)
    assert not story.violations(), account(story.violations())


@pytest.mark.parametrize(("rule", "wrong"), [
    ("purchases", lose),
    ("purchases", buy_twice),
    ("purchases", lambda story: setattr(story.tables.invoice_details[0], "quantity", 5)),  # which nobody asked for
    ("purchases", lambda story: setattr(story.invoice, "total", Decimal("3.01"))),
    ("purchases", lambda story: story.bought.answer["details"][0].update(quantity=2)),
    ("happened", lambda story: refuse(story, "not-enough-stock")),
    ("refusals", lambda story: refuse(story, "stock-limit")),
    ("refusals", lambda story: refuse(story, "not-enough-stock",
                                      errors=[{"product_id": BONE, "requested": 2, "available": 1}])),
    ("answers", lambda story: fail(story, 500, "internal-error")),
    ("answers", lambda story: fail(story, 503, "no-such-slug")),
    ("reads", lambda story: story.looked.answer.update(stock=10)),
    ("reads", lambda story: story.looked.answer.update(version=2)),
    ("reads", lambda story: story.listed.answer["items"].clear()),
    ("reads", lambda story: story.listed.answer["items"][0].update(status="pending")),
    ("amounts", lambda story: setattr(story.invoice, "total", Decimal("2.99"))),
    ("numbers", lambda story: setattr(story.invoice, "number", "2026-000002")),
    ("numbers", lambda story: setattr(story.invoice, "number", None)),
    ("ledger", lambda story: setattr(story.tables.stock_movements[3], "stock", 7)),
    ("ledger", lambda story: setattr(story.product, "stock", 7)),
    ("stock", lambda story: setattr(story.product, "stock", 9)),
    ("returns", lambda story: setattr(story.tables.invoice_details[1], "restocked", 3)),
    ("keys", lambda story: story.tables.idempotency_keys.clear()),
    ("keys", lambda story: setattr(story.tables.idempotency_keys[0], "status", 409)),
    ("effects", lambda story: story.tables.invoice_events.clear()),
    ("edits", lambda story: setattr(story.product, "version", 2)),
])  # fmt: skip
def test_one_thing_wrong_is_found(rule, wrong):
    story = Story()
    wrong(story)
    assert rule in {violation.rule for violation in story.violations()}
