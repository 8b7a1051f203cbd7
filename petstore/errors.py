"""The error vocabulary of the API, and the one renderer (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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


class PriceChanged(Conflict):
    """The price of at least one product is not the expected one."""

    slug = "price-changed"


class StockChanged(Conflict):
    """The stock of the product is not the expected one."""

    slug = "stock-changed"


class EditConflict(Conflict):
    """The product was edited since the version that you name."""

    slug = "edit-conflict"


class NotCreditable(Conflict):
    """Only an invoice that is paid, shipped or delivered can be credited."""

    slug = "not-creditable"


class CreditExceedsInvoice(Conflict):
    """More would be credited than was bought and is not credited yet."""

    slug = "credit-exceeds-invoice"


class KeyInUse(Conflict):
    """The first request with this Idempotency-Key is still running."""

    slug = "key-in-use"


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


class KeyReused(Problem):
    """This Idempotency-Key was used for another request: a new request needs a new key."""

    status, slug = 422, "key-reused"


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


class OutcomeUnknown(Unavailable):
    """The connection to the database broke while it committed: whether this was done is not known."""

    slug = "outcome-unknown"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or _LOOK_FIRST)


_LOOK_FIRST = (
    "The connection to the database broke while it committed: whether this was done is not known. Read what it was to change"
    " before you send it again (GET /invoices, GET /products?id=X, or log in). With an Idempotency-Key, a request that takes one"
    " can be sent again at once."
)


def invalid(pointer: str, detail: str) -> Invalid:
    """A 422 about one member of the body."""
    return Invalid(errors=[{"pointer": pointer, "detail": detail}])


def account_gone() -> Unauthorized:
    """A 401 for a good token whose user is no more."""
    return Unauthorized("The account of this token no longer exists.", error="invalid_token")


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
