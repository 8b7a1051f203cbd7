"""Answers in gzip, for clients that take it (RFC 9110, 8.4 and 12.5.3).

An answer over LEAST_BYTES has `Vary: Accept-Encoding`, in whatever coding it is sent. In gzip its ETag ends in -gzip, and is the
same otherwise. An answer that holds a secret is never compressed: its length would tell of the secret (BREACH).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bottle import HTTPResponse

from petstore.cache.document import gzip_packer
from petstore.web.headers import Headers, gzip_tag
from petstore.web.validation import SCHEMAS

LEAST_BYTES = 1024  # up to here an answer fits into one packet anyhow
_QUICK, _BEST = 6, 9  # levels of zlib: of what is compressed for a request; of what is compressed once
_LONGEST = 256  # characters of an Accept-Encoding that is read: no client needs more
_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def asks_for_gzip(environ: Mapping[str, Any]) -> bool:
    """Whether a client would rather have gzip than the bytes as they are."""
    header = environ.get("HTTP_ACCEPT_ENCODING")
    return header is not None and len(header) <= _LONGEST and _prefers_gzip(header)


@lru_cache(64)
def _prefers_gzip(header: str) -> bool:
    """What is no coding with a weight is not there. `identity` that is not named weighs nothing, and is fallen back to."""
    weights = {}
    for element in header.lower().split(","):
        coding, _, parameter = (part.strip(" \t") for part in element.partition(";"))
        weight = _WEIGHT.fullmatch(parameter or "q=1")
        if weight:
            weights[coding] = float(weight[1])
    others = weights.get("*", 0.0)
    gzip = weights.get("gzip", weights.get("x-gzip", others))  # two names of one coding (RFC 9110, 8.4.1.3)
    return 0 < gzip >= weights.get("identity", others)


def compress(body: bytes, level: int = _QUICK) -> bytes:
    """The body in gzip."""
    packer = gzip_packer(level)
    return packer.compress(body) + packer.flush()


@lru_cache(256)
def compress_once(body: bytes) -> bytes:
    """The body of a page, or of a file of the pages, in gzip: compressed once, as well as it can be, and kept."""
    return compress(body, _BEST)


def gzip_headers(headers: Headers, size: int) -> Headers:
    """The headers of the same answer in gzip. size: of its body, in bytes."""
    own = [(name, gzip_tag(value) if name.lower() == "etag" else value) for name, value in headers if name != "Content-Length"]
    return [*own, ("Content-Encoding", "gzip"), ("Content-Length", str(size))]


def negotiate(response: HTTPResponse, environ: Mapping[str, Any]) -> bool:
    """Whether this response has to be sent in gzip. If it could be, it says so (Vary)."""
    if len(response.body) <= LEAST_BYTES:
        return False
    add_vary(response)
    return asks_for_gzip(environ)


def add_vary(response: HTTPResponse) -> None:
    """Say that a response depends on Accept-Encoding."""
    response.set_header("Vary", ", ".join(filter(None, (response.get_header("Vary"), "Accept-Encoding"))))


def put_gzip(response: HTTPResponse, body: bytes) -> None:
    """Give a response its body in gzip, and the headers that go with it."""
    response.body = body
    response.set_header("Content-Encoding", "gzip")
    response.set_header("Content-Length", str(len(body)))
    if etag := response.get_header("ETag"):
        response.set_header("ETag", gzip_tag(etag))


def negotiated(response: HTTPResponse, environ: Mapping[str, Any]) -> HTTPResponse:
    """The response, in gzip if it has to be."""
    if negotiate(response, environ):
        put_gzip(response, compress(response.body))
    return response


def holds_secret(facts: Mapping[str, Any]) -> bool:
    """Whether the answers of a route hold a secret: a member whose JSON Schema has `"x-secret": true`.

    (Not `"format": "password"`, of which generators make a type that is no string: a token could not be put into a header.)
    """
    waiting = {str(facts.get(fact)) for fact in ("returns", "pages")} & SCHEMAS.keys()
    seen: set[str] = set()
    while waiting:
        seen.add(name := waiting.pop())
        text = json.dumps(SCHEMAS[name], separators=(",", ":"))
        if '"x-secret":true' in text:
            return True
        waiting |= set(re.findall(r'"\$ref":"(\w+)\.json', text)) - seen
    return False
