"""The OpenAPI document: it is the one that is committed, it is whole, and its examples are what the service does."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from petstore import seeding
from petstore.app import openapi_document
from petstore.pagination import LIMIT
from petstore.repository import audit, idempotency, invoices, products, sessions, users
from petstore.validation import SCHEMAS, validate
from tests.contract import DOCUMENT

COMMITTED = Path(__file__).parent.parent / "docs" / "openapi.json"
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def test_the_document_that_is_committed_is_that_of_the_service(anyone):
    served = anyone.get("/openapi.json").json()
    assert served == openapi_document()
    assert json.loads(COMMITTED.read_text("utf-8")) == served, "stale: scripts/openapi >docs/openapi.json"


@pytest.mark.slow
def test_the_document_is_valid_openapi():
    from openapi_spec_validator import OpenAPIV31SpecValidator

    OpenAPIV31SpecValidator(DOCUMENT).validate()


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_every_operation_says_all_that_a_client_needs(operation_id):
    method, path, operation = OPERATIONS[operation_id]
    assert operation["summary"]
    assert operation["description"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    assert operation["security"] in ([], [{"access_token": []}])
    named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
    assert named == set(re.findall("{(.*?)}", path))
    for parameter in operation["parameters"]:
        assert parameter["description"]
        assert parameter["schema"]
    if "requestBody" in operation:
        assert operation["requestBody"]["content"]["application/json"]["examples"]
    for status, response in operation["responses"].items():
        assert response["description"]
        assert "X-Request-ID" in response["headers"]
        if status >= "400":
            assert response["content"]["application/problem+json"]["examples"]
    assert {"413", "429", "500", "503"} <= set(operation["responses"])
    assert ("401" in operation["responses"]) == bool(operation["security"] or operation_id in ("login", "refresh"))
    assert ("304" in operation["responses"]) == (method == "get")


def test_every_operation_has_an_id_of_its_own():
    assert len(OPERATIONS) == sum(len(operations) for operations in DOCUMENT["paths"].values())


def test_what_has_the_same_title_is_the_same_type():
    found = {}

    def walk(part):
        if isinstance(part, dict):
            if isinstance(part.get("title"), str):
                kind = {key: value for key, value in part.items() if key != "description"}
                assert found.setdefault(part["title"], kind) == kind, part["title"]
            for child in part.values():
                walk(child)
        elif isinstance(part, list):
            for child in part:
                walk(child)

    walk([{name: value for name, value in schema.items() if name != "examples"} for schema in SCHEMAS.values()])
    assert {*found} - {"Parameters"} <= {*DOCUMENT["components"]["schemas"]}


def test_a_parameter_has_no_default_that_clients_would_send_beside_another():
    """Generated clients send defaults: GET /products?id=1 would be ?id=1&limit=50, which is refused."""
    for parameter in OPERATIONS["get_products"][2]["parameters"]:
        assert "default" not in parameter["schema"]
    assert f"; {LIMIT} if it is left out" in SCHEMAS["parameters"]["properties"]["limit"]["description"]


def test_every_member_of_a_problem_is_in_its_schema():
    types = DOCUMENT["components"]["schemas"]
    for example in DOCUMENT["components"]["examples"].values():
        assert example["value"].keys() <= types["Problem"]["properties"].keys()
        for fault in example["value"].get("errors", ()):
            assert fault.keys() <= types["Fault"]["properties"].keys()


ROWS = {
    "profile": users.User,
    "account": users.Account,
    "session": sessions.Session,
    "audit_entry": audit.Entry,
    "own_audit_entry": audit.OwnEntry,
    "idempotency_key": idempotency.Key,
    "product": products.Product,
    "movement": products.Movement,
    "invoice_summary": invoices.Invoice,
    "invoice_detail": invoices.InvoiceDetail,
    "invoice_event": invoices.Event,
    "credit_note": invoices.CreditNote,
    "credit_note_line": invoices.CreditNoteLine,
}


@pytest.mark.parametrize("name", ROWS)
def test_the_members_of_an_answer_are_the_fields_of_its_row(name):
    whole = {"invoice_detail": {"invoice_id"}, "invoice_event": {"invoice_id"}, "credit_note_line": {"credit_note_id"}}.get(
        name, set()
    )
    parts = {"credit_note": {"lines"}}.get(name, set())
    assert set(SCHEMAS[name]["properties"]) - parts == {field.name for field in fields(ROWS[name])} - whole
    assert set(SCHEMAS[name]["required"]) == set(SCHEMAS[name]["properties"])


@pytest.mark.parametrize("name", [name for name, schema in SCHEMAS.items() if "examples" in schema])
def test_every_example_is_valid(name):
    for example in SCHEMAS[name]["examples"]:
        if not re.search(r'"\$ref"', json.dumps(SCHEMAS[name])):  # those are held against the service below
            validate(name, example)


# ── the examples are what happens ────────────────────────────────────────────────────────────────────────────────────────

VARYING = {"created_at", "updated_at", "access_token", "refresh_token", "id"}


def alike(found, example):
    """The same but for times, tokens and ids, whose kind is the same."""
    if isinstance(example, dict):
        assert found.keys() == example.keys()
        for name, value in example.items():
            if name in VARYING:
                assert type(found[name]) is type(value), name
            else:
                alike(found[name], value)
    elif isinstance(example, list):
        assert len(found) == len(example)
        for one, other in zip(found, example, strict=True):
            alike(one, other)
    elif not (isinstance(example, str) and re.fullmatch(r"C?\d{4}-\d{6}", example)):
        assert found == example
    else:
        assert re.fullmatch(r"C?\d{4}-\d{6}", found)


def test_the_examples_are_what_the_service_takes_and_answers(make, clients):
    """One walk through the demo shop: each request is an example of the document, and so is each answer."""
    example = {name: schema["examples"] for name, schema in SCHEMAS.items() if "examples" in schema}
    boss = make.user("admin@petstore.example", role="admin")
    seeding.seed_demo(make.conn, 2)
    with clients() as anyone, clients(boss) as admin:
        alike(anyone.post("/register", example["account_new"][0]).json(), example["profile"][0])
        tokens = anyone.post("/login", example["credentials"][0]).json()
        alike(tokens, example["tokens"][0])
        alike(anyone.get("/products?id=1").json(), example["product"][0])
        anyone.token = tokens["access_token"]
        alike(anyone.get("/me").json(), example["profile"][0])
        bought = anyone.post("/purchase_product", example["purchase"][0])
        alike(bought.json(), example["invoice"][0])
        alike(anyone.get("/invoices").json()["items"], example["invoice_summary"])
        alike(admin.get("/admin/products/movements?id=1&limit=1").json()["items"], example["movement"])
        assert admin.patch("/admin/invoices/1", example["invoice_change"][0]).json()["status"] == "paid"
        alike(admin.post("/admin/invoices/1/credit_notes", example["credit_note_new"][0]).json(), example["credit_note"][0])
        assert admin.patch("/admin/invoices/1", example["invoice_change"][1]).status == 200
        assert anyone.post("/invoices/2/cancel", example["invoice_cancel"][0]).status == 404
        assert anyone.post("/purchase_product", example["purchase"][0]).status == 201
        assert anyone.post("/invoices/2/cancel", example["invoice_cancel"][0]).status == 200
        assert admin.patch("/modify_product?id=4", example["product_changes"][0]).status == 200
        alike(admin.get("/admin/audit?action=product.update&limit=1").json()["items"], example["audit_entry"])
        assert admin.patch("/modify_product?id=4", example["product_changes"][1]).status == 200
        assert admin.post("/create_product", example["product_new"][0]).status == 201
        alike(admin.get("/admin/users?email=ana@example.com").json()["items"], example["account"])
        assert anyone.post("/me/password", example["password_change"][0]).status == 204
        anyone.token = anyone.post("/login", {**example["credentials"][0], "password": "a better battery"}).json()["access_token"]
        assert anyone.post("/me/delete", example["account_deletion"][0]).status == 204
        assert admin.patch("/admin/users/1", example["user_change"][0]).status == 409  # the last admin
        alike(anyone.get("/livez").json(), example["live"][0])
        alike(anyone.get("/readyz").json(), example["ready"][0])
