"""Role × route, made from the route table."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import pytest

from petstore.app import create_router
from petstore.db.queries import load_reports
from petstore.web.pages import asset
from petstore.web.validation import SCHEMAS
from tests.factories import PASSWORD
from tests.tables import TABLES

NEW_PASSWORD = "a staple of another make"
ROUTES = [(route.method, route.rule, dict(route.config)) for route in create_router(None).routes]
STATUS_WITHOUT_TOKEN = {"anyone": None, "user": 401, "admin": 401}
STATUS_OF_A_USER = {"anyone": None, "user": None, "admin": 403}


def call(client, method, rule):
    """A request whose input is wrong wherever it can be: who may not pass must not learn of it."""
    return client.request(method, re.sub(r"<\w+>", "x", rule) + "?nonsense=1", raw=b"{" if method != "GET" else None)


@pytest.mark.parametrize(("method", "rule", "facts"), ROUTES)
@pytest.mark.parametrize("who", ["anyone", "user", "admin"])
def test_only_the_roles_of_a_route_pass_and_nobody_else_learns_of_the_input(make, clients, method, rule, facts, who):
    client = clients(None if who == "anyone" else make.user(role=who))
    refusal = {"anyone": STATUS_WITHOUT_TOKEN, "user": STATUS_OF_A_USER, "admin": {}}[who].get(facts["auth"])
    answer = call(client, method, rule)
    assert answer.status == (refusal or 400)
    if refusal == 401:
        assert answer["WWW-Authenticate"] == 'Bearer realm="petstore"'


@pytest.mark.parametrize(("method", "rule", "facts"), [route for route in ROUTES if route[2]["auth"] != "anyone"])
def test_a_bad_token_is_refused_on_every_route_that_asks_for_one(make, clients, method, rule, facts):
    client = clients()
    client.token = "not.a.token"
    answer = call(client, method, rule)
    assert (answer.status, answer["WWW-Authenticate"]) == (401, 'Bearer realm="petstore", error="invalid_token"')


def test_a_bad_token_does_not_close_what_is_open_to_anyone(make, clients):
    client = clients()
    client.token = "not.a.token"
    assert client.get("/products").status == 200


def test_the_table_has_every_request_of_the_contract():
    assert {(method, rule, facts["auth"]) for method, rule, facts in ROUTES} == {
        ("POST", "/register", "anyone"),
        ("POST", "/login", "anyone"),
        ("POST", "/refresh", "anyone"),
        ("POST", "/logout", "anyone"),
        ("GET", "/me", "user"),
        ("POST", "/me/password", "user"),
        ("GET", "/me/export", "user"),
        ("POST", "/me/delete", "user"),
        ("GET", "/admin/users", "admin"),
        ("GET", "/admin/users/<user_id>", "admin"),
        ("PATCH", "/admin/users/<user_id>", "admin"),
        ("GET", "/admin/audit", "admin"),
        ("GET", "/products", "anyone"),
        ("POST", "/create_product", "admin"),
        ("PATCH", "/modify_product", "admin"),
        ("DELETE", "/delete_product", "admin"),
        ("POST", "/purchase_product", "user"),
        ("GET", "/invoices", "user"),
        ("GET", "/invoices/<invoice_id>", "user"),
        ("POST", "/invoices/<invoice_id>/cancel", "user"),
        ("GET", "/admin/invoices", "admin"),
        ("PATCH", "/admin/invoices/<invoice_id>", "admin"),
        ("POST", "/admin/invoices/<invoice_id>/credit_notes", "admin"),
        ("GET", "/admin/products/movements", "admin"),
        *(("GET", f"/admin/{name}", "admin") for name in load_reports()),
        ("GET", "/.well-known/jwks.json", "anyone"),
        ("GET", "/livez", "anyone"),
        ("GET", "/readyz", "anyone"),
        ("GET", "/", "anyone"),
        ("GET", "/docs", "anyone"),
        ("GET", "/openapi.json", "anyone"),
        ("GET", "/problems", "anyone"),
        ("GET", "/problems/<slug>", "anyone"),
        ("GET", "/assets/<file>", "anyone"),
    }


@pytest.mark.parametrize(("method", "rule", "facts"), [route for route in ROUTES if "instead_of" in route[2]])
def test_a_405_names_the_route_that_does_it_where_clients_look_for_it(make, clients, method, rule, facts):
    *methods, there = facts["instead_of"].split()
    for wanted in methods:
        answer = clients().request(wanted, re.sub("<.*?>", "7", there))
        assert answer.status == 405
        assert f" for {wanted} there is {method} {re.sub('<.*?>', 'X', rule)}" in answer.json()["detail"]
        assert wanted not in answer["Allow"]
    answer = clients().request("TRACE", re.sub("<.*?>", "7", there))
    assert answer.json()["detail"] == f"This path takes: {answer['Allow']}."


# ── whose it is ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Valid:
    """A request that is right in every way, and what it gives to whom.

    path and body may name what there is in the Scene. stranger: to another customer than its owner; owner: to the customer whose
    things it names; admin: to an admin. Where everybody acts on what is their own, or on what is everybody's, all are the same.
    """

    path: str
    body: Any = None
    stranger: int = 200
    owner: int = 200
    admin: int = 200


def everybody(path, status, body=None):
    return Valid(path, body, status, status, status)


def admins(path, status, body=None):
    return Valid(path, body, 403, 403, status)


LINES = [{"product_id": "{product}", "quantity": 1}]
# Every route has a line here. A new one that names what belongs to somebody needs thought: whose is it, and who may see it?
VALID = {
    ("POST", "/register"): everybody("/register", 201, {"email": "new@example.com", "password": NEW_PASSWORD}),
    ("POST", "/login"): everybody("/login", 200, {"email": "ana@example.com", "password": PASSWORD}),
    ("POST", "/refresh"): everybody("/refresh", 200, {"refresh_token": "{refresh_token}"}),
    ("POST", "/logout"): everybody("/logout", 204, {"refresh_token": "{refresh_token}"}),
    ("GET", "/me"): everybody("/me", 200),
    ("POST", "/me/password"): everybody("/me/password", 204, {"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
    ("GET", "/me/export"): everybody("/me/export", 200),
    ("POST", "/me/delete"): everybody("/me/delete", 204, {"current_password": PASSWORD}),
    ("GET", "/admin/users"): admins("/admin/users", 200),
    ("GET", "/admin/users/<user_id>"): admins("/admin/users/{owner}", 200),
    ("PATCH", "/admin/users/<user_id>"): admins("/admin/users/{owner}", 200, {"active": False}),
    ("GET", "/admin/audit"): admins("/admin/audit", 200),
    ("GET", "/products"): everybody("/products?id={product}", 200),
    ("POST", "/create_product"): admins("/create_product", 201, {"name": "Bowl", "price": "1.50", "stock": 5}),
    ("PATCH", "/modify_product"): admins("/modify_product?id={product}", 200, {"stock_delta": 1}),
    ("DELETE", "/delete_product"): admins("/delete_product?id={product}", 204),
    ("GET", "/admin/products/movements"): admins("/admin/products/movements?id={product}", 200),
    **{("GET", f"/admin/{name}"): admins(f"/admin/{name}", 200) for name in load_reports()},
    ("POST", "/purchase_product"): everybody("/purchase_product", 201, {"products": LINES}),
    ("GET", "/invoices"): everybody("/invoices", 200),
    ("GET", "/invoices/<invoice_id>"): Valid("/invoices/{pending}", None, 404, 200, 200),
    ("POST", "/invoices/<invoice_id>/cancel"): Valid("/invoices/{pending}/cancel", {"reason": "too late"}, 404, 200, 404),
    ("GET", "/admin/invoices"): admins("/admin/invoices", 200),
    ("PATCH", "/admin/invoices/<invoice_id>"): admins("/admin/invoices/{pending}", 200, {"status": "paid"}),
    ("POST", "/admin/invoices/<invoice_id>/credit_notes"): admins("/admin/invoices/{paid}/credit_notes", 201, {"lines": LINES}),
    ("GET", "/.well-known/jwks.json"): everybody("/.well-known/jwks.json", 200),
    ("GET", "/livez"): everybody("/livez", 200),
    ("GET", "/readyz"): everybody("/readyz", 200),
    ("GET", "/"): everybody("/", 200),
    ("GET", "/docs"): everybody("/docs", 200),
    ("GET", "/openapi.json"): everybody("/openapi.json", 200),
    ("GET", "/problems"): everybody("/problems", 200),
    ("GET", "/problems/<slug>"): everybody("/problems/not-enough-stock", 200),
    ("GET", "/assets/<file>"): everybody(asset("docs.js"), 200),
}
WITH_BODY = [(method, rule, facts["body"]) for method, rule, facts in ROUTES if facts.get("body")]
# What other members of the answers there are; each with a value that would be valid where it belongs.
MORE_MEMBERS = {
    "role": "admin",
    "id": 1,
    "price": "0.01",
    "user_id": 1,
    "active": True,
    "email": "mine@example.com",
    "token_version": 1,
    "number": "2026-000001",
    "total": "0.01",
}


class Scene:
    """A shop in which every route can be asked for something: of its owner, a stranger, an admin or somebody without a token."""

    def __init__(self, make, clients):
        self.make = make
        people = {"owner": make.user("ana@example.com"), "stranger": make.user(), "admin": make.user(role="admin")}
        self.clients = {who: clients(person) for who, person in people.items()} | {"nobody": clients()}
        make.user(role="admin")  # so that no admin is the last
        product = make.product("Tree", "3.00", stock=10)
        self.names = {
            "owner": people["owner"].id,
            "product": product,
            "pending": make.invoice(people["owner"].id, {product: 2}),
            "paid": make.invoice(people["owner"].id, {product: 2}, status="paid"),
            "refresh_token": "of-the-owner",
        }
        make.conn.execute(
            "INSERT INTO refresh_tokens (token_hash, session_id) VALUES (sha256('of-the-owner'), %s)",
            (people["owner"].session_id,),
        )

    def fill(self, value):
        """The same with names filled in; an id stays a number."""
        if isinstance(value, dict):
            return {name: self.fill(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, str):
            return self.names[value[1:-1]] if value[:1] == "{" else value.format_map(self.names)
        return value

    def send(self, who, method, valid, body):
        """One request; who is nobody sends no token."""
        raw = None if body is None else json.dumps(body).encode()
        return self.clients[who].request(method, self.fill(valid.path), raw=raw)

    def rows(self):
        """All there is."""
        return {table: self.make.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in TABLES}


@pytest.fixture
def scene(make, clients):
    return Scene(make, clients)


def test_every_route_says_what_it_gives_to_whom():
    assert set(VALID) == {(method, rule) for method, rule, _ in ROUTES}


@pytest.mark.parametrize("who", ["nobody", "stranger", "owner", "admin"])
@pytest.mark.parametrize(("method", "rule", "facts"), ROUTES)
def test_each_route_gives_to_each_what_is_theirs(scene, method, rule, facts, who):
    valid = VALID[method, rule]
    # Without a token the open routes do what they do for anyone, the others nothing.
    expected = getattr(valid, "owner" if who == "nobody" else who)
    if who == "nobody" and facts["auth"] != "anyone":
        expected = 401
    before = scene.rows()
    answer = scene.send(who, method, valid, scene.fill(valid.body))
    assert answer.status == expected
    if expected >= 400:
        assert scene.rows() == before
        assert b"Tree" not in answer.body
    elif method != "GET":
        assert scene.rows() != before


@pytest.mark.parametrize(("method", "rule"), [route for route, valid in VALID.items() if valid.stranger == 404])
def test_what_is_somebody_elses_is_the_same_as_what_is_not_there(scene, method, rule):
    valid = VALID[method, rule]
    hidden = scene.send("stranger", method, valid, valid.body)
    missing = scene.send("stranger", method, replace(valid, path=valid.path.replace("{pending}", "999")), valid.body)
    assert hidden.status == missing.status == 404
    assert hidden.json() | {"request_id": ""} == missing.json() | {"request_id": ""}


def test_lists_and_exports_hold_nothing_of_anybody_else(scene):
    own = {scene.names["pending"], scene.names["paid"]}
    for who, expected in (("stranger", set()), ("admin", set()), ("owner", own)):
        client = scene.clients[who]
        assert {item["id"] for item in client.get("/invoices").json()["items"]} == expected
        assert {item["id"] for item in client.get("/me/export").json()["invoices"]} == expected


# ── members that are not theirs to give ──────────────────────────────────────────────────────────────────────────────────


def places(schema, value, pointer=""):
    """Each object of a valid body: where it is, the object, and the members that it may have."""
    yield pointer, value, schema["properties"]
    for name, member in value.items():
        if isinstance(member, list):
            yield from places(schema["properties"][name]["items"], member[0], f"{pointer}/{name}/0")


@pytest.mark.parametrize(("method", "rule", "body"), WITH_BODY)
def test_no_member_is_taken_that_is_not_the_requests_own(scene, method, rule, body):
    valid = VALID[method, rule]
    who = "admin" if valid.owner == 403 else "owner"
    before, sent = scene.rows(), scene.fill(valid.body)
    for pointer, place, known in places(SCHEMAS[body], sent):
        for name in MORE_MEMBERS.keys() - known.keys():
            place[name] = MORE_MEMBERS[name]
            answer = scene.send(who, method, valid, sent)
            assert (answer.status, answer.pointers()) == (422, [f"{pointer}/{name}"])
            del place[name]
    assert scene.rows() == before
    # It was for these members alone.
    assert scene.send(who, method, valid, sent).status == getattr(valid, who)
