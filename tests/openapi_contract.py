"""Holds every answer against the OpenAPI document: its status, its problem type, its headers, its body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from petstore.app import openapi_document
from petstore.web.openapi_schemas import problem_title

DOCUMENT: dict[str, Any] = openapi_document()
SEEN: set[tuple[str, str]] = set()  # (operationId, slug) of every problem that was answered
# Headers that HTTP or browsers have and the document does not tell: RFC 9110 and 9111, Fetch, petstore/web/headers.py.
OTHERS = {
    *("Allow", "Cache-Control", "Connection", "Content-Length", "Content-Type", "Date", "Strict-Transport-Security"),
    *("Content-Security-Policy", "Cross-Origin-Resource-Policy", "Referrer-Policy", "X-Content-Type-Options"),
    *("Access-Control-Allow-Origin", "Access-Control-Expose-Headers"),
}

_PATHS = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), operations) for path, operations in DOCUMENT["paths"].items()]
_REGISTRY: Registry[Any] = Registry().with_resource("urn:petstore", DRAFT202012.create_resource(DOCUMENT))
_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _is_utc(value: object) -> bool:
    return not isinstance(value, str) or (value.endswith("Z") and bool(datetime.fromisoformat(value[:-1])))


def check(method: str, target: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Fail unless the document says that a request may be answered so. What it does not know is a 404, 405 or no HTTP at all."""
    path = target.partition("?")[0]
    operations = next((found for pattern, found in _PATHS if pattern.fullmatch(path)), {})
    operation = operations.get("get" if method == "HEAD" else method.lower())
    if operation is None:
        assert status >= 400 or method == "OPTIONS", f"{method} {path} is not in the document, and is answered {status}"
        return
    assert str(status) in operation["responses"], f"{method} {path} answers {status}, which is not in the document"
    response = operation["responses"][str(status)]
    _check_headers(f"{method} {path} {status}", response["headers"], headers)
    assert body or method == "HEAD" or "content" not in response, f"{method} {path} {status} has no body"
    if body:
        _check_body(operation["operationId"], status, response.get("content", {}), headers["Content-Type"], body)


def _check_headers(what: str, documented: Mapping[str, Any], sent: Mapping[str, str]) -> None:
    for name, header in DOCUMENT["components"]["headers"].items():
        if sent[name] is None:
            assert not (name in documented and header.get("required")), f"{what}: there is no {name}"
        else:
            assert name in documented, f"{what}: {name} is not in the document"
            value = int(sent[name]) if header["schema"]["type"] == "integer" else sent[name]
            Draft202012Validator(header["schema"]).validate(value)
    unknown = {name.title() for name in sent} - {name.title() for name in (*DOCUMENT["components"]["headers"], *OTHERS)}
    assert not unknown, f"{what}: {unknown} are in no document"


def _check_body(operation_id: str, status: int, content: Mapping[str, Any], content_type: str, body: bytes) -> None:
    media_type = content_type.partition(";")[0]
    assert media_type in content, f"{operation_id} answers {media_type}, which is not in the document"
    if not media_type.endswith("json"):
        return
    value = json.loads(body)
    _validator(operation_id, status, media_type)(value)
    if status >= 400:
        slug = value["type"].removeprefix("/problems/")
        assert slug in content[media_type]["examples"], f"{operation_id} answers {slug}, which is not in the document"
        members = DOCUMENT["components"]["schemas"][problem_title(slug)]["properties"]
        assert value.keys() <= members.keys(), (
            f"{operation_id} answers {slug} with {value.keys() - members.keys()}, which the document gives to other errors"
        )
        SEEN.add((operation_id, slug))


@cache
def _validator(operation_id: str, status: int, media_type: str) -> Callable[[Any], None]:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            if operation["operationId"] == operation_id:
                steps = ("paths", path, method, "responses", str(status), "content", media_type, "schema")
                pointer = "/".join(step.replace("~", "~0").replace("/", "~1") for step in steps)
                return Draft202012Validator(
                    {"$ref": f"urn:petstore#/{pointer}"}, registry=_REGISTRY, format_checker=_FORMATS
                ).validate
    raise LookupError(operation_id)
