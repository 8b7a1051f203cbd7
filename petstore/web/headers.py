"""What browsers are told: which other origins may call (CORS), and to make nothing of an answer but what it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Headers = list[tuple[str, str]]
SECURITY_HEADERS: Headers = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),  # for what is embedded; who calls by CORS is not bound by it
]
# For our own pages: what they load is ours alone, and nothing in the HTML runs. Swagger UI has its icons in data: URLs.
PAGE_POLICY = (
    "Content-Security-Policy",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
HTML = "text/html; charset=utf-8"
STRICT_TRANSPORT = ("Strict-Transport-Security", "max-age=31536000")
_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Request-ID"
_EXPOSED_HEADERS = (
    "ETag, Idempotent-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Cache, X-Request-ID"
)
_PREFLIGHT_SECONDS = "600"  # that a browser may remember the answer
_ALLOWED = "petstore.cors"  # in the environ: this request's origin may call


def cors_headers(environ: dict[str, Any], origins: Sequence[str]) -> Headers:
    """What every answer says to the origin of its request. No cookies are asked for: tokens come in a header."""
    if not origins:
        return []
    origin = str(environ.get("HTTP_ORIGIN"))
    if origin not in origins:
        return [("Vary", "Origin")]
    environ[_ALLOWED] = True
    return [("Vary", "Origin"), ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _EXPOSED_HEADERS)]


def is_preflight(environ: Mapping[str, Any]) -> bool:
    """Whether a browser asks, for an origin that may call, what it may send."""
    asks = environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    return asks and _ALLOWED in environ


def preflight(methods: Iterable[str]) -> dict[str, str]:
    """What it may send to a path that takes these methods."""
    return {
        "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
        "Access-Control-Allow-Headers": _REQUEST_HEADERS,
        "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        "Cache-Control": "no-store",
    }


def etag_matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match names this tag (RFC 9110, 13.1.2): weak comparison; our tags have no comma inside."""
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return "*" in tags or etag in tags
