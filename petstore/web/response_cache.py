"""Cached reads that were answered before and are still true: from this process's memory, past the routes, without a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from petstore.auth.tokens import Caller
from petstore.cache.document import Document
from petstore.cache.local import Entry
from petstore.domain import logins
from petstore.services import Services
from petstore.web.headers import etag_matches

Headers = list[tuple[str, str]]
_LOOK, _GENERATIONS = "petstore.look", "petstore.generations"  # in the environ
_NOT_OF_304 = {"Content-Type", "Content-Length"}  # RFC 9110, 15.4.5


@dataclass(frozen=True)
class CachedResponse:
    """An answer as it went out once. etag: of its body."""

    headers: Headers
    body: bytes
    etag: str


@dataclass(frozen=True)
class Lookup:
    """What is here for a request. page: the answer; login: that of its token; caller: who that is."""

    page: Entry | None = None
    login: Entry | None = None
    caller: Caller | None = None

    @property
    def kept(self) -> list[Entry]:
        return [kept for kept in (self.page, self.login) if kept is not None]


class ResponseCache:
    """Which requests can be answered at once, and the answers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.cache = services.cache

    def look(self, environ: dict[str, Any]) -> Lookup:
        """What is here for a request; whether it is still true has to be asked yet."""
        found: Lookup | None = environ.get(_LOOK)
        if found is None:
            found = environ[_LOOK] = self._look(environ)
        return found

    def _look(self, environ: dict[str, Any]) -> Lookup:
        memory, plain = self._services.local_cache, may_hit(environ)
        page = memory.get(_key(environ, None)) if plain else None
        if page is not None:
            return Lookup(page)
        caller, login = logins.cached_caller(self._services, environ.get("HTTP_AUTHORIZATION"))
        if caller is None:
            return Lookup()
        return Lookup(memory.get(_key(environ, caller)) if plain else None, login, caller)

    def find(self, environ: dict[str, Any]) -> CachedResponse | None:
        """The answer to a request, if it is here and still true."""
        look = self.look(environ) if may_hit(environ) else None
        if look is None or look.page is None:
            return None
        if _GENERATIONS not in environ:
            environ[_GENERATIONS] = self.cache.generations([kept.prefix for kept in look.kept])
        now, page = environ[_GENERATIONS], look.page.value
        return page if all(now.get(kept.prefix) == kept.generation for kept in look.kept) else None

    def answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes] | None:
        """Give the answer to a request, if it is here and still true; else None."""
        page = self.find(environ)
        if page is None:
            return None
        if (caller := self.look(environ).caller) is not None:
            self._services.request_rate.count(f"user {caller.id}")
        if etag_matches(environ.get("HTTP_IF_NONE_MATCH"), page.etag):
            start("304 Not Modified", [pair for pair in page.headers if pair[0] not in _NOT_OF_304])
            return []
        start("200 OK", page.headers)
        return [page.body]


def keep(services: Services, environ: dict[str, Any], caller: Caller | None, document: Document, headers: Headers) -> None:
    """Keep the answer to a request, which is a hit, for the next one that asks the same."""
    if document.fresh is not None and may_hit(environ):
        page = CachedResponse(headers, document.body, document.etag)
        services.local_cache.keep(_key(environ, caller), page, document.fresh, len(document.body) + 2000)


def note_generations(environ: dict[str, Any], found: Mapping[str, str | None]) -> None:
    """Note the generations that were asked for after the request had come."""
    environ[_GENERATIONS] = found


def generations(environ: Mapping[str, Any]) -> Mapping[str, str | None]:
    """The generations that were asked for when this request had come."""
    found: Mapping[str, str | None] = environ.get(_GENERATIONS, {})
    return found


def _key(environ: dict[str, Any], caller: Caller | None) -> tuple[str, str, Caller | None]:
    return environ["PATH_INFO"], environ.get("QUERY_STRING", ""), caller


def may_hit(environ: Mapping[str, Any]) -> bool:
    """Whether a request is of those that can be answered from memory: a GET without a body."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ.get("CONTENT_LENGTH", "") in ("", "0")
        and "HTTP_TRANSFER_ENCODING" not in environ
    )
