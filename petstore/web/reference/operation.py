"""One operation of the OpenAPI document as HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from petstore.errors import PROBLEMS
from petstore.web.pages import fill, with_code
from petstore.web.reference import markup
from petstore.web.reference.samples import LANGUAGES, body_of, samples, value
from petstore.web.reference.schemas import Schemas, link, member, names_in

_LONGEST_EXAMPLE = 4_000  # characters of an answer that is shown
_STATUS = {"200": "OK", "201": "Created", "204": "No Content", "304": "Not Modified"}


class Operation:
    """An operation with what its HTML is made of. usual: the slugs of the errors that every operation may answer with."""

    def __init__(self, method: str, path: str, facts: Mapping[str, Any], schemas: Schemas, usual: frozenset[str]) -> None:
        self.method, self.path, self._facts, self._schemas, self._usual = method.upper(), path, facts, schemas, usual
        self.id, self.tag, self.summary = str(facts["operationId"]), str(facts["tags"][0]), str(facts["summary"])

    def in_contents(self) -> str:
        """Its line in the table of contents."""
        words = escape(f"{self.summary} {self.id}".lower())
        named = f'<span class="method {self.method}">{self.method}</span> <span>{markup.path(self.path)}</span>'
        return f'<li data-words="{words}"><a href="#{self.id}">{named}</a></li>'

    def section(self) -> str:
        """All about it."""
        return fill(
            "operation",
            id=self.id,
            method=self.method,
            path=markup.path(self.path),
            summary=with_code(self.summary),
            about=self._about() + self._parameters() + self._body() + self._answers() + self._errors(),
            code=self._code(),
            form=self._form(),
        )

    def slugs(self) -> list[str]:
        """The errors that it may answer with."""
        return slugs_of(self._facts)

    def _about(self) -> str:
        text = self._facts["description"].strip()
        repeats = text.split("\n")[0].rstrip(".").replace("`", "") == self.summary  # the head says it already
        return markup.prose(text.partition("\n")[2] if repeats else text)

    def _parameters(self) -> str:
        rows = "".join(
            member(
                parameter["name"],
                f"{parameter['in']}, {self._schemas.in_words(parameter['schema'], linked=False)}",
                parameter.get("required", False),
                parameter.get("description", ""),
            )
            for parameter in self._facts["parameters"]
        )
        return f'<h4>Parameters</h4><ul class="members">{rows}</ul>' if rows else ""

    def _body(self) -> str:
        body = self._facts.get("requestBody")
        if not body:
            return ""
        schema = body["content"]["application/json"]["schema"]
        about = markup.prose(self._schemas.resolve(schema).get("description", ""))
        optional = "" if body.get("required") else "<p>It may be left out.</p>"
        return f"<h4>Body</h4>{about}{optional}{self._schemas.members(schema, deep=True)}"

    def _answers(self) -> str:
        return "<h4>Answer</h4>" + "".join(
            self._answer(status, answer) for status, answer in self._facts["responses"].items() if status < "400"
        )

    def _answer(self, status: str, answer: Mapping[str, Any]) -> str:
        content = answer.get("content", {})
        what: Mapping[str, Any] = next(iter(content.values()), {})
        names = " or ".join(map(link, names_in(what.get("schema", {})))) or with_code(", ".join(content))
        is_what = f": {names}" if names else ""
        headers = ", ".join(f"<code>{name}</code>" for name in answer.get("headers", ()) if name != "X-Request-ID")
        told = markup.prose(answer["description"]) + (f"<p>Headers: {headers}</p>" if headers else "")
        status_line = f'<p><strong class="ok">{status} {_STATUS.get(status, "")}</strong>{is_what}</p>'
        return status_line + told + "".join(_example(name, example) for name, example in what.get("examples", {}).items())

    def _errors(self) -> str:
        own = [slug for slug in self.slugs() if slug not in self._usual]
        usual = [slug for slug in self.slugs() if slug in self._usual]
        return f"<h4>Errors</h4>{_problems(own)}<details><summary>Errors of every request</summary>{_problems(usual)}</details>"

    def _code(self) -> str:
        found = samples(self.method, self.path, self._facts)
        tabs = "".join(
            f'<input type="radio" name="code-{self.id}" id="{language}-{self.id}" value="{language}"{" checked" * (number == 0)}>'
            f'<label for="{language}-{self.id}">{name}</label>'
            for number, (language, name) in enumerate(LANGUAGES.items())
        )
        codes = "".join(f'<pre class="{language}" tabindex="0">{escape(code)}</pre>' for language, code in found.items())
        return f'<fieldset class="tabs"><legend>Code</legend>{tabs}{codes}</fieldset>'

    def _form(self) -> str:
        fields = "".join(self._fields())
        needs = ' data-login="needed"' if self._facts.get("security") else ""
        path = escape(self.path)
        return f'<form class="try" data-method="{self.method}" data-path="{path}"{needs}>{fields}<button>Send</button></form>'

    def _fields(self) -> Iterator[str]:
        for parameter in self._facts["parameters"]:
            name, required = parameter["name"], parameter.get("required", False)
            given = f' required value="{escape(str(value(parameter)))}"' if required else ""
            yield f'<label>{name} <input name="{name}" data-in="{parameter["in"]}" autocomplete="off"{given}></label>'
        examples = body_of(self._facts)
        if len(examples) > 1:
            options = "".join(
                f'<option value="{escape(_json(example))}">{with_code(name)}</option>' for name, example in examples.items()
            )
            yield f"<label>Example <select>{options}</select></label>"
        if "requestBody" in self._facts:
            yield body_field(next(iter(examples.values()), {}))


def slugs_of(facts: Mapping[str, Any]) -> list[str]:
    """The slugs of the errors that an operation may answer with: it has an example of each."""
    contents = (answer.get("content", {}) for answer in facts["responses"].values())
    examples = (name for content in contents for media_type in content.values() for name in media_type.get("examples", ()))
    return [name for name in examples if name in PROBLEMS]


def body_field(example: Any) -> str:
    """A field with a body to be sent."""
    text = _json(example)
    rows = min(text.count("\n") + 1, 14)
    return f'<label>Body <textarea name="body" rows="{rows}" spellcheck="false">{escape(text)}</textarea></label>'


def _problems(slugs: list[str]) -> str:
    rows = (
        f'<li><span>{kind.status}</span> <a href="/problems/{slug}">{slug}</a> <span>{escape(kind.title())}</span></li>'
        for slug, kind in ((slug, PROBLEMS[slug]) for slug in slugs)
    )
    return f'<ul class="errors">{"".join(rows)}</ul>' if slugs else ""


def _example(name: str, example: Mapping[str, Any]) -> str:
    text = _json(example.get("value"))
    if len(text) > _LONGEST_EXAMPLE:
        text = text[:_LONGEST_EXAMPLE].rpartition("\n")[0] + "\n…"
    return f'<details><summary>Example: {with_code(name)}</summary><pre tabindex="0">{escape(text)}</pre></details>'


def _json(example: Any) -> str:
    return json.dumps(example, ensure_ascii=False, indent=2)
