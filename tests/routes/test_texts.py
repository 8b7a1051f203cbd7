"""Texts that cannot be read get in nowhere: 422 in a body, 400 in a query, with words that do not repeat them."""

import json

import pytest

CONTROL, TURNED, UNSEEN = "must not contain control characters", "must not contain characters that turn", "must have at least one"
BAD = [
    ("a\u0007b", CONTROL), ("a\rb", CONTROL), ("\x7f", CONTROL), ("a\u0085b", CONTROL), ("a\u2028b", CONTROL),
    ("a\u202eb", TURNED), ("\u2066a\u2069", TURNED),
    (" ", UNSEEN), ("\u200b", UNSEEN), ("\u2060", UNSEEN), ("\ufeff", UNSEEN), ("\u3164", UNSEEN), ("\u2800", UNSEEN),
    ("\u00a0\u00ad\ufe0f\u034f", UNSEEN), ("\U000e0041\U000e007f", UNSEEN),
]  # fmt: skip
LINE_ENDS = [("a\nb", CONTROL), ("a\tb", CONTROL), ("x\n", CONTROL)]
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467 می\u200cخواهم"
WRITES = {  # the request, with a text in it
    "create": ("POST", "/create_product", lambda text: {"name": text, "price": "1.00", "stock": 1}),
    "rename": ("PATCH", "/modify_product?id=1", lambda text: {"name": text}),
    "restock": ("PATCH", "/modify_product?id=1", lambda text: {"stock_delta": 1, "reason": text}),
    "status": ("PATCH", "/admin/invoices/1", lambda text: {"status": "shipped", "reason": text}),
    "credit": (
        "POST",
        "/admin/invoices/1/credit_notes",
        lambda text: {"lines": [{"product_id": 1, "quantity": 1}], "reason": text},
    ),
    "cancel": ("POST", "/invoices/2/cancel", lambda text: {"reason": text}),
}
NAMES = ("create", "rename")
STORED = (
    "SELECT name FROM products UNION SELECT reason FROM stock_movements UNION SELECT reason FROM invoice_events"
    " UNION SELECT reason FROM credit_notes"
)


@pytest.fixture
def shop(make, boss, admin):
    make.invoice(boss.id, {make.product("Ball"): 2}, status="paid")
    make.invoice(boss.id, {1: 1})
    return admin


@pytest.mark.parametrize("write", WRITES)
def test_a_text_that_cannot_be_read_is_refused_and_not_repeated(shop, make, write):
    method, path, body = WRITES[write]
    before = make.rows(STORED)
    for text, why in BAD + (LINE_ENDS if write in NAMES else []):
        answer = shop.request(method, path, body(text))
        assert (answer.status, answer.pointers()) == (422, [f"/{'name' if write in NAMES else 'reason'}"]), ascii(text)
        assert answer.json()["errors"][0]["detail"].startswith(why)
        assert text == " " or json.dumps(text)[1:-1].encode() not in answer.body
    assert make.rows(STORED) == before


@pytest.mark.parametrize("write", WRITES)
def test_one_with_something_to_see_is_kept_as_it_is(shop, make, write):
    method, path, body = WRITES[write]
    text = FAMILY if write in NAMES else f"first line,\n\t{FAMILY}\n"
    assert shop.request(method, path, body(text)).status in (200, 201)
    assert (text,) in make.rows(STORED)


@pytest.mark.parametrize("path", ["/admin/users?email=", "/products?after=", "/admin/audit?action="])
def test_a_parameter_that_cannot_be_read_is_400(shop, path):
    for text in ("%07", "a%0Ab", "%E2%80%AEa", "%E2%80%8B", "%00"):
        answer = shop.get(path + text)
        assert (answer.status, answer.json()["type"]) == (400, "/problems/bad-request"), text
        assert answer.json()["errors"][0]["detail"].startswith("must")
