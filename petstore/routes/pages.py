"""Web pages (home, interactive reference, errors) and the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import Any

from petstore import __version__, errors
from petstore.cache.document import Document
from petstore.request import Request
from petstore.web import pages
from petstore.web.openapi import EXPLANATIONS, problem_example
from petstore.web.reference.page import reference_page

FOR_EVER = "public, max-age=31536000, immutable"  # Cache-Control of files whose name has their hash
Describe = Callable[[], dict[str, Any]]  # makes the OpenAPI document


def openapi(describe: Describe) -> Callable[[Request], Document]:
    """The handler of GET /openapi.json. It builds the document once, at the first request."""
    built: list[Document] = []

    def get_openapi(request: Request) -> Document:
        """This document.

        Clients can be generated from it.
        """
        if not built:
            built.append(request.document(describe()))
        return built[0]

    return get_openapi


def docs(describe: Describe) -> Callable[[Request], Document]:
    """The handler of GET /docs. It builds the page once, at the first request."""
    built: list[Document] = []

    def get_docs(request: Request) -> Document:
        """The interactive reference: every request can be tried in the browser.

        It works without internet, and sends what you try to this service.
        """
        if not built:
            built.append(reference_page(describe(), request.services.settings.password_min))
        return built[0]

    return get_docs


def get_home(request: Request) -> Document:
    """A page that says what this is.

    Made for people. Programs take GET /readyz and GET /openapi.json.
    """
    return pages.page("home", "Petstore", version=__version__)


def get_asset(request: Request) -> Document:
    """A file that the pages need.

    Style sheets, scripts and pictures; the pages name them. A name has a hash of the bytes, so the file can be kept for ever.
    """
    found = pages.ASSETS.get(request.path["file"])
    if found is None:
        raise errors.NotFound("There is no such file: the pages name those there are, each with the hash of its content.")
    return found


def list_problems(request: Request) -> Document:
    """A page with every type of error.

    The `type` of an error is the address of its own page.
    """
    rows = (
        f'<li><span>{kind.status}</span><a href="/problems/{slug}">{slug}</a><span>{escape(kind.title())}.</span></li>'
        for slug, kind in sorted(errors.PROBLEMS.items(), key=lambda item: (item[1].status, item[0]))
    )
    return pages.framed("problems", "Errors · Petstore", rows="\n".join(rows))


def get_problem(request: Request) -> Document:
    """A page about one type of error: what it means, and what to do.

    The `type` of every error leads here. The slug is what comes after /problems/.
    """
    slug = request.path["slug"]
    if slug not in errors.PROBLEMS:
        raise errors.NotFound("There is no such type of error; GET /problems lists those there are.")
    kind, explanation = errors.PROBLEMS[slug], EXPLANATIONS[slug]
    example = json.dumps(problem_example(slug), indent=2)
    texts = {"title": kind.title(), "means": explanation["means"], "do": explanation["do"], "example": example}
    return pages.page("problem", f"{slug} · Petstore", slug=slug, status=str(kind.status), **texts)
