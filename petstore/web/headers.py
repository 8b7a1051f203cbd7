"""Response headers: CORS, security headers, Vary, ETags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Headers = list[tuple[str, str]]
SECURITY_HEADERS: Headers = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),  # about embedding; CORS calls are not affected
]
# For our own pages: they load from this server only, and no inline script or style works.
PAGE_POLICY = (
    "Content-Security-Policy",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
HTML = "text/html; charset=utf-8"
STRICT_TRANSPORT = ("Strict-Transport-Security", "max-age=31536000")
_REQUEST_HEADERS = (  # those that we read, and those that libraries of pages add
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, If-Match, If-None-Match, traceparent, tracestate,"
    " X-Request-ID, X-Requested-With"
)
_EXPOSED_HEADERS = (
    "ETag, Idempotent-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Cache, X-Request-ID"
)
_JSON = ("application/json", "application/problem+json")
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")
_PREFLIGHT_SECONDS = "600"  # that a browser may cache the answer
_IN_GZIP = '-gzip"'  # the end of the ETag of an answer in gzip
_ALLOWED = "petstore.cors"  # set in the WSGI environ if the request's origin may call


def cors_headers(environ: dict[str, Any], origins: Sequence[str]) -> Headers:
    """The CORS headers of every answer. Credentials are not allowed: tokens come in a header, not in cookies."""
    if not origins:
        return []
    origin = str(environ.get("HTTP_ORIGIN"))
    if origin not in origins:
        return [("Vary", "Origin")]
    environ[_ALLOWED] = True
    return [("Vary", "Origin"), ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _EXPOSED_HEADERS)]


def prefers_html(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, 12.5.1) asks for a page rather than for JSON: a browser's, not that of a program."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
        weights[media_type] = float(found[0]) if found and _WEIGHT.fullmatch(found[0]) else 1.0
    anything = weights.get("*/*", 0.0)
    json = (weights.get(media_type, weights.get("application/*", anything)) for media_type in _JSON)
    return weights.get("text/html", weights.get("text/*", anything)) > max(json)


def is_preflight(environ: Mapping[str, Any]) -> bool:
    """Whether this is a CORS preflight from an origin that may call."""
    preflight = environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
    return preflight and _ALLOWED in environ


def preflight(methods: Iterable[str]) -> dict[str, str]:
    """The headers that answer a preflight for a path with these methods."""
    return {
        "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
        "Access-Control-Allow-Headers": _REQUEST_HEADERS,
        "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        "Cache-Control": "no-store",
    }


def with_added(own: Headers, added: Headers) -> Headers:
    """Headers of an answer, and those that every answer gets. Its own win: a page has a Content-Security-Policy of its own."""
    names = {name for name, _ in own}
    if "Vary" in names and ("Vary", "Origin") in added:  # which says both
        own = [(name, f"{value}, Origin" if name == "Vary" else value) for name, value in own]
    return [*own, *(pair for pair in added if pair[0] not in names)]


def gzip_tag(etag: str) -> str:
    """The ETag that an answer has in gzip."""
    return etag.removesuffix('"') + _IN_GZIP


def etag_matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match contains this tag, in any coding, by weak comparison (RFC 9110, 13.1.2). Ours have no comma."""
    tags = [tag.strip().removeprefix("W/").replace(_IN_GZIP, '"') for tag in (header or "").split(",")]
    return "*" in tags or etag in tags
