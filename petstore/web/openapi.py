"""The OpenAPI 3.1 document, generated from the route table, the JSON Schemas that validate, and the errors."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Protocol

from petstore import __version__
from petstore.errors import PROBLEM_JSON, PROBLEMS
from petstore.web.openapi_schemas import components, page, reference, to_component
from petstore.web.parameters import MAX_KEY, PARAMETERS, schemas_of
from petstore.web.validation import MAX_BODY, SCHEMAS

EXPLANATIONS: Mapping[str, Mapping[str, Any]] = json.loads(
    resources.files("petstore.web").joinpath("problems.json").read_text("utf-8")
)  # by slug: what an error means, what to do, members of an example
# Errors that every route may answer with.
_ANYWHERE = [
    "bad-request",
    "too-large",
    "unsupported-media-type",
    "too-many-requests",
    "headers-too-large",
    "internal-error",
    "not-implemented-here",
    "unavailable",
]
_INTRODUCTION = f"""The backend of a pet shop: accounts, catalogue, purchases, invoices and stock.

- Bodies are JSON in UTF-8. Money is exact: a string such as "12.50" beside its currency. Times are RFC 3339 in UTC.
- Register, log in, and send the `access_token` as `Authorization: Bearer <access_token>`.
- Every error is an `application/problem+json` (RFC 9457) with a `type` of its own, which is a page that explains it.
- `Idempotency-Key` makes a write safe to be sent again: it is done once, and the first answer is given again.
- Unknown, empty and repeated query parameters are refused, as are unknown members. A body has {MAX_BODY // 1024} KiB at most.
- `HEAD` works wherever `GET` does. Every answer has an `X-Request-ID`."""
_ACCESS = {"anyone": "", "user": "\n\nNeeds an access token.", "admin": "\n\nNeeds the access token of an admin."}


class Route(Protocol):
    """What is used of a bottle.Route. config: its facts, see petstore.app."""

    method: str
    rule: str
    callback: Any
    config: Mapping[str, Any]


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
        "info": {"title": "Petstore", "version": __version__, "description": _INTRODUCTION, "license": _LICENSE},
        "servers": [{"url": "/", "description": "where this document comes from"}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "paths": paths,
        "components": {
            "schemas": components({route.config["pages"] for route in routes if "pages" in route.config}),
            "examples": _problem_examples({slug for route in routes for slugs in problems_of(route).values() for slug in slugs}),
            "headers": _HEADERS,
            "securitySchemes": {"access_token": _SECURITY},
        },
    }


def problems_of(route: Route) -> dict[int, list[str]]:
    """The slugs of every error that this route may answer with, by status."""
    facts = route.config
    by_fact = {
        "body": ("malformed-json", "invalid"),
        "hashes": ("too-many-attempts",),
        "idempotent": ("key-in-use", "key-reused", "too-many-keys"),
    }
    slugs = {*_ANYWHERE, *facts.get("refuses", ())}
    slugs.update(slug for fact, found in by_fact.items() if facts.get(fact) for slug in found)
    if facts["auth"] != "anyone":
        slugs.update(("unauthorized", "login-ended"))
    if facts["auth"] == "admin":
        slugs.add("forbidden")
    if route.method != "GET":
        slugs.add("outcome-unknown")
    found: dict[int, list[str]] = {}
    for slug in sorted(slugs, key=lambda slug: (PROBLEMS[slug].status, list(PROBLEMS).index(slug))):
        found.setdefault(PROBLEMS[slug].status, []).append(slug)
    return found


def problem_example(slug: str) -> dict[str, Any]:
    """An error of this kind as a client gets it."""
    kind, members = PROBLEMS[slug], dict(EXPLANATIONS[slug]["example"])
    detail = members.pop("detail", f"{kind.title()}.")
    head = {"type": f"/problems/{slug}", "title": kind.title(), "status": kind.status, "detail": detail}
    return {**head, "request_id": "0fa2c1be", **members}


def _tag(route: Route) -> str:
    return str(route.callback.__module__).rpartition(".")[2].replace("_", " ")


def _operation(route: Route) -> dict[str, Any]:
    facts = route.config
    summary, _, more = inspect.cleandoc(route.callback.__doc__).partition("\n")
    operation: dict[str, Any] = {
        "operationId": route.callback.__name__,
        "tags": [_tag(route)],
        "summary": summary.rstrip(".").replace("`", ""),  # summaries are plain text, not Markdown
        "description": (more.strip() or summary) + _ACCESS[facts["auth"]],
        "security": [] if facts["auth"] == "anyone" else [{"access_token": []}],
        "parameters": list(_parameters(route)),
    }
    if "body" in facts:
        content = {"application/json": {"schema": to_component(facts["body"]), "examples": _examples(facts["body"])}}
        operation["requestBody"] = {"required": not facts.get("body_optional", False), "content": content}
    refusals = {str(status): _refusal(route, slugs) for status, slugs in problems_of(route).items()}
    return {**operation, "responses": {**_successes(route), **refusals}}


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    facts = route.config
    in_path = {name: PARAMETERS[name] for name in re.findall("<(.*?)>", route.rule)}
    for name, whole in {**in_path, **schemas_of(facts.get("query", ()))}.items():
        schema = {key: value for key, value in whole.items() if key != "description"}
        place, required = ("path", True) if name in in_path else ("query", name in facts.get("required", ()))
        yield {"name": name, "in": place, "required": required, "description": whole["description"], "schema": reference(schema)}
    if facts.get("idempotent"):
        yield _IDEMPOTENCY_KEY
    if route.method == "GET":
        yield _IF_NONE_MATCH


def _successes(route: Route) -> dict[str, Any]:
    facts = route.config
    status = facts.get("status") or (200 if facts.get("returns") or facts.get("pages") else 204)
    names = ["X-Request-ID", *(["ETag"] if route.method == "GET" else []), *(["X-Cache"] if facts.get("cached") else [])]
    names += [*(["Location"] if facts.get("location") else []), *(["Idempotent-Replayed"] if facts.get("idempotent") else [])]
    names += _RATE_LIMIT_HEADERS if facts.get("hashes") else []
    success = {"description": "Done.", "headers": _headers(names)}
    if status == 204:
        return {"204": success}
    found = {str(status): {**success, "description": "The answer.", "content": _content(facts)}}
    if route.method == "GET":
        found["304"] = {**success, "description": "It still has the ETag that you have."}
    return found


def _content(facts: Mapping[str, Any]) -> dict[str, Any]:
    returns, pages = facts.get("returns"), facts.get("pages")
    if returns and "/" in returns:
        return {media_type: {"schema": {"type": "string"}} for media_type in returns.split()}
    schemas, examples = [], {}
    if pages:
        schemas.append(reference(page(pages)))
        examples["a page"] = {"value": {"items": SCHEMAS[pages]["examples"][:1], "next": None}}
    if returns:
        schemas.append(to_component(returns))
        examples |= _example(returns, facts.get("example", 0))
    media_type: dict[str, Any] = {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}
    return {"application/json": {**media_type, **({"examples": examples} if examples else {})}}


def _examples(name: str) -> dict[str, Any]:
    return {f"example {number}": {"value": value} for number, value in enumerate(SCHEMAS[name].get("examples", ()), 1)}


def _example(name: str, number: int | None) -> dict[str, Any]:
    """The example that fits the route. number: its index, None for no example."""
    examples = SCHEMAS[name].get("examples", ())
    return {"example": {"value": examples[number]}} if number is not None and examples else {}


def _refusal(route: Route, slugs: list[str]) -> dict[str, Any]:
    status = PROBLEMS[slugs[0]].status
    names = ["X-Request-ID", *_HEADERS_BY_STATUS.get(status, ())]
    names += ["Retry-After", "Idempotent-Replayed"] if status == 409 and route.config.get("idempotent") else []
    names += _RATE_LIMIT_HEADERS if status in (401, 409) and route.config.get("hashes") else []
    examples = {slug: {"$ref": f"#/components/examples/{slug}"} for slug in slugs}
    return {
        "description": "\n".join(f"- [`{slug}`](/problems/{slug}): {PROBLEMS[slug].title()}." for slug in slugs),
        "headers": _headers(names),
        "content": {PROBLEM_JSON: {"schema": to_component("problem"), "examples": examples}},
    }


def _problem_examples(slugs: set[str]) -> dict[str, Any]:
    return {slug: {"summary": PROBLEMS[slug].title(), "value": problem_example(slug)} for slug in PROBLEMS if slug in slugs}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _required(description: str, **schema: Any) -> dict[str, Any]:
    return {**_text(description, **schema), "required": True}


def _text(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}}


_LICENSE = {"name": "MIT", "identifier": "MIT"}
_SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The `access_token` of POST /login. It lives for `expires_in` seconds; POST /refresh gives the next one.",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    **_text("yours, a new one for each thing that you want done", minLength=1, maxLength=MAX_KEY, pattern="^[ -~]+$"),
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    **_text("the ETag that you have: 304 if it is still that"),
}
_RATE_LIMIT_HEADERS = ("RateLimit", "RateLimit-Policy")
_HEADERS_BY_STATUS = {401: ("WWW-Authenticate",), 429: (*_RATE_LIMIT_HEADERS, "Retry-After"), 503: ("Retry-After",)}
_HEADERS = {
    "ETag": _required("a hash of the very bytes"),
    "Idempotent-Replayed": _text("this is the answer that the first request with this key was given", const="true"),
    "Location": _required("where what was made can be read"),
    "RateLimit": _text("what is left, and when there is more (draft-ietf-httpapi-ratelimit-headers)"),
    "RateLimit-Policy": _text("how many in how many seconds"),
    "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": _required("what would be accepted (RFC 6750)"),
    "X-Cache": _required("where the answer came from", enum=["HIT", "MISS", "BYPASS"]),
    "X-Request-ID": _required("yours if you sent one, else a new one; the log has it"),
}
