"""The WSGI application: the route table, with the facts of every route."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from bottle import Bottle, HTTPError, HTTPResponse, Route, request, response

from petstore import errors
from petstore.auth.signing_keys import PUBLISH_SECONDS
from petstore.db.queries import load_reports
from petstore.routes import audit, credit_notes, invoices, pages, products, purchases, reports, sessions, system, users
from petstore.services import Services
from petstore.web import openapi
from petstore.web.compression import holds_secret
from petstore.web.headers import is_preflight, preflight
from petstore.web.middleware import RequestMiddleware
from petstore.web.parameters import PARAMETERS
from petstore.web.plugin import ROLES, RequestPlugin, check_head
from petstore.web.response_cache import ResponseCache
from petstore.web.responses import problem_response
from petstore.web.validation import SCHEMAS


def create_app(services: Services) -> RequestMiddleware:
    """The WSGI application."""
    router = create_router(services)
    return RequestMiddleware(
        router,
        services.settings,
        services.request_rate,
        ResponseCache(services),
        on_still=services.db.suspect,
        check_head=partial(check_head, router, services.tokens),
    )


def paths_of(fact: str) -> frozenset[str]:
    """The paths of the routes that have a fact, such as `hashes`."""
    return frozenset(route.rule for route in _routes() if route.config.get(fact))


def cached_paths() -> dict[str, bool]:
    """The paths of the cached reads, and whether the caller has to be logged in."""
    return {route.rule: route.config["auth"] != "anyone" for route in _routes() if route.config.get("cached")}


def sections_with_database() -> frozenset[str]:
    """The first segments of the paths of all routes that need the database: those of `/products` and `/admin/users/<user_id>`."""
    return frozenset(route.rule.split("/")[1] for route in _routes() if route.config.get("database", True))


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of every route."""
    return openapi.describe(_routes())


def create_router(services: Services) -> Bottle:
    """The route table, with RequestPlugin around every handler. ValueError if a route has wrong facts."""
    app = Bottle()
    app.install(RequestPlugin(services))
    app.default_error_handler = partial(_router_error, app)
    _add_routes(app)
    for route in app.routes:
        _check_facts(route)
    return app


def _routes() -> list[Route]:
    app = Bottle()
    _add_routes(app)
    routes: list[Route] = app.routes
    return routes


def _add_routes(app: Bottle) -> None:
    """Add every route with its facts. RequestPlugin, the OpenAPI document and the tests read them.

    auth: anyone, user or admin (the only fact that every route must have)
    query, required: the query parameters (names, or schemas by name), and those that must be there
    body, body_optional: the JSON Schema of the body; whether it may be missing, and is {} then
    returns, pages: the JSON Schema of the answer (or its media types); that of the items, if the answer is a page of a list
    status: of a success, by default 200, or 204 without an answer
    done: what a success without an answer is
    location, tagged: the answer to a write has a Location header; the ETag of what it shows
    example: the index of the schema's example that fits the route, by default 0
    cached, cache_control: the answer has an X-Cache header; its Cache-Control, if not the usual one
    refuses: slugs of the errors that only this route answers with
    instead_of: methods and rule where a client may look for it: the 405 there names this route
    idempotent, if_match: it takes an Idempotency-Key, an If-Match; every other route refuses one
    by_turns: a caller gets one answer at a time (petstore.limits.exports), which is made by a thread of a lane of its own
    hashes: it hashes a password, and is served by threads of its own (petstore.server.lanes)
    database: False if it needs no database; no other route with the same first segment may need it
    """
    _add_accounts(app)
    _add_shop(app)
    _add_invoices(app)
    _add_reports(app)
    _add_pages(app)
    app.get("/livez", callback=system.livez, auth="anyone", returns="live", database=False)
    app.get("/readyz", callback=system.readyz, auth="anyone", returns="ready")
    published = f"public, max-age={PUBLISH_SECONDS}"
    app.get(
        "/.well-known/jwks.json", callback=system.jwks, auth="anyone", returns="jwks", cache_control=published, database=False
    )


# fmt: off
def _add_accounts(app: Bottle) -> None:
    app.post("/register", callback=users.register, auth="anyone", body="account_new", returns="profile", status=201,
             refuses=("email-taken",), hashes=True)
    app.post("/login", callback=sessions.login, auth="anyone", body="credentials", returns="tokens",
             refuses=("wrong-credentials",), hashes=True)
    app.post("/refresh", callback=sessions.refresh, auth="anyone", body="refresh_token", returns="tokens",
             refuses=("wrong-refresh-token", "refresh-token-just-used"))
    app.post("/logout", callback=sessions.logout, auth="anyone", body="refresh_token",
             done="The login of this token has ended, or there was none.")
    app.get("/me", callback=users.get_profile, auth="user", returns="profile")
    app.post("/me/password", callback=users.change_password, auth="user", body="password_change",
             hashes=True, done="The new password is set, and every login has ended.")
    app.get("/me/export", callback=users.export_account, auth="user", returns="export", by_turns=True)
    app.post("/me/delete", callback=users.delete_account, auth="user", body="account_deletion", instead_of="DELETE /me",
             refuses=("last-admin",), hashes=True, done="The account is erased.")
    app.get("/admin/users", callback=users.list_accounts, auth="admin", query=("email", "limit", "after"), pages="account")
    app.get("/admin/users/<user_id>", callback=users.get_account, auth="admin", returns="account", refuses=("not-found",))
    app.route("/admin/users/<user_id>", "PATCH", users.change_account, auth="admin", body="user_change", returns="account",
              example=1, refuses=("not-found", "last-admin"))
    app.get("/admin/audit", callback=audit.list_audit_entries, auth="admin",
            query=("actor", "action", "from", "to", "limit", "after"), pages="audit_entry")


def _add_shop(app: Bottle) -> None:
    app.get("/products", callback=products.get_products, auth="anyone", query=("id", "ids", "limit", "after"),
            pages="product", returns="product", refuses=("not-found",), cached=True)
    app.post("/create_product", callback=products.create_product, auth="admin", body="product_new", returns="product", status=201,
             example=1, location=True, idempotent=True, tagged=True, instead_of="POST /products")
    app.route("/modify_product", "PATCH", products.modify_product, auth="admin", query=("id",), required=("id",),
              body="product_changes", returns="product", example=2, idempotent=True, if_match=True, tagged=True,
              instead_of="PATCH PUT /products",
              refuses=("not-found", "edit-conflict", "stock-changed", "not-enough-stock", "stock-limit"))
    app.delete("/delete_product", callback=products.delete_product, auth="admin", query=("id", "version"), required=("id",),
               if_match=True, instead_of="DELETE /products", refuses=("not-found", "edit-conflict"),
               done="The product is off sale.")
    app.get("/admin/products/movements", callback=products.list_movements, auth="admin", query=("id", "limit", "after"),
            required=("id",), pages="movement", refuses=("not-found",))
    app.post("/purchase_product", callback=purchases.purchase_product, auth="user", body="purchase", returns="invoice",
             status=201, location=True, idempotent=True, instead_of="POST /invoices",
             refuses=("not-enough-stock", "price-changed"))


def _add_invoices(app: Bottle) -> None:
    app.get("/invoices", callback=invoices.list_invoices, auth="user", query=("status", "from", "to", "limit", "after"),
            pages="invoice_summary", cached=True)
    app.get("/invoices/<invoice_id>", callback=invoices.get_invoice, auth="user", returns="invoice",
            instead_of="GET /admin/invoices/<invoice_id>", refuses=("not-found",))
    changes = ("not-found", "transition-not-allowed", "stock-limit")
    app.post("/invoices/<invoice_id>/cancel", callback=invoices.cancel_invoice, auth="user", body="invoice_cancel",
             body_optional=True, returns="invoice", example=1, instead_of="DELETE /invoices/<invoice_id>", refuses=changes)
    app.get("/admin/invoices", callback=invoices.list_all_invoices, auth="admin",
            query=("number", "email", "status", "user_id", "from", "to", "limit", "after"), pages="invoice_summary_for_admins")
    app.route("/admin/invoices/<invoice_id>", "PATCH", invoices.change_invoice, auth="admin", body="invoice_change",
              returns="invoice", example=2, idempotent=True, instead_of="PATCH PUT /invoices/<invoice_id>", refuses=changes)
    app.post("/admin/invoices/<invoice_id>/credit_notes", callback=credit_notes.create_credit_note, auth="admin",
             body="credit_note_new", returns="credit_note", status=201, idempotent=True,
             refuses=("not-found", "not-creditable", "credit-exceeds-invoice", "stock-limit"))


def _add_reports(app: Bottle) -> None:
    for name, report in load_reports().items():
        app.get(f"/admin/{name}", callback=reports.handler(report), auth="admin", query=reports.parameters(report),
                required=reports.required(report), returns="report", example=reports.example(report))


def _add_pages(app: Bottle) -> None:
    static = {"auth": "anyone", "database": False}
    app.get("/", callback=pages.get_home, returns="text/html", **static)
    app.get("/docs", callback=pages.docs(openapi_document), returns="text/html", **static)
    app.get("/openapi.json", callback=pages.openapi(openapi_document), returns="openapi", **static)
    app.get("/problems", callback=pages.list_problems, returns="text/html", **static)
    app.get("/problems/<slug>", callback=pages.get_problem, returns="text/html", refuses=("not-found",), **static)
    app.get("/assets/<file>", callback=pages.get_asset, returns="text/css text/javascript image/svg+xml",
            refuses=("not-found",), cache_control=pages.FOR_EVER, **static)


def _check_facts(route: Route) -> None:
    """Raise ValueError for a route without `auth`, or with a fact that names something unknown."""
    facts, name = route.config, f"{route.method} {route.rule}"
    if facts.get("auth") not in ROLES:
        raise ValueError(f"{name}: auth must be one of {', '.join(ROLES)}")
    schemas = [facts.get("body"), facts.get("pages"), facts.get("returns")]
    for unknown in {schema for schema in schemas if schema and "/" not in schema} - {*SCHEMAS}:
        raise ValueError(f"{name}: there is no petstore/schemas/{unknown}.json")
    by_name = () if isinstance(facts.get("query"), Mapping) else facts.get("query", ())
    for unknown in {*by_name, *re.findall("<(.*?)>", route.rule)} - {*PARAMETERS}:
        raise ValueError(f"{name}: there is no parameter {unknown} in petstore/schemas/parameters.json")
    if facts.get("cached") and holds_secret(facts):
        raise ValueError(f"{name}: an answer that holds a secret must not be cached")
    for unknown in {*facts.get("refuses", ())} - {*errors.PROBLEMS}:
        raise ValueError(f"{name}: there is no problem {unknown}")


def _router_error(app: Bottle, error: HTTPError) -> bytes:
    """The answer to what the router itself refuses (404, 405), in the form of all errors."""
    problem: errors.Problem
    if error.status_code == 405:
        allowed = set(re.findall("[A-Z]+", error.headers["Allow"]))
        if "GET" in allowed:
            allowed.add("HEAD")
        if is_preflight(request.environ):
            HTTPResponse(b"", 204, preflight(allowed)).apply(response)
            return b""
        methods = ", ".join(sorted(allowed))
        instead = _instead(app, request.method, request.path)
        problem = errors.MethodNotAllowed(f"This path takes: {methods}{instead}.", headers={"Allow": methods})
    elif error.status_code == 404 and f"{request.path}/".startswith("/admin/reports/"):
        names = ", ".join(name.rpartition("/")[2] for name in load_reports())
        problem = errors.NotFound(f"There is no such report; there are: {names}.")
    elif error.status_code == 404:
        problem = errors.NotFound("There is nothing at this path; GET /openapi.json and the page /docs list what there is.")
    else:
        problem = errors.InternalError()
    for_people = request.environ["REQUEST_METHOD"] in ("GET", "HEAD")
    problem_response(problem, for_people).apply(response)
    return bytes(response.body)


def _instead(app: Bottle, method: str, path: str) -> str:
    """The end of a sentence that names the route that does what a client wants of a path that does not take its method."""
    for route in [route for route in app.routes if "instead_of" in route.config]:
        *methods, rule = route.config["instead_of"].split()
        if method in methods and re.fullmatch(re.sub("<.*?>", "[^/]+", rule), path):
            query = "&".join(f"{name}=X" for name in route.config.get("required", ()))
            there = re.sub("<.*?>", "X", route.rule) + (f"?{query}" if query else "")
            return f"; for {method} there is {route.method} {there}"
    return ""
