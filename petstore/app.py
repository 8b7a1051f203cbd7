"""The application: every route on one screen, with its facts."""

from __future__ import annotations

import re
from typing import Any

from bottle import Bottle, HTTPError, HTTPResponse, request, response

from petstore import errors
from petstore.browsers import is_preflight, preflight
from petstore.calls import Services
from petstore.front import WSGI, front
from petstore.plugins import ROLES, Gate, problem_response
from petstore.routes import audit, credit_notes, invoices, products, purchases, sessions, system, users
from petstore.validation import SCHEMAS


def create_app(services: Services) -> WSGI:
    """The WSGI application."""
    return front(create_router(services), services.settings, services.rates)


def hashing_paths() -> frozenset[str]:
    """The paths of the routes that hash passwords."""
    routes = Bottle()
    _add_routes(routes)
    return frozenset(route.rule for route in routes.routes if route.config.get("hashes"))


def create_router(services: Services) -> Bottle:
    """The routes behind the gate, each with its facts."""
    app = Bottle()
    app.install(Gate(services))
    app.default_error_handler = _router_error
    _add_routes(app)
    for route in app.routes:
        _check_facts(route.method, route.rule, route.config)
    return app


def _add_routes(app: Bottle) -> None:
    """auth: anyone, user or admin; body: its JSON Schema; body_optional: none is {}; query: the parameters that it takes;

    idempotent: it takes an Idempotency-Key; hashes: it hashes a password, and is kept from taking the others' threads.
    """
    _add_accounts(app)
    _add_shop(app)
    app.get("/.well-known/jwks.json", callback=system.jwks, auth="anyone")
    app.get("/livez", callback=system.livez, auth="anyone")
    app.get("/readyz", callback=system.readyz, auth="anyone")


def _add_accounts(app: Bottle) -> None:
    app.post("/register", callback=users.register, auth="anyone", body="account_new", hashes=True)
    app.post("/login", callback=sessions.login, auth="anyone", body="credentials", hashes=True)
    app.post("/refresh", callback=sessions.refresh, auth="anyone", body="refresh_token")
    app.post("/logout", callback=sessions.logout, auth="anyone", body="refresh_token")
    app.get("/me", callback=users.me, auth="user")
    app.post("/me/password", callback=users.change_password, auth="user", body="password_change", hashes=True)
    app.get("/me/export", callback=users.export, auth="user")
    app.post("/me/delete", callback=users.delete, auth="user", body="account_deletion", hashes=True)
    app.get("/admin/users", callback=users.list_all, auth="admin", query=("email", "limit", "after"))
    app.route("/admin/users/<user_id>", "PATCH", users.change, auth="admin", body="user_change")
    app.get("/admin/audit", callback=audit.read, auth="admin", query=("actor", "action", "from", "to", "limit", "after"))


def _add_shop(app: Bottle) -> None:
    app.get("/products", callback=products.read, auth="anyone", query=("id", "limit", "after"))
    app.post("/create_product", callback=products.create, auth="admin", body="product_new", idempotent=True)
    app.route("/modify_product", "PATCH", products.modify, auth="admin", query=("id",), body="product_changes", idempotent=True)
    app.delete("/delete_product", callback=products.delete, auth="admin", query=("id", "version"))
    app.get("/admin/products/movements", callback=products.movements, auth="admin", query=("id", "limit", "after"))

    app.post("/purchase_product", callback=purchases.purchase, auth="user", body="purchase", idempotent=True)

    app.get("/invoices", callback=invoices.list_own, auth="user", query=("limit", "after"))
    app.get("/invoices/<invoice_id>", callback=invoices.read, auth="user")
    app.post("/invoices/<invoice_id>/cancel", callback=invoices.cancel, auth="user", body="invoice_cancel", body_optional=True)
    of_invoices = ("status", "user_id", "from", "to", "limit", "after")
    app.get("/admin/invoices", callback=invoices.list_all, auth="admin", query=of_invoices)
    app.route("/admin/invoices/<invoice_id>", "PATCH", invoices.change, auth="admin", body="invoice_change")
    credit_notes_of = "/admin/invoices/<invoice_id>/credit_notes"
    app.post(credit_notes_of, callback=credit_notes.create, auth="admin", body="credit_note", idempotent=True)


def _check_facts(method: str, rule: str, facts: dict[str, Any]) -> None:
    """A route that forgot its facts does not start."""
    if facts.get("auth") not in ROLES:
        raise ValueError(f"{method} {rule}: auth must be one of {', '.join(ROLES)}")
    if facts.get("body") not in (None, *SCHEMAS):
        raise ValueError(f"{method} {rule}: there is no petstore/schemas/{facts['body']}.json")


def _router_error(error: HTTPError) -> bytes:
    """What the router itself refuses, in the one form of all errors."""
    problem: errors.Problem
    if error.status_code == 405:
        allowed = set(re.findall("[A-Z]+", error.headers["Allow"]))
        if "GET" in allowed:
            allowed.add("HEAD")
        if is_preflight(request.environ):
            HTTPResponse(b"", 204, preflight(allowed)).apply(response)
            return b""
        problem = errors.MethodNotAllowed(headers={"Allow": ", ".join(sorted(allowed))})
    elif error.status_code == 404:
        problem = errors.NotFound("There is nothing at this path.")
    else:
        problem = errors.InternalError()
    problem_response(problem).apply(response)
    return bytes(response.body)
