"""The JSON Schemas: as files they mean what the service makes of them, and their bounds are those of the database and of the code."""

import json
import re

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from petstore import emails
from petstore.db.queries import sql_folder
from petstore.domain.stock import MAX_STOCK
from petstore.routes.products import MAX_NAME
from petstore.server.limits import MAX_HEADERS
from petstore.web.openapi import EXPLANATIONS
from petstore.web.parameters import MAX_ID, MAX_KEY
from petstore.web.validation import MAX_BODY, MAX_PRICE, SCHEMAS

FILES = {path.name: json.loads(path.read_text("utf-8")) for path in (sql_folder().parent / "petstore/schemas").glob("*.json")}
REGISTRY = Registry().with_resources((name, Resource.from_contents(file)) for name, file in FILES.items())
CLOSED = [name for name in SCHEMAS if "unevaluatedProperties" in FILES[f"{name}.json"]]


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_is_a_json_schema_as_it_stands(name):
    Draft202012Validator.check_schema(FILES[name])
    assert "#/" not in json.dumps(SCHEMAS[name.removesuffix(".json")]), "what it takes of other files is put in"


@pytest.mark.parametrize("name", CLOSED)
def test_what_a_file_takes_of_others_means_the_same_when_it_is_put_in(name):
    as_written = Draft202012Validator({"$ref": f"{name}.json"}, registry=REGISTRY)
    as_used = Draft202012Validator({**SCHEMAS[name], "$id": "used.json"}, registry=REGISTRY)
    for example in SCHEMAS[name]["examples"]:
        assert as_used.is_valid(example)
        fewer = [{key: value for key, value in example.items() if key != left_out} for left_out in example]
        for value in (example, *fewer, example | {"stock": -1}, example | {"total": 1}, example | {"unknown": 1}):
            assert as_written.is_valid(value) == as_used.is_valid(value), value
        assert not as_used.is_valid(example | {"unknown": 1})


def bounds_of(name, *path):
    """The largest value or length that a member may have."""
    part = SCHEMAS[name]
    for member in path:
        part = part["items"] if member == "[]" else part["properties"][member]
    return part.get("maximum", part.get("maxLength"))


BOUNDS = {
    "products_name_length": (MAX_NAME, bounds_of("product", "name")),
    "invoice_details_name_length": (MAX_NAME,),
    "products_price_range": (
        MAX_PRICE,
        bounds_of("product_new", "price"),
        bounds_of("product_changes", "price"),
        bounds_of("purchase", "products", "[]", "expected_price"),
    ),
    "invoice_details_unit_price_range": (MAX_PRICE,),
    "products_stock_range": (
        MAX_STOCK,
        *(bounds_of(name, "stock") for name in ("product", "product_new", "product_changes", "movement")),
        bounds_of("product_changes", "expected_stock"),
        bounds_of("product_changes", "stock_delta"),
        -SCHEMAS["product_changes"]["properties"]["stock_delta"]["minimum"],
    ),
    "invoice_details_quantity_range": (
        SCHEMAS["purchase"]["properties"]["products"]["maxItems"] * bounds_of("purchase", "products", "[]", "quantity"),
        bounds_of("credit_note_new", "lines", "[]", "quantity"),
    ),
    "invoice_events_reason_length": (bounds_of("invoice_change", "reason"), bounds_of("invoice_cancel", "reason")),
    "credit_notes_reason_length": (bounds_of("credit_note_new", "reason"),),
    "stock_movements_reason_length": (bounds_of("product_changes", "reason"),),
    "users_email_form": (emails.MAX_LENGTH,),
    "idempotency_keys_key_form": (MAX_KEY,),
}


@pytest.mark.parametrize("constraint", BOUNDS)
def test_a_bound_is_the_same_in_the_database_in_the_code_and_in_every_schema(conn, constraint):
    query = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s"
    (definition,) = conn.execute(query, (constraint,)).fetchone()
    assert set(BOUNDS[constraint]) == {max(map(int, re.findall("[0-9]+", definition)))}, definition


def test_every_id_has_the_bounds_of_a_bigint():
    def ids(part):
        if isinstance(part, dict):
            yield from [part] if part.get("format") == "int64" else []
            for child in part.values():
                yield from ids(child)

    found = list(ids(dict(SCHEMAS)))
    assert len(found) > 10
    assert {(one["minimum"], one["maximum"]) for one in found} == {(1, MAX_ID)}


def test_explanations_of_errors_name_the_bounds_that_there_are():
    for slug, bound in (("too-large", f"{MAX_BODY:,} bytes"), ("stock-limit", f"{MAX_STOCK:,} pieces")):
        assert bound in EXPLANATIONS[slug]["means"]
    assert f"{MAX_HEADERS // 1024} KiB" in EXPLANATIONS["headers-too-large"]["means"]
