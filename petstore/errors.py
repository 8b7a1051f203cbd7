"""The error vocabulary of the API, what the database's refusals mean in it, and the one renderer (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

Fault = Mapping[str, Any]  # {"pointer": "/products/0/quantity", "detail": "must be at least 1"}, and facts beside them


class Problem(Exception):
    """The request could not be answered."""  # the docstring is the title, and the default detail

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail or self.title()
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.members = members

    @classmethod
    def title(cls) -> str:
        return (cls.__doc__ or "").strip().splitlines()[0].rstrip(".")


class BadRequest(Problem):
    """The request cannot be read."""

    status, slug = 400, "bad-request"


class MalformedJSON(BadRequest):
    """The body is not the JSON that it claims to be."""

    slug = "malformed-json"


class Unauthorized(Problem):
    """This needs a valid access token."""

    status, slug = 401, "unauthorized"

    def __init__(self, detail: str = "", *, error: str = "") -> None:
        """`error`: the RFC 6750 code, given when a token was sent."""
        challenge = 'Bearer realm="petstore"' + (f', error="{error}"' if error else "")
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class WrongCredentials(Unauthorized):
    """Email or password is wrong."""

    slug = "wrong-credentials"


class Forbidden(Problem):
    """Your role does not allow this."""

    status, slug = 403, "forbidden"


class NotFound(Problem):
    """There is no such thing here."""

    status, slug = 404, "not-found"


class MethodNotAllowed(Problem):
    """This path does not take this method."""

    status, slug = 405, "method-not-allowed"


class Conflict(Problem):
    """This does not fit the state of things."""

    status, slug = 409, "conflict"


class EmailTaken(Conflict):
    """An account with this email exists already."""

    slug = "email-taken"


class NotEnoughStock(Conflict):
    """There is not enough stock of at least one product."""

    slug = "not-enough-stock"


class TransitionNotAllowed(Conflict):
    """The invoice cannot go from its status to this one."""

    slug = "transition-not-allowed"


class StockLimit(Conflict):
    """The stock of a product would pass 1,000,000,000 pieces."""

    slug = "stock-limit"


class TooLarge(Problem):
    """The body is larger than 262144 bytes."""

    status, slug = 413, "too-large"


class UnsupportedMediaType(Problem):
    """The body must be application/json in UTF-8."""

    status, slug = 415, "unsupported-media-type"


class Invalid(Problem):
    """The input is not valid."""

    status, slug = 422, "invalid"


class HeadersTooLarge(Problem):
    """The request's header fields are too large."""

    status, slug = 431, "headers-too-large"


class InternalError(Problem):
    """Something went wrong on our side."""

    status, slug = 500, "internal-error"


class NotImplementedHere(Problem):
    """The server does not support this form of HTTP."""

    status, slug = 501, "not-implemented"


class Unavailable(Problem):
    """The service cannot answer right now; try again."""

    status, slug = 503, "unavailable"

    def __init__(self, detail: str = "", **members: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "1"}, **members)


def invalid(pointer: str, detail: str) -> Invalid:
    """A 422 about one member of the body."""
    return Invalid(errors=[{"pointer": pointer, "detail": detail}])


def account_gone() -> Unauthorized:
    """A 401 for a good token whose user is no more."""
    return Unauthorized("The account of this token no longer exists.", error="invalid_token")


# What a broken constraint means to a client. Any other constraint is a bug of ours: 500.
BY_CONSTRAINT: Mapping[str, Callable[[], Problem]] = {
    "users_email_key": EmailTaken,
    "invoices_user_id_fkey": account_gone,
    "invoice_events_actor_id_fkey": account_gone,
    "products_stock_range": StockLimit,  # the request's own bounds were checked before: only a sum can get here
}

# What the database's condition means to a client, by SQLSTATE or its class (PostgreSQL manual, appendix A).
BY_SQLSTATE: Mapping[str, type[Problem]] = {
    "08": Unavailable,  # connection
    "25006": Unavailable,  # read-only: a standby, or on the way to becoming one
    "40": Unavailable,  # serialization failure, deadlock
    "53": Unavailable,  # out of disk, memory, connections
    "55P03": Unavailable,  # lock timeout
    "57": Unavailable,  # statement timeout, shutdown
}


def from_database(sqlstate: str | None, constraint: str | None) -> Problem:
    """The problem that a refusal of PostgreSQL means."""
    if constraint is not None and constraint in BY_CONSTRAINT:
        return BY_CONSTRAINT[constraint]()
    sqlstate = sqlstate or ""
    return BY_SQLSTATE.get(sqlstate, BY_SQLSTATE.get(sqlstate[:2], InternalError))()


PROBLEM_JSON = "application/problem+json"


def render(problem: Problem, request_id: str) -> bytes:
    """The body of an error answer, application/problem+json (RFC 9457)."""
    document: dict[str, Any] = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title(),
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.members,
    }
    if problem.errors:
        document["errors"] = problem.errors
    # ASCII only: a pointer may repeat a member name of the request, lone surrogates and all.
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"
