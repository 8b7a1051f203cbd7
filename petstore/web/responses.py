"""HTTP responses: of what a handler returns or raises, with its headers, in gzip where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bottle import HTTPResponse
from bottle import request as bottle_request

from petstore import errors
from petstore.cache.document import Document
from petstore.request import FileDocument, Request, Response
from petstore.services import Services
from petstore.web import compression, response_cache
from petstore.web.headers import HTML, PAGE_POLICY, etag_matches, gzip_tag, prefers_html
from petstore.web.pages import problem_page


class Kind(NamedTuple):
    """The answers of a route. is_static: they are pages and their files, of which there are only so many."""

    cache_control: str
    may_be_compressed: bool
    is_static: bool


def kind_of(method: str, facts: Mapping[str, Any]) -> Kind:
    """The kind of answers of a route with these facts."""
    cache_control = facts.get("cache_control") or _cache_control(method, facts["auth"])
    return Kind(cache_control, not compression.holds_secret(facts), not facts.get("database", True))


def _cache_control(method: str, auth: str) -> str:
    if method != "GET":
        return "no-store"
    return "no-cache" if auth == "anyone" else "private, no-cache"


class Responses:
    """Makes the responses of one process."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def respond(self, request: Request, result: Document | FileDocument | Response, kind: Kind) -> HTTPResponse:
        """The response for what a handler has returned. It is kept in memory if it may be."""
        if isinstance(result, Document):
            return self._respond_with_document(request, result, kind)
        if isinstance(result, FileDocument):
            return _respond_with_file(result, kind.cache_control)
        headers = {**result.headers, "Cache-Control": kind.cache_control}
        response = HTTPResponse(request.encode(result.value), result.status, headers)
        response.content_type = "application/json" if result.status < 400 else errors.PROBLEM_JSON
        return compression.negotiated(response, bottle_request.environ) if kind.may_be_compressed else response

    def _respond_with_document(self, request: Request, document: Document, kind: Kind) -> HTTPResponse:
        environ = bottle_request.environ
        headers = {"ETag": document.etag, "Cache-Control": kind.cache_control, "Content-Length": str(len(document.body))}
        response = HTTPResponse(document.body, 200, headers)
        if document.cache is not None:
            response.set_header("X-Cache", document.cache)
        if document.content_type == HTML:
            response.set_header(*PAGE_POLICY)
        response.content_type = document.content_type
        in_gzip = kind.may_be_compressed and compression.negotiate(response, environ)
        kept = response_cache.CachedResponse(response.headerlist, document.body, document.etag)
        if etag_matches(environ.get("HTTP_IF_NONE_MATCH"), document.etag):
            response.status, response.body = 304, b""
            del response["Content-Length"]
            response.set_header("ETag", gzip_tag(document.etag) if in_gzip else document.etag)
        elif in_gzip:
            once = compression.compress_once(document.body) if kind.is_static else kept.in_gzip()[1]
            compression.put_gzip(response, once)
        response_cache.store(self._services, environ, request.caller, kept, document.validity)
        return response


def _respond_with_file(document: FileDocument, cache_control: str) -> HTTPResponse:
    etag = gzip_tag(document.etag) if document.in_gzip else document.etag
    headers = {"ETag": etag, "Cache-Control": cache_control, "Vary": "Accept-Encoding"}
    if etag_matches(bottle_request.environ.get("HTTP_IF_NONE_MATCH"), document.etag):
        document.file.close()
        return HTTPResponse(b"", 304, headers)
    response = HTTPResponse(document.file, 200, {**headers, "Content-Length": str(document.size)})
    response.content_type = Document.content_type
    if document.in_gzip:
        response.set_header("Content-Encoding", "gzip")
    return response


def problem_response(problem: errors.Problem, for_people: bool = False) -> HTTPResponse:
    """The HTTP response for an error. for_people: where a page could be, so that a browser gets one that explains the error."""
    response = HTTPResponse(errors.render(problem, request_id()), problem.status, problem.headers)
    response.content_type = errors.PROBLEM_JSON
    response.set_header("Cache-Control", "no-store")
    if for_people:
        response.set_header("Vary", "Accept")
        if prefers_html(bottle_request.environ.get("HTTP_ACCEPT", "")):
            response.body, response.content_type = problem_page(problem, request_id()), HTML
            response.set_header(*PAGE_POLICY)
    return compression.negotiated(response, bottle_request.environ)


def request_id() -> str:
    """The id of the current request, set by petstore.web.middleware."""
    return str(bottle_request.environ["petstore.request_id"])
