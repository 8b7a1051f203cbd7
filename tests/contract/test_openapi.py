"""The OpenAPI document: it is the one that is committed, it is whole, and its examples are what the service does."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from petstore.app import openapi_document
from petstore.cli import seeding
from petstore.db.queries import load_reports
from petstore.errors import PROBLEMS
from petstore.repository import audit, credit_notes, idempotency, invoices, products, sessions, users
from petstore.web.openapi_schemas import problem_title
from petstore.web.pagination import LIMIT
from petstore.web.validation import SCHEMAS, validate
from tests.openapi_contract import DOCUMENT

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def test_the_document_that_is_committed_is_that_of_the_service(anyone):
    served = anyone.get("/openapi.json").json()
    assert served == openapi_document()
    assert json.loads(COMMITTED.read_text("utf-8")) == served, "out of date: run scripts/generate_docs"


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


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_a_description_says_more_than_the_summary(operation_id):
    operation = OPERATIONS[operation_id][2]
    own = operation["description"].partition("\n\nNeeds ")[0]
    assert len(own) > 20
    assert not own.startswith("Needs ")
    assert _plain(operation["summary"]) not in _plain(own)


def test_every_success_says_what_it_is():
    """Two that say the same answer the same."""
    said: dict[str, str] = {}
    for operation_id, (_, _, operation) in OPERATIONS.items():
        for status, response in operation["responses"].items():
            if status < "300":
                schemas = [content["schema"] for content in response.get("content", {}).values()]
                what = json.dumps(schemas) if schemas else operation_id
                assert said.setdefault(response["description"], what) == what, response["description"]
                assert response["description"] not in ("Done.", "The answer.")


@pytest.mark.parametrize("name", [name for name, schema in SCHEMAS.items() if "examples" in schema])
def test_every_example_has_a_name_that_says_what_it_shows(name):
    names = SCHEMAS[name].get("example_names")
    assert names, "the schema needs `example_names` beside `examples`"
    assert len({*names}) == len(SCHEMAS[name]["examples"]) == len(names)
    assert not any(re.search("example|[0-9]$", shown) for shown in names)


def test_every_parameter_member_and_header_has_a_description():
    types = DOCUMENT["components"]["schemas"]
    for title, schema in types.items():
        assert "description" in schema or "enum" in schema, title  # of an enumeration, that of the member that uses it counts
        for member, part in _members(schema):
            target = types.get(part.get("$ref", "").rpartition("/")[2], {})
            assert part.get("description") or target.get("description"), f"{title} {member}"
    named = [*DOCUMENT["components"]["headers"].items()]
    named += [(one["name"], one) for _, _, operation in OPERATIONS.values() for one in operation["parameters"]]
    for name, part in named:
        assert len(part["description"]) > 5, name


def test_a_read_that_answers_one_thing_or_a_page_describes_both():
    for operation_id, (_, _, operation) in OPERATIONS.items():
        answer = operation["responses"].get("200", {})
        content = answer.get("content", {}).get("application/json", {})
        titles = [one["$ref"].rpartition("/")[2] for one in content.get("schema", {}).get("oneOf", ())]
        assert len(titles) == len(content["examples"]) if titles else True
        for title in titles:
            assert f"`{title}`" in operation["description"], f"{operation_id} does not say what gives a {title}"
            assert f"`{title}`: " in answer["description"]
    assert "oneOf" in OPERATIONS["get_products"][2]["responses"]["200"]["content"]["application/json"]["schema"]


def test_the_document_says_whose_it_is():
    license_text = COMMITTED.parents[1].joinpath("LICENSE").read_text("utf-8")
    info = DOCUMENT["info"]
    assert license_text.startswith(f"{info['license']['name']} License\n")
    assert info["contact"]["name"] in license_text


def _plain(text):
    return re.sub("[^a-z]+", " ", text.lower()).strip()


def _members(part):
    """(name, schema) of every member that the parts of a schema have."""
    if isinstance(part, dict):
        named = part.get("properties")
        yield from named.items() if isinstance(named, dict) else ()
        for key, child in part.items():
            yield from _members(child) if key not in ("examples", "example") else ()
    elif isinstance(part, list):
        for child in part:
            yield from _members(child)


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
    for slug, example in DOCUMENT["components"]["examples"].items():
        kind = types[problem_title(slug)]
        assert (
            {*kind["required"]} <= example["value"].keys() <= kind["properties"].keys() <= types["Problem"]["properties"].keys()
        )
        for fault in example["value"].get("errors", ()):
            assert fault.keys() <= types["Fault"]["properties"].keys()
    assert types["Problem"]["properties"]["type"]["enum"] == [f"/problems/{slug}" for slug in PROBLEMS]


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_the_type_of_an_error_is_one_of_the_constants_that_its_answer_has(operation_id):
    types = DOCUMENT["components"]["schemas"]
    for status, response in OPERATIONS[operation_id][2]["responses"].items():
        if status >= "400":
            content = response["content"]["application/problem+json"]
            schema = content["schema"]
            kinds = [types[one["$ref"].rpartition("/")[2]] for one in schema.get("oneOf", [schema])]
            assert [kind["properties"]["type"]["const"] for kind in kinds] == [
                f"/problems/{slug}" for slug in content["examples"]
            ]
            mapping = schema.get("discriminator", {}).get("mapping", {})
            assert all(types[ref.rpartition("/")[2]]["properties"]["type"]["const"] == name for name, ref in mapping.items())
            assert len(mapping) == len(schema.get("oneOf", ()))


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
    "invoice_summary_for_admins": invoices.InvoiceWithEmail,
    "invoice_detail": invoices.InvoiceDetail,
    "invoice_event": invoices.Event,
    "credit_note": credit_notes.CreditNote,
    "credit_note_line": credit_notes.CreditNoteLine,
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

VARYING = {
    "created_at",
    "updated_at",
    "expires_at",
    "access_token",
    "refresh_token",
    "id",
    "subject_id",
    "day",
    "n",
    "kid",
    "value",
}


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


def examples(operation_id):
    """Those of the requests, and that of the answer, of an operation; of a page, its items."""
    operation = OPERATIONS[operation_id][2]
    (answer,) = (found for status, found in operation["responses"].items() if status in ("200", "201", "204"))
    taken, given = values(operation.get("requestBody", {})), values(answer)
    pages = [name for name in given if name.startswith("a page of ")]
    one = [value for name, value in given.items() if name not in pages]
    return [*taken.values()], given[pages[0]]["items"] if pages else None, one[0] if one else None


def values(part):
    """The examples of a request body or an answer, by name."""
    found = part.get("content", {}).get("application/json", {}).get("examples", {})
    return {name: example["value"] for name, example in found.items()}


def test_the_examples_are_what_the_service_takes_and_answers(make, clients):
    """One walk through the demo shop: each request is an example of the document, and so is each answer."""
    boss = make.user("admin@petstore.example", role="admin")
    seeding.seed_demo(make.conn, 2)
    seen = set()
    with clients() as ana, clients(boss) as admin:

        def ask(client, operation_id, number=0, status=200, query="", headers=None, **path):
            taken, items, one = examples(operation_id)
            method, target, _ = OPERATIONS[operation_id]
            body = {"body": taken[number]} if taken else {}
            answer = client.request(method.upper(), target.format(**path) + query, headers=headers, **body)
            assert answer.status == status, operation_id
            if status < 300 and status != 204 and number == 0:
                found = answer.json()
                expected = items if "items" in found and items is not None else one
                alike(found["items"] if expected is items else found, expected)
                seen.add(operation_id)
            return answer

        ask(ana, "register", status=201)
        ana.token = ask(ana, "login").json()["access_token"]
        ask(ana, "get_products", query="?id=1")
        ask(ana, "get_products", query="?limit=1")
        ask(ana, "get_profile")
        ask(ana, "purchase_product", status=201, headers={"Idempotency-Key": "my first purchase"})
        ask(ana, "list_invoices")
        ask(ana, "get_invoice", invoice_id=1)
        ask(ana, "export_account")
        ask(admin, "list_all_invoices")
        ask(admin, "list_movements", query="?id=1&limit=1")
        ask(admin, "change_invoice", invoice_id=1)
        ask(admin, "create_credit_note", invoice_id=1, status=201)
        ask(ana, "purchase_product", 1, status=201)
        ask(ana, "cancel_invoice", invoice_id=2)
        ask(ana, "purchase_product", status=201)
        product_id = ask(admin, "create_product", status=201).json()["id"]
        ask(admin, "modify_product", query=f"?id={product_id}")
        ask(admin, "list_audit_entries", query="?action=product.update&limit=1")
        for report in load_reports().values():
            ask(admin, f"report_{report.path.stem}", query="?limit=1" if "limit" in report.parameters else "")
        ask(admin, "modify_product", 1, query=f"?id={product_id}")
        ask(admin, "change_invoice", 1, invoice_id=1)
        ask(admin, "list_accounts", query="?email=ana@example.com")
        ask(admin, "get_account", user_id=2)
        ask(ana, "livez")
        ask(ana, "readyz")
        ask(ana, "jwks")
        ask(ana, "change_password", status=204)
        again = {**examples("login")[0][0], "password": examples("change_password")[0][0]["new_password"]}
        ana.token = ana.post("/login", again).json()["access_token"]
        ask(admin, "change_account", user_id=2)
        admin.patch("/admin/users/2", {"active": True})
        ana.token = ana.post("/login", again).json()["access_token"]
        ask(ana, "delete_account", status=204)
    shown = {name for name in OPERATIONS if examples(name)[1] or examples(name)[2]}
    assert shown - seen == {"refresh"}  # which answers as login does
