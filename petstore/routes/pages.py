"""Web pages (home, interactive reference, errors) and the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from importlib import resources
from string import Template
from typing import Any

from swagger_ui_bundle import swagger_ui_path

from petstore import __version__, errors
from petstore.cache.document import Document, document
from petstore.request import Request
from petstore.web.headers import HTML
from petstore.web.openapi import EXPLANATIONS, problem_example

_PAGES = resources.files("petstore.pages")
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def openapi(describe: Callable[[], dict[str, Any]]) -> Callable[[Request], Document]:
    """The handler of GET /openapi.json. It builds the document once, at the first request."""
    built: list[Document] = []

    def get_openapi(request: Request) -> Document:
        """This document.

        Clients can be generated from it: docs/api.md says with what.
        """
        if not built:
            built.append(request.document(describe()))
        return built[0]

    return get_openapi


def get_home(request: Request) -> Document:
    """A page that says what this is.

    Made for people. Programs take GET /readyz and GET /openapi.json.
    """
    return _page("home", "Petstore", version=__version__)


def get_docs(request: Request) -> Document:
    """The interactive reference: every request can be tried in the browser.

    It works without internet, and sends what you try to this service.
    """
    return _page("docs", "Petstore reference", password_min=str(request.services.settings.password_min))


def get_asset(request: Request) -> Document:
    """A file that the pages need.

    Style sheets, scripts and pictures; the pages name them.
    """
    path = _ASSETS.get(request.path["file"])
    if path is None:
        raise errors.NotFound("There is no such file.")
    return document(path.read_bytes(), content_type=_TYPES[path.name.rpartition(".")[2]])


def list_problems(request: Request) -> Document:
    """A page with every type of error.

    The `type` of an error is the address of its own page.
    """
    rows = (
        f'<tr><td>{kind.status}</td><td><a href="/problems/{slug}">{slug}</a></td><td>{escape(kind.title())}.</td></tr>'
        for slug, kind in sorted(errors.PROBLEMS.items(), key=lambda item: (item[1].status, item[0]))
    )
    return _framed("problems", "Errors · Petstore", rows="\n".join(rows))


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
    return _page("problem", f"{slug} · Petstore", slug=slug, status=str(kind.status), **texts)


def _page(name: str, heading: str, **texts: str) -> Document:
    """Fill a page with texts, escaped; `backquoted` words become code. heading: the title of the window."""
    return _framed(name, heading, **{key: _with_code(escape(text)) for key, text in texts.items()})


def _framed(name: str, heading: str, **html: str) -> Document:
    """Fill a page, and put it into the frame that all pages share."""
    return document(_fill("frame", heading=heading, content=_fill(name, **html)).encode(), content_type=HTML)


def _fill(name: str, **html: str) -> str:
    return Template(_PAGES.joinpath(f"{name}.html").read_text("utf-8")).substitute(html)


def _with_code(text: str) -> str:
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


_FILES = [path for path in _PAGES.iterdir() if path.name.rpartition(".")[2] in _TYPES]
_SWAGGER_UI = [swagger_ui_path / name for name in ("swagger-ui-bundle.js", "swagger-ui.css")]
_ASSETS = {path.name: path for path in [*_FILES, *_SWAGGER_UI]}  # the paths only: the files have 2 MB
