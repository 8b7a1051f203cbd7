"""The errors of the API, one class for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from petstore.errors.problem import PROBLEM_JSON as PROBLEM_JSON
from petstore.errors.problem import PROBLEMS as PROBLEMS
from petstore.errors.problem import Fault as Fault
from petstore.errors.problem import Problem as Problem
from petstore.errors.problem import render as render


class BadRequest(Problem):
    """The request cannot be read."""

    status = 400


class MalformedJSON(BadRequest):
    """The body is not the JSON that it claims to be."""


class Unauthorized(Problem):
    """This needs a valid access token."""

    status = 401

    def __init__(self, detail: str = "", *, error: str = "") -> None:
        """error: the code of RFC 6750, if a token was sent."""
        challenge = 'Bearer realm="petstore"' + (f', error="{error}"' if error else "")
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class LoginEnded(Unauthorized):
    """The login of this access token has ended; log in again."""

    def __init__(self) -> None:
        super().__init__(error="invalid_token")


class WrongCredentials(Unauthorized):
    """Email or password is wrong, or the account is disabled."""


class WrongRefreshToken(Unauthorized):
    """The refresh token is not valid, or was used before: log in again."""


class RefreshTokenJustUsed(Unauthorized):
    """The refresh token was used just now, and so was the next one: use the newest."""


class Forbidden(Problem):
    """Your role does not allow this."""

    status = 403


class NotFound(Problem):
    """There is no such thing here."""

    status = 404


class MethodNotAllowed(Problem):
    """This path does not take this method."""

    status = 405


class Conflict(Problem):
    """This does not fit the state of things."""

    status = 409

    def __init__(self, detail: str = "", *, facts: Sequence[int | None] | None = None, **parts: Any) -> None:
        """facts: what the database said, if its handler can make the error again from them (petstore.domain.refusals)."""
        super().__init__(detail, **parts)
        self.facts = facts


class EmailTaken(Conflict):
    """An account with this email exists already: log in, or take another email."""

    def __init__(self) -> None:
        super().__init__(errors=[{"pointer": "/email", "detail": "is that of an account"}])


class LastAdmin(Conflict):
    """This is the last active admin: make another one first."""


class NotEnoughStock(Conflict):
    """There is not enough stock of at least one product."""


class PriceChanged(Conflict):
    """The price of at least one product is not the expected one."""


class StockChanged(Conflict):
    """The stock of the product is not the expected one."""


class EditConflict(Conflict):
    """The product was edited since the version that you name."""


class NotCreditable(Conflict):
    """Only an invoice that is paid, shipped or delivered can be credited."""


class CreditExceedsInvoice(Conflict):
    """More would be credited than was bought and is not credited yet."""


class KeyInUse(Conflict):
    """The first request with this Idempotency-Key is still running."""


class TransitionNotAllowed(Conflict):
    """The invoice cannot go from its status to this one."""


class StockLimit(Conflict):
    """The stock of a product would pass its limit."""


class PreconditionFailed(Problem):
    """The product is not what your If-Match names."""

    status = 412


class TooLarge(Problem):
    """The body is too large."""

    status = 413


class UnsupportedMediaType(Problem):
    """The body must be application/json in UTF-8, without Content-Encoding."""

    status = 415


class Invalid(Problem):
    """The input is not valid."""

    status = 422

    def __init__(self, errors: Iterable[Fault]) -> None:
        """errors: at least one. The detail repeats the first, for clients that show nothing else."""
        found = list(errors)
        more = f" (and {len(found) - 1} more: see errors)" if len(found) > 1 else ""
        super().__init__(f"{found[0]['pointer'] or 'The body'} {found[0]['detail'].rstrip('.')}{more}.", errors=found)


class KeyReused(Problem):
    """This Idempotency-Key was used for another request: a new request needs a new key."""

    status = 422


class HeadersTooLarge(Problem):
    """The request's header fields are too large."""

    status = 431


class TooManyRequests(Problem):
    """That was too much in too short a time."""

    status = 429

    def __init__(self, detail: str, seconds: int, fields: Mapping[str, str]) -> None:
        """seconds: until the next try; fields: RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
        super().__init__(detail, headers={"Retry-After": str(seconds), **fields})


class TooManyAttempts(TooManyRequests):
    """Too many failed attempts with this account, or from this address."""


class TooManyKeys(TooManyRequests):
    """This account has used too many Idempotency-Keys in 24 hours."""


class InternalError(Problem):
    """Something went wrong on our side."""


class NotImplementedHere(Problem):
    """The server does not support this form of HTTP."""

    status = 501


class Unavailable(Problem):
    """The service cannot answer right now; try again."""

    status = 503

    def __init__(self, detail: str = "", **members: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "1"}, **members)


class OutcomeUnknown(Unavailable):
    """The connection to the database broke while it committed: whether this was done is not known."""

    def __init__(self, detail: str = "") -> None:
        advice = """Read what it was to change before you send it again (GET /invoices, GET /products?id=X, or log in). \
With an Idempotency-Key, a request that takes one can be sent again at once."""
        super().__init__(detail or f"{self.title()}. {advice}")


def invalid(pointer: str, detail: str) -> Invalid:
    """A 422 about one member of the body."""
    return Invalid([{"pointer": pointer, "detail": detail}])
