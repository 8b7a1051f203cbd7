"""Role × route, made from the route table."""

import pytest

from petstore.app import create_router

ROUTES = [(route.method, route.rule, dict(route.config)) for route in create_router(None).routes]
STATUS_WITHOUT_TOKEN = {"anyone": None, "user": 401, "admin": 401}
STATUS_OF_A_USER = {"anyone": None, "user": None, "admin": 403}


def call(client, method, rule):
    """A request whose input is wrong wherever it can be: who may not pass must not learn of it."""
    return client.request(method, rule.replace("<invoice_id>", "x") + "?nonsense=1", raw=b"{" if method != "GET" else None)


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
        ("GET", "/me", "user"),
        ("GET", "/products", "anyone"),
        ("POST", "/create_product", "admin"),
        ("PATCH", "/modify_product", "admin"),
        ("DELETE", "/delete_product", "admin"),
        ("POST", "/purchase_product", "user"),
        ("GET", "/invoices", "user"),
        ("GET", "/invoices/<invoice_id>", "user"),
        ("POST", "/invoices/<invoice_id>/cancel", "user"),
        ("PATCH", "/admin/invoices/<invoice_id>", "admin"),
        ("POST", "/admin/invoices/<invoice_id>/credit_notes", "admin"),
        ("GET", "/admin/products/movements", "admin"),
        ("GET", "/livez", "anyone"),
        ("GET", "/readyz", "anyone"),
    }
