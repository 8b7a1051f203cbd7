"""The OpenAPI 3.1 document, generated from the route table, the JSON Schemas that validate, and the errors."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from petstore import __version__
from petstore.errors import PROBLEMS
from petstore.web.openapi_responses import HEADERS, Route, named_examples, problems_of, refusal, successes, text
from petstore.web.openapi_schemas import components, reference, to_component
from petstore.web.parameters import KEY_PATTERN, PARAMETERS, schemas_of
from petstore.web.validation import MAX_BODY

EXPLANATIONS: Mapping[str, Mapping[str, Any]] = json.loads(
    resources.files("petstore.web").joinpath("problems.json").read_text("utf-8")
)  # by slug: what an error means, what to do, members of an example, and those that are not always there
_INTRODUCTION = f"""The backend of a pet shop: accounts, catalogue, purchases, invoices and stock.

- Bodies are JSON in UTF-8. Money is exact: a string such as "12.50" beside its currency. Times are RFC 3339 in UTC.
- Register, log in, and send the `access_token` as `Authorization: Bearer <access_token>`.
- Every error is an `application/problem+json` (RFC 9457) with a `type` of its own, which is a page that explains it.
- `Idempotency-Key` makes a write safe to be sent again: it is done once, and the first answer is given again.
- Unknown, empty and repeated query parameters are refused, as are unknown members. A body has {MAX_BODY // 1024} KiB at most.
- `HEAD` works wherever `GET` does. Every answer has an `X-Request-ID`."""
_ACCESS = {"anyone": "", "user": "\n\nNeeds an access token.", "admin": "\n\nNeeds the access token of an admin."}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = {}
    for route in routes:
        module = sys.modules[route.callback.__module__]
        tags[_tag(route)] = (module.__doc__ or "").splitlines()[0]
        path = paths.setdefault(re.sub("<(.*?)>", r"{\1}", route.rule), {})
        path[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Petstore",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": _LICENSE,
            "contact": _CONTACT,
        },
        "servers": [{"url": "/", "description": "where this document comes from"}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "paths": paths,
        "components": _components(routes),
    }


def _components(routes: Sequence[Route]) -> dict[str, Any]:
    refused = {slug for route in routes for found in problems_of(route).values() for slug in found}
    slugs = [slug for slug in PROBLEMS if slug in refused]
    pages = {route.config["pages"] for route in routes if "pages" in route.config}
    return {
        "schemas": components(pages, {slug: _members(slug) for slug in slugs}),
        "examples": {slug: {"summary": PROBLEMS[slug].title(), "value": problem_example(slug)} for slug in slugs},
        "headers": HEADERS,
        "securitySchemes": {"access_token": _SECURITY},
    }


def problem_example(slug: str) -> dict[str, Any]:
    """An error of this kind as a client gets it."""
    kind, members = PROBLEMS[slug], dict(EXPLANATIONS[slug]["example"])
    detail = members.pop("detail", f"{kind.title()}.")
    head = {"type": f"/problems/{slug}", "title": kind.title(), "status": kind.status, "detail": detail}
    return {**head, "request_id": "0fa2c1be", **members}


def _members(slug: str) -> dict[str, bool]:
    """The members that only some errors have, and whether this kind always has them; those of its example, if nothing is said."""
    always = {name: True for name in EXPLANATIONS[slug]["example"] if name != "detail"}
    return {**always, **dict.fromkeys(EXPLANATIONS[slug].get("sometimes", ()), False)}


def _tag(route: Route) -> str:
    return str(route.callback.__module__).rpartition(".")[2].replace("_", " ")


def _operation(route: Route) -> dict[str, Any]:
    facts = route.config
    summary, _, more = inspect.cleandoc(route.callback.__doc__).partition("\n")
    operation: dict[str, Any] = {
        "operationId": route.callback.__name__,
        "tags": [_tag(route)],
        "summary": summary.rstrip(".").replace("`", ""),  # summaries are plain text, not Markdown
        "description": more.strip() + _ACCESS[facts["auth"]],
        "security": [] if facts["auth"] == "anyone" else [{"access_token": []}],
        "parameters": list(_parameters(route)),
    }
    if "body" in facts:
        content = {"application/json": {"schema": to_component(facts["body"]), "examples": named_examples(facts["body"])}}
        operation["requestBody"] = {"required": not facts.get("body_optional", False), "content": content}
    refusals = {str(status): refusal(route, slugs) for status, slugs in problems_of(route).items()}
    return {**operation, "responses": {**successes(route), **refusals}}


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    facts = route.config
    in_path = {name: PARAMETERS[name] for name in re.findall("<(.*?)>", route.rule)}
    for name, whole in {**in_path, **schemas_of(facts.get("query", ()))}.items():
        schema = {key: value for key, value in whole.items() if key != "description"}
        place, required = ("path", True) if name in in_path else ("query", name in facts.get("required", ()))
        yield {"name": name, "in": place, "required": required, "description": whole["description"], "schema": reference(schema)}
    if facts.get("idempotent"):
        yield _IDEMPOTENCY_KEY
    if facts.get("if_match"):
        yield _IF_MATCH
    if route.method == "GET":
        yield _IF_NONE_MATCH


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, **text(description, **schema)}


_CONTACT = {"name": "The Petstore authors"}
_LICENSE = {"name": "MIT", "identifier": "MIT"}
_SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The `access_token` of POST /login. It lives for `expires_in` seconds; POST /refresh gives the next one.",
}
_IDEMPOTENCY_KEY = _header(
    "Idempotency-Key", 'yours, a new one for each thing that you want done; `"k"` is the same key as `k`', pattern=KEY_PATTERN
)
_IF_MATCH = _header(
    "If-Match", "the ETag of the product that you have, or a list of ETags, or `*`: 412 if it has none of them now", minLength=1
)
_IF_NONE_MATCH = _header("If-None-Match", "the ETag that you have: 304 if it is still that")
