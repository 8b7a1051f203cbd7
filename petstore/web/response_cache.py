"""The response cache: whole answers to cached reads, in this process's memory.

How a cached read goes:

1. The first one is a MISS: its handler (petstore.cache.decorator) asks Redis, then the database, and stores the answer in Redis.
2. The next one is a HIT in Redis. RequestPlugin calls `store`, which keeps the response in memory with prefix and generation.
3. From then on RequestMiddleware calls `respond` before any routing. `lookup` finds the response in memory, and for a personal
   one the caller's login. The response is sent if the generations of both are still the current ones.

A response that is asked for in gzip is compressed once, and kept so beside its bytes as they are. Redis keeps only these: see
docs/performance.md.

Under waitress, FastPath (petstore.server.waitress_fast_path) does step 3 in the I/O thread, so it needs no worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from petstore.auth.tokens import Caller
from petstore.cache.document import Validity
from petstore.cache.local import Entry
from petstore.domain import logins
from petstore.services import Services
from petstore.web.compression import LEAST_BYTES, asks_for_gzip, compress, gzip_headers
from petstore.web.headers import Headers, etag_matches

_LOOKUP, _GENERATIONS = "petstore.lookup", "petstore.generations"  # keys of the WSGI environ
_NOT_IN_304 = {"Content-Type", "Content-Length", "Content-Encoding"}  # RFC 9110, 15.4.5
_HEADER_BYTES = 2000  # about, of a response in memory


@dataclass
class CachedResponse:
    """A response as it is without a coding. etag: of its body. gzip: headers and body in gzip, once they were asked for."""

    headers: Headers
    body: bytes
    etag: str
    gzip: tuple[Headers, bytes] | None = None

    def in_gzip(self) -> tuple[Headers, bytes]:
        """Headers and body in gzip."""
        if self.gzip is None:
            body = compress(self.body)
            self.gzip = gzip_headers(self.headers, len(body)), body
        return self.gzip

    @property
    def size(self) -> int:
        """About what it takes in memory, in bytes."""
        return _HEADER_BYTES + len(self.body) + (_HEADER_BYTES + len(self.gzip[1]) if self.gzip else 0)


@dataclass(frozen=True)
class Lookup:
    """What memory has for a request. response: a CachedResponse; login: the caller's, if the request has a known token."""

    response: Entry | None = None
    login: Entry | None = None
    caller: Caller | None = None

    @property
    def entries(self) -> list[Entry]:
        """Those whose generations must be current."""
        return [entry for entry in (self.response, self.login) if entry is not None]


class ResponseCache:
    """Answers requests from memory."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.cache = services.cache

    def lookup(self, environ: dict[str, Any]) -> Lookup:
        """What memory has for a request, looked up once. Whether it is still true is not asked here."""
        found: Lookup | None = environ.get(_LOOKUP)
        if found is None:
            found = environ[_LOOKUP] = self._lookup(environ)
        return found

    def _lookup(self, environ: dict[str, Any]) -> Lookup:
        memory, cacheable = self._services.local_cache, is_cacheable(environ)
        public = memory.get(_key(environ, None)) if cacheable else None
        if public is not None:
            return Lookup(public)
        caller, login = logins.cached_caller(self._services, environ.get("HTTP_AUTHORIZATION"))
        if caller is None:
            return Lookup()
        return Lookup(memory.get(_key(environ, caller)) if cacheable else None, login, caller)

    def find(self, environ: dict[str, Any]) -> CachedResponse | None:
        """The response to a request, if it is in memory and still true."""
        found = self.lookup(environ) if is_cacheable(environ) else None
        if found is None or found.response is None:
            return None
        if _GENERATIONS not in environ:
            environ[_GENERATIONS] = self.cache.generations([entry.prefix for entry in found.entries])
        current: Mapping[str, str | None] = environ[_GENERATIONS]
        response: CachedResponse = found.response.value
        return response if all(current.get(entry.prefix) == entry.generation for entry in found.entries) else None

    def respond(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes] | None:
        """Answer a request from memory (WSGI); None if that is not possible."""
        response = self.find(environ)
        if response is None:
            return None
        if (caller := self.lookup(environ).caller) is not None:
            self._services.request_rate.count(f"user {caller.id}")
        in_gzip = _has_to_be_in_gzip(response, environ)
        if etag_matches(environ.get("HTTP_IF_NONE_MATCH"), response.etag):
            headers = gzip_headers(response.headers, 0) if in_gzip else response.headers
            start("304 Not Modified", [pair for pair in headers if pair[0] not in _NOT_IN_304])
            return []
        headers, body = self._in_gzip(environ, response) if in_gzip else (response.headers, response.body)
        start("200 OK", headers)
        return [body]

    def is_ready(self, environ: dict[str, Any]) -> bool:
        """Whether `respond` answers at once: from memory, and without having to compress anything."""
        response = self.find(environ)
        if response is None or response.gzip is not None or not _has_to_be_in_gzip(response, environ):
            return response is not None
        return etag_matches(environ.get("HTTP_IF_NONE_MATCH"), response.etag)

    def _in_gzip(self, environ: dict[str, Any], response: CachedResponse) -> tuple[Headers, bytes]:
        if response.gzip is None:
            response.in_gzip()
            key = _key(environ, self.lookup(environ).caller)
            self._services.local_cache.resize(key, response, _size(environ, response))
        return response.in_gzip()


def store(
    services: Services, environ: dict[str, Any], caller: Caller | None, response: CachedResponse, validity: Validity | None
) -> None:
    """Keep a response in memory, if it may be kept."""
    if validity is not None and is_cacheable(environ):
        services.local_cache.keep(_key(environ, caller), response, validity, _size(environ, response))


def _size(environ: Mapping[str, Any], response: CachedResponse) -> int:
    return response.size + len(environ.get("QUERY_STRING", ""))  # a query may be longer than its answer


def set_generations(environ: dict[str, Any], current: Mapping[str, str | None]) -> None:
    """Attach generations to a request. They must have been read after the request arrived."""
    environ[_GENERATIONS] = current


def known_generations(environ: Mapping[str, Any]) -> Mapping[str, str | None]:
    """The generations that were read after this request arrived, by prefix."""
    found: Mapping[str, str | None] = environ.get(_GENERATIONS, {})
    return found


def is_cacheable(environ: Mapping[str, Any]) -> bool:
    """Whether a request can be answered from memory at all: a GET without a body, and without a header that its route refuses."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ.get("CONTENT_LENGTH", "") in ("", "0")
        and "HTTP_TRANSFER_ENCODING" not in environ
        and "HTTP_IDEMPOTENCY_KEY" not in environ
        and "HTTP_IF_MATCH" not in environ
    )


def _has_to_be_in_gzip(response: CachedResponse, environ: Mapping[str, Any]) -> bool:
    return asks_for_gzip(environ) and len(response.body) > LEAST_BYTES


def _key(environ: dict[str, Any], caller: Caller | None) -> tuple[str, str, Caller | None]:
    return environ["PATH_INFO"], environ.get("QUERY_STRING", ""), caller
