"""The answers of an operation in the OpenAPI document: what each success and each error is, its headers and its examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from petstore.errors import PROBLEM_JSON, PROBLEMS
from petstore.web.compression import holds_secret
from petstore.web.openapi_schemas import page, plural, problem_title, reference, to_component, words
from petstore.web.validation import SCHEMAS

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


class Route(Protocol):
    """What is used of a bottle.Route. config: its facts, see petstore.app."""

    method: str
    rule: str
    callback: Any
    config: Mapping[str, Any]


def problems_of(route: Route) -> dict[int, list[str]]:
    """The slugs of every error that this route may answer with, by status."""
    facts = route.config
    by_fact = {
        "body": ("malformed-json", "invalid"),
        "hashes": ("too-many-attempts",),
        "idempotent": ("key-in-use", "key-reused", "too-many-keys"),
        "if_match": ("precondition-failed",),
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


def successes(route: Route) -> dict[str, Any]:
    """The answers that are no errors, by status: the success, and of a read also the 304."""
    facts = route.config
    status = facts.get("status") or (200 if facts.get("returns") or facts.get("pages") else 204)
    names = [
        "X-Request-ID",
        "Vary",
        *(["ETag"] if route.method == "GET" or facts.get("tagged") else []),
        *(["X-Cache"] if facts.get("cached") else []),
    ]
    names += [*(["Location"] if facts.get("location") else []), *(["Idempotent-Replayed"] if facts.get("idempotent") else [])]
    names += _RATE_LIMIT_HEADERS if facts.get("hashes") else []
    success = {"description": _meaning(facts), "headers": _headers(names)}
    if status == 204:
        return {"204": success}
    coding = [] if holds_secret(facts) else ["Content-Encoding"]
    found = {str(status): {**success, "headers": _headers([*names, *coding]), "content": _content(facts)}}
    if route.method == "GET":
        found["304"] = {**success, "description": "It still has the ETag that you have."}
    return found


def _meaning(facts: Mapping[str, Any]) -> str:
    """What a success is."""
    returns, pages = facts.get("returns", ""), facts.get("pages", "")
    if "done" in facts:
        return str(facts["done"])
    if "/" in returns:
        return f"The {'page' if returns == 'text/html' else 'file'}, as {' or '.join(returns.split())}."
    listed = f"A page of {plural(pages)}. An item: {SCHEMAS[pages]['description']}" if pages else ""
    one = SCHEMAS[returns]["description"] if returns else ""
    if listed and one:
        return f"- `{page(pages)['title']}`: {listed}\n- `{SCHEMAS[returns]['title']}`: {one}"
    return listed or one


def refusal(route: Route, slugs: list[str]) -> dict[str, Any]:
    """The answer of a status that is an error. slugs: the kinds of error that have this status here."""
    status = PROBLEMS[slugs[0]].status
    names = ["X-Request-ID", "Vary", "Content-Encoding", *_HEADERS_BY_STATUS.get(status, ())]
    names += ["Retry-After", "Idempotent-Replayed"] if status == 409 and route.config.get("idempotent") else []
    names += _RATE_LIMIT_HEADERS if status in (401, 409, 422) and route.config.get("hashes") else []
    examples = {slug: {"$ref": f"#/components/examples/{slug}"} for slug in slugs}
    page_of_it = (
        {"text/html": {"schema": {"type": "string"}}} if route.config.get("returns") == "text/html" else {}
    )  # for browsers
    return {
        "description": "\n".join(f"- [`{slug}`](/problems/{slug}): {PROBLEMS[slug].title()}." for slug in slugs),
        "headers": _headers(names),
        "content": {PROBLEM_JSON: {"schema": _one_of(slugs), "examples": examples}, **page_of_it},
    }


def _one_of(slugs: list[str]) -> dict[str, Any]:
    names = [f"#/components/schemas/{problem_title(slug)}" for slug in slugs]
    kinds = [{"$ref": name} for name in names]
    mapping = {f"/problems/{slug}": name for slug, name in zip(slugs, names, strict=True)}
    return {"oneOf": kinds, "discriminator": {"propertyName": "type", "mapping": mapping}} if len(kinds) > 1 else kinds[0]


def named_examples(name: str) -> dict[str, Any]:
    """The examples of a body, by a name that says what each shows: its own, or what the schema is, if there is only one."""
    found = SCHEMAS[name].get("examples", ())
    names = SCHEMAS[name].get("example_names") or [words(name)][: len(found)]
    return {shown: {"value": value} for shown, value in zip(names, found, strict=True)}


def _content(facts: Mapping[str, Any]) -> dict[str, Any]:
    returns, pages = facts.get("returns"), facts.get("pages")
    if returns and "/" in returns:
        return {media_type: {"schema": {"type": "string"}} for media_type in returns.split()}
    schemas, examples = [], {}
    if pages:
        schemas.append(reference(page(pages)))
        examples[f"a page of {plural(pages)}"] = {"value": {"items": SCHEMAS[pages]["examples"][:1], "next": None}}
    if returns:
        schemas.append(to_component(returns))
        examples |= _example(returns, facts.get("example", 0))
    media_type: dict[str, Any] = {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}
    return {"application/json": {**media_type, **({"examples": examples} if examples else {})}}


def _example(name: str, number: int | None) -> dict[str, Any]:
    """The example that fits the route. number: its index, None for no example."""
    found = [*named_examples(name).items()]
    return dict(found[number : number + 1]) if number is not None else {}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _required(description: str, **schema: Any) -> dict[str, Any]:
    return {**text(description, **schema), "required": True}


def text(description: str, **schema: Any) -> dict[str, Any]:
    """The description and the schema of a header that is a string."""
    return {"description": description, "schema": {"type": "string", **schema}}


_RATE_LIMIT_HEADERS = ("RateLimit", "RateLimit-Policy")
_HEADERS_BY_STATUS = {401: ("WWW-Authenticate",), 429: (*_RATE_LIMIT_HEADERS, "Retry-After"), 503: ("Retry-After",)}
HEADERS = {
    "Content-Encoding": text("how the body is compressed, if it is: over 1 KiB, and asked for by Accept-Encoding", const="gzip"),
    "ETag": _required("a hash of the very bytes; in gzip it ends in -gzip; that of a product also has its stock"),
    "Idempotent-Replayed": text("this is the answer that the first request with this key was given", const="true"),
    "Location": _required("where what was made can be read"),
    "RateLimit": text("what is left, and when there is more (draft-ietf-httpapi-ratelimit-headers)"),
    "RateLimit-Policy": text("how many in how many seconds"),
    "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}},
    "Vary": text("the headers of a request that the answer depends on"),
    "WWW-Authenticate": _required("what would be accepted (RFC 6750)"),
    "X-Cache": _required("where the answer came from", enum=["HIT", "MISS", "BYPASS"]),
    "X-Request-ID": _required("yours if you sent one, else a new one; the log has it"),
}
