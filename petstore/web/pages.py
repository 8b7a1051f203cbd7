"""Web pages: templates of petstore/pages in one frame, and the files that they need, each under a name with its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template

from petstore import errors
from petstore.cache.document import Document, document
from petstore.web.headers import HTML

_FOLDER = resources.files("petstore.pages")
ORIGIN = "http://127.0.0.1:8080"  # in code: where scripts/serve serves; petstore/pages/page.js shows the page's own instead
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def hashed_name(name: str, content: bytes) -> str:
    """`pages.css` with a hash of its bytes, such as `pages.1f0e9c2b7a44.css`: equal names have equal bytes, for ever."""
    stem, _, kind = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{kind}"


_CONTENTS = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.name.rpartition(".")[2] in _TYPES}
_NAMES = {name: hashed_name(name, content) for name, content in _CONTENTS.items()}
ASSETS: Mapping[str, Document] = {  # by hashed name
    _NAMES[name]: document(content, content_type=_TYPES[name.rpartition(".")[2]]) for name, content in _CONTENTS.items()
}


def asset(name: str) -> str:
    """The path of a file of petstore/pages."""
    return f"/assets/{_NAMES[name]}"


_PATHS = {name.replace(".", "_"): asset(name) for name in _NAMES}  # in a template, $pages_css is the path of pages.css


def page(name: str, heading: str, **texts: str) -> Document:
    """Fill a page with texts, escaped; `backquoted` words become code. heading: the title of the window."""
    return framed(name, heading, **{key: with_code(text) for key, text in texts.items()})


def framed(name: str, heading: str, **html: str) -> Document:
    """Fill a page with HTML, and put it into the frame that all pages share."""
    whole = fill("frame", heading=escape(heading), content=fill(name, **html))
    return document(whole.encode(errors="backslashreplace"), content_type=HTML)


def fill(name: str, **html: str) -> str:
    """A template of petstore/pages with HTML, with ORIGIN, and with the paths of the files that it names."""
    return Template(_FOLDER.joinpath(f"{name}.html").read_text("utf-8")).substitute(_PATHS, origin=ORIGIN, **html)


def with_code(text: str) -> str:
    """A text as HTML; `backquoted` words become code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def problem_page(problem: errors.Problem, request_id: str) -> bytes:
    """An error as a page, for who has asked for a page. Nothing of the request is in it that the error does not say."""
    texts = {"title": problem.title(), "detail": problem.detail, "status": str(problem.status), "request_id": request_id}
    return page("error", f"{problem.title()} · Petstore", slug=problem.slug, **texts).body
