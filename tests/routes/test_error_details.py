"""Errors teach: each says what was wrong, where, and what would be right; and never repeats what is secret."""

import re

import pytest

from petstore.app import create_router
from petstore.auth.tokens import Tokens
from petstore.web.openapi import EXPLANATIONS, problem_example
from petstore.web.validation import SCHEMAS
from tests.factories import PASSWORD

SECRET = "Zq8!kept-to-myself"  # sent as password or token in every request below that has one
JWT = f"eyJhbGciOiJSUzI1NiJ9.{SECRET}.c2ln"
EMAIL = "bea@example.com"
LINE = {"product_id": 1, "quantity": 1}
BUY, REGISTER, CREATE = ("POST", "/purchase_product"), ("POST", "/register"), ("POST", "/create_product")
MODIFY, CREDIT = ("PATCH", "/modify_product?id=1"), ("POST", "/admin/invoices/2/credit_notes")
JSON = {"Content-Type": "application/json"}


def body(**members):
    return {"email": EMAIL, "password": SECRET} | members


# who asks, the request, its body (bytes as they are), the slug, where it is wrong, and what would be right.
WRONG = [
    # bodies that cannot be read
    ("anyone", REGISTER, b"", "malformed-json", "body is empty", 'JSON object such as {"email": "...", "password": "..."}.'),
    ("anyone", ("POST", "/logout"), b"", "malformed-json", "body is empty", 'such as {"refresh_token": "..."}.'),
    ("anyone", ("POST", "/logout"), {"refresh_token": JWT}, "invalid", "/refresh_token", "must be the refresh_token of POST /login"),
    ("anyone", ("POST", "/refresh"), {"refresh_token": JWT}, "invalid", "/refresh_token", "an access_token, which has"),
    ("anyone", REGISTER, b'{"password": }', "malformed-json", "line 1, column 14", "Expecting value"),
    ("anyone", REGISTER, b'{"password": "' + SECRET.encode(), "malformed-json", "line 1, column 14", "Unterminated string"),
    ("anyone", REGISTER, b'{"email": "a", "email": "b"}', "malformed-json", '"email"', "once"),
    ("admin", CREATE, b'{"price": NaN}', "malformed-json", "NaN", "null or left out"),
    ("anyone", REGISTER, b'{"email": "\xff"}', "malformed-json", "body", "UTF-8"),
    ("anyone", REGISTER, b"[" * 33 + b"]" * 33, "malformed-json", "body is nested", "32 levels"),
    ("anyone", REGISTER, b" " * 262_145, "too-large", "body", "262144 bytes"),
    # bodies that can be read
    ("anyone", REGISTER, [], "invalid", "", "must be an object"),
    ("anyone", REGISTER, {"password": SECRET}, "invalid", "/email", "is missing: it must be a string"),
    ("anyone", REGISTER, body(password=5), "invalid", "/password", "must be a string"),
    ("anyone", REGISTER, body(password=[SECRET]), "invalid", "/password", "must be a string"),
    ("anyone", REGISTER, body(admin=True), "invalid", "/admin", "there are: email, password"),
    ("anyone", REGISTER, body(password=SECRET * 100), "invalid", "/password", "must have at most 1024 characters"),
    ("anyone", REGISTER, body(password=SECRET[:4]), "invalid", "/password", "must have 8 to 256 characters"),
    ("anyone", REGISTER, body(password="password1"), "invalid", "/password", "choose another"),
    ("anyone", REGISTER, body(email=f"{SECRET[:-1]}@example.com"), "invalid", "/password", "before the @"),
    ("anyone", REGISTER, body(email="bea"), "invalid", "/email", "such as ana@example.com"),
    ("anyone", REGISTER, body(password=SECRET + "\0"), "invalid", "/password", "NUL"),
    ("user", BUY, {"products": []}, "invalid", "/products", "must have at least 1 item"),
    ("user", BUY, {"products": [LINE, LINE | {"quantity": 0}]}, "invalid", "/products/1/quantity", "must be at least 1"),
    ("user", BUY, {"products": [LINE | {"quantity": 0}]}, "invalid", "/products/0/quantity", "must be at least 1"),
    ("user", BUY, {"products": [LINE | {"quantity": 10_001}]}, "invalid", "/products/0/quantity", "must be at most 10000"),
    ("user", BUY, b'{"products":[{"product_id":1,"quantity":2.5}]}', "invalid", "/products/0/quantity", "must be an integer"),
    ("user", BUY, {"products": [LINE | {"expected_price": "5,49"}]}, "invalid", "/products/0/expected_price", '"12.50"'),
    ("user", BUY, {"products": [LINE | {"expected_price": "5.499"}]}, "invalid", "/products/0/expected_price", "at most 2 digits"),
    ("user", BUY, {"products": [{"product_id": 9, "quantity": 1}]}, "invalid", "/products/0/product_id", "no such product"),
    ("admin", CREATE, {"name": " ", "price": "1", "stock": 1}, "invalid", "/name", "at least one character that can be seen"),
    ("admin", ("PATCH", "/admin/invoices/1"), {"status": "lost"}, "invalid", "/status", "must be one of: pending, paid"),
    ("admin", ("PATCH", "/admin/invoices/1"), {}, "invalid", "/status", "must be one of: pending, paid"),
    ("admin", ("PATCH", "/admin/users/1"), {}, "invalid", "", "must have at least one of: role, active"),
    ("admin", MODIFY, {"stock": 1, "stock_delta": 1}, "invalid", "/stock_delta", "cannot stand beside stock"),
    ("admin", MODIFY, {"reason": "why"}, "invalid", "/reason", "goes with stock or stock_delta"),
    ("admin", MODIFY, {"version": 1}, "invalid", "/version", "goes with a change only"),
    ("admin", MODIFY, {}, "invalid", "", "must have at least one of: name, price, stock, stock_delta"),
    ("admin", ("PATCH", "/admin/invoices/1"), {"status": "paid", "restock": True}, "invalid", "/restock", "refunded only"),
    ("admin", CREDIT, {"lines": [LINE | {"product_id": 2}]}, "invalid", "/lines/0/product_id", "not on this invoice"),
    # path, query, headers
    ("anyone", ("GET", "/products?limit=0"), None, "bad-request", "limit", "a whole number from 1 to 100"),
    ("anyone", ("GET", "/products?page=2"), None, "bad-request", "page", "there are: id, "),
    ("anyone", ("GET", "/products?limit="), None, "bad-request", "limit", "leave it out"),
    ("anyone", ("GET", "/products?limit=1&limit=2"), None, "bad-request", "limit", "once is enough"),
    ("anyone", ("GET", "/products?id=1&limit=2"), None, "bad-request", "id", "cannot stand together with ids, limit, after"),
    ("anyone", ("GET", "/products?after=x"), None, "bad-request", "after", "take it from `next`"),
    ("anyone", ("GET", "/products?limit=%ff"), None, "bad-request", "query", "percent-encoded UTF-8"),
    ("admin", ("DELETE", "/delete_product"), None, "bad-request", "id", "it must be the id of the product"),
    ("admin", ("GET", "/admin/invoices?status=lost"), None, "bad-request", "status", "must be one of: pending, paid"),
    ("admin", ("GET", "/admin/invoices?from=today"), None, "bad-request", "from", "2026-01-31"),
    ("admin", ("GET", "/admin/audit?action=x"), None, "bad-request", "action", "such as product.update"),
    ("user", ("GET", "/invoices/abc"), None, "bad-request", "invoice_id", "a whole number from 1"),
    ("user", (*BUY, {"Idempotency-Key": "ü"}), {"products": [LINE]}, "bad-request", "Idempotency-Key", "printable ASCII"),
    ("admin", (*MODIFY, {"If-Match": "abc"}), {"stock": 1}, "bad-request", "If-Match", "ETags in their quotes"),
    ("anyone", ("GET", "/products", {"If-Match": '"abc"'}), None, "bad-request", "If-Match", "is for PATCH /modify_product"),
    ("anyone", ("POST", "/login", {"Content-Type": "text/plain"}), b"{}", "unsupported-media-type", "body", "application/json"),
    ("anyone", ("POST", "/login", JSON | {"Content-Encoding": "gzip"}), b"{}", "unsupported-media-type", "body", "without"),
    # who asks
    ("anyone", ("GET", "/me"), None, "unauthorized", "access token", "Authorization: Bearer <access_token>"),
    ("anyone", ("GET", "/me", {"Authorization": f"Basic {SECRET}"}), None, "unauthorized", "Authorization", "Bearer"),
    ("anyone", ("GET", "/me", {"Authorization": f"Bearer {SECRET}"}), None, "unauthorized", "access token", "POST /login"),
    ("late", ("GET", "/me"), None, "unauthorized", "access token has expired", "POST /refresh"),
    ("gone", ("GET", "/me"), None, "login-ended", "login of this access token", "log in again"),
    ("user", CREATE, {"name": "x", "price": "1", "stock": 1}, "forbidden", "Your role is user", "the role admin"),
    ("anyone", ("POST", "/login"), body(), "wrong-credentials", "Email or password", "wrong"),
    ("user", ("POST", "/me/delete"), {"current_password": SECRET}, "invalid", "/current_password", "is wrong"),
    ("anyone", ("POST", "/refresh"), {"refresh_token": SECRET}, "wrong-refresh-token", "refresh token", "log in again"),
    # what is not there
    ("anyone", ("GET", "/product"), None, "not-found", "path", "GET /openapi.json"),
    ("anyone", ("GET", "/products?id=9"), None, "not-found", "product", "id"),
    ("user", ("GET", "/invoices/9"), None, "not-found", "invoice", "id"),
    ("admin", ("PATCH", "/admin/users/9"), {"role": "user"}, "not-found", "account", "id"),
    ("anyone", ("GET", "/problems/lost"), None, "not-found", "type of error", "GET /problems"),
    ("anyone", ("GET", "/assets/lost.js"), None, "not-found", "file", "no such"),
    ("anyone", ("POST", "/products"), {}, "method-not-allowed", "path", "GET, HEAD; for POST there is POST /create_product."),
    ("anyone", ("PATCH", "/products?id=1"), {}, "method-not-allowed", "path", "for PATCH there is PATCH /modify_product?id=X."),
    ("anyone", ("DELETE", "/products"), None, "method-not-allowed", "path", "for DELETE there is DELETE /delete_product?id=X."),
    ("anyone", ("DELETE", "/invoices/7"), None, "method-not-allowed", "path", "there is POST /invoices/X/cancel."),
    ("anyone", ("PUT", "/invoices/7"), {}, "method-not-allowed", "path", "there is PATCH /admin/invoices/X."),
    ("anyone", ("POST", "/invoices"), {}, "method-not-allowed", "path", "there is POST /purchase_product."),
    ("anyone", ("DELETE", "/me"), None, "method-not-allowed", "path", "there is POST /me/delete."),
    ("anyone", ("DELETE", "/login"), None, "method-not-allowed", "path", "takes: POST."),
    ("anyone", ("GET", "/admin/reports/nope"), None, "not-found", "report", "there are: best_customers, ledger_proof"),
    ("anyone", ("GET", "/admin/reports"), None, "not-found", "report", "ledger_proof"),
    ("anyone", ("GET", "/admin/reportsx"), None, "not-found", "path", "GET /openapi.json"),
    # what does not fit the state of things
    ("anyone", REGISTER, body(email="ana@EXAMPLE.com"), "email-taken", "/email", "is that of an account"),
    ("admin", ("PATCH", "/admin/users/2"), {"role": "user"}, "last-admin", "last active admin", "make another one first"),
    ("user", BUY, {"products": [LINE | {"quantity": 11}]}, "not-enough-stock", "/products/0/quantity", "only 10 in stock"),
    ("admin", MODIFY, {"stock_delta": -11}, "not-enough-stock", "/stock_delta", "only 10 in stock"),
    ("user", BUY, {"products": [LINE | {"expected_price": "9"}]}, "price-changed", "/products/0/expected_price", "is 12.50 now"),
    ("admin", MODIFY, {"stock": 1, "expected_stock": 3}, "stock-changed", "/expected_stock", "the stock is 10 now"),
    ("admin", ("PATCH", "/modify_product?id=2"), {"price": "1", "version": 2}, "edit-conflict", "/version", "is 1 now"),
    ("admin", (*MODIFY, {"If-Match": '"abc"'}), {"price": "1"}, "precondition-failed", "If-Match", "has not the ETag"),
    ("admin", ("PATCH", "/modify_product?id=3"), {"stock_delta": 1}, "stock-limit", "stock of a product", "1,000,000,000 pieces"),
    ("admin", ("PATCH", "/admin/invoices/1"), {"status": "shipped"}, "transition-not-allowed", "is pending", "cancelled, paid"),
    ("admin", ("POST", "/admin/invoices/1/credit_notes"), {"lines": [LINE]}, "not-creditable", "is pending", "paid, shipped"),
    ("admin", CREDIT, {"lines": [LINE | {"quantity": 2}]}, "credit-exceeds-invoice", "/lines/0/quantity", "only 1 bought"),
]  # fmt: skip


@pytest.fixture
def ask(make, clients, service, keys):
    """Asks as one of several people in a shop of three products and two invoices."""
    ana = make.user("Ana@example.com")
    boss = make.user("admin@example.com", role="admin")
    gone = make.user()
    make.conn.execute("UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE id = %s", (gone.session_id,))
    for stock in (10, 10, 1_000_000_000):
        make.product(stock=stock)
    make.invoice(ana.id, {1: 1})
    make.invoice(ana.id, {1: 1}, status="paid")
    people = {"anyone": clients(), "user": clients(ana), "admin": clients(boss), "gone": clients(gone), "late": clients()}
    issuer = Tokens(service[0].tokens.keyring, issuer="petstore", audience="petstore", seconds=-10)
    people["late"].token = issuer.issue(ana)

    def request(who, method, path, headers=None, sent=None):
        how = {"raw": sent} if isinstance(sent, bytes) else {"body": sent} if sent is not None else {}
        answer = people[who].request(method, path, headers=headers, **how)
        return answer, people[who].token

    return request


def places(problem):
    """Where it is wrong: by its errors, else by its detail."""
    named = [fault.get("pointer", fault.get("parameter")) for fault in problem.get("errors", [])]
    return named or [problem["detail"]]


def shape(value):
    """The members and their kinds."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    return [shape(item) for item in value[:1]] if isinstance(value, list) else type(value)


def test_an_error_says_where_and_what_would_be_right_and_repeats_no_secret(ask):
    told = {}
    for who, (method, path, *headers), sent, slug, where, right in WRONG:
        case = (method, path, sent, slug)
        answer, token = ask(who, method, path, *headers, sent=sent)
        problem = answer.json()
        assert problem["type"] == f"/problems/{slug}", (case, problem)
        if "errors" in problem:
            assert places(problem) == [where], (case, problem)
            assert right in problem["errors"][0]["detail"], (case, problem)
        else:
            assert where in problem["detail"], (case, problem)
            assert right in problem["detail"], (case, problem)
        assert re.fullmatch(r"\S.*[.?]", problem["detail"]), (case, problem)  # a sentence
        text = answer.body.decode() + str(answer.headers)
        assert SECRET[:4] not in text, (case, problem)
        assert PASSWORD not in text, (case, problem)
        assert token is None or token not in text, (case, problem)
        assert "ana@" not in text.lower() or "such as ana@example.com" in text, (case, problem)  # hers is Ana@example.com
        told.setdefault(slug, []).append(problem)
    for slug, problems in told.items():
        example = problem_example(slug)
        assert shape(example) in [shape(problem) for problem in problems], f"{slug} in problems.json has other members"


def test_only_a_few_kinds_of_error_are_told_elsewhere():
    """Those that come of load, of two requests at once, of broken servers, or of the framing, which have tests of their own."""
    elsewhere = {
        "conflict",
        "refresh-token-just-used",
        "key-in-use",
        "key-reused",
        "headers-too-large",
        "too-many-requests",
        "too-many-attempts",
        "too-many-keys",
    }
    elsewhere |= {"internal-error", "not-implemented-here", "unavailable", "outcome-unknown"}
    assert {slug for _, _, _, slug, _, _ in WRONG} | elsewhere == set(EXPLANATIONS)


CHANGES = {  # each route that changes something, and a value for each member of its body
    "/modify_product": ("/modify_product?id=1", {"name": "A", "price": "1.00", "stock": 1, "stock_delta": 1, "expected_stock": 10, "version": 1, "reason": "x"}),
    "/admin/users/<user_id>": ("/admin/users/1", {"role": "admin", "active": False}),
    "/admin/invoices/<invoice_id>": ("/admin/invoices/1", {"status": "paid", "reason": "x", "restock": True}),
}  # fmt: skip


def test_every_route_that_changes_something_has_a_case():
    bodies = {route.rule: route.config["body"] for route in create_router(None).routes if route.method == "PATCH"}
    assert {rule: set(SCHEMAS[body]["properties"]) for rule, body in bodies.items()} == {
        rule: set(members) for rule, (_, members) in CHANGES.items()
    }


@pytest.mark.parametrize("rule", CHANGES)
def test_the_refusal_of_no_change_names_the_members_that_are_one_and_no_others(ask, rule):
    path, members = CHANGES[rule]
    answer, _ = ask("admin", "PATCH", path, sent={})
    (fault,) = answer.json()["errors"]
    listed = re.fullmatch("must have at least one of: (.*)", fault["detail"])
    named = set(listed[1].split(", ")) if listed else {fault["pointer"].removeprefix("/")}
    assert (answer.status, named <= members.keys()) == (422, True)
    for name, value in members.items():
        answer, _ = ask("admin", "PATCH", path, sent={name: value})
        assert answer.status == (200 if name in named else 422), (name, answer.json())
