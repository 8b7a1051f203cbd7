"""The pages: each is whole, leads only to what there is, and takes nothing from anywhere else."""

import hashlib
import json
import re
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest

import petstore
from petstore import __version__, errors
from petstore.web import pages
from petstore.web.headers import prefers_html
from petstore.web.openapi import EXPLANATIONS, problem_example
from petstore.web.reference.schemas import Schemas
from tests.openapi_contract import DOCUMENT

OWN = [path for path in (Path(petstore.__file__).parent / "pages").iterdir() if path.is_file()]
PAGES = ["/", "/docs", "/problems", *(f"/problems/{slug}" for slug in errors.PROBLEMS)]
VOID = {"link", "meta", "img", "input", "br", "wbr"}


class Reader(HTMLParser):
    """Reads HTML, and fails where an element is not closed in its turn; knows its elements and its text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.fields = []  # attributes of what can be filled in outside a label
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attributes)))
        if tag in ("input", "select", "textarea") and "label" not in self.open:
            self.fields.append(dict(attributes))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> ends nothing"
        assert self.open.pop() == tag, f"</{tag}> is not what was opened last"

    def handle_data(self, data):
        self.text += data

    def unlabelled(self):
        """Fields that have no label, neither around them nor by their id."""
        labels = self.values("for")
        return [attributes for attributes in self.fields if attributes.get("id") not in labels]

    def values(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def read(client, path):
    answer = client.get(path)
    assert (answer.status, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    return answer, Reader(answer.body.decode())


def links(document):
    """Addresses in the Markdown of the OpenAPI document."""
    return re.findall(r"\]\((\S+?)\)", json.dumps(document))


def test_pages_are_well_formed_and_may_load_only_what_is_ours(anyone):
    for path in PAGES:
        answer, page = read(anyone, path)
        policy = dict(part.split(maxsplit=1) for part in answer["Content-Security-Policy"].split("; "))
        assert {policy.pop(f"{kind}-src") for kind in ("script", "style", "img", "connect")} == {"'self'"}
        assert set(policy) == {"default-src", "base-uri", "form-action", "frame-ancestors"}
        assert set(policy.values()) == {"'none'"}
        assert answer.body.startswith(b"<!doctype html>\n")
        assert page.elements[0] == ("html", {"lang": "en"})
        assert [tag for tag, _ in page.elements].count("h1") == [tag for tag, _ in page.elements].count("title") == 1
        assert len(page.values("id")) == len(set(page.values("id")))
        # The policy would not let these work.
        assert all("src" in attributes for tag, attributes in page.elements if tag == "script")
        assert not [
            name for tag, attributes in page.elements for name in (tag, *attributes) if name == "style" or name[:2] == "on"
        ]


def test_every_link_leads_somewhere(anyone):
    seen, waiting = {"/"}, [("/", "/")]
    while waiting:
        page, address = waiting.pop()
        answer = anyone.get(address)
        assert answer.status == 200, f"{page} links to {address}"
        targets = links(DOCUMENT) if address == "/openapi.json" else []
        if answer["Content-Type"].startswith("text/html"):
            reader = Reader(answer.body.decode())
            targets = [*reader.values("href"), *reader.values("src")]
        for target in {urldefrag(urljoin(address, target)).url for target in targets} - seen:
            seen.add(target)
            waiting.append((address, target))
    assert seen > {*PAGES, "/openapi.json", *(f"/assets/{name}" for name in pages.ASSETS)}


def test_the_reference_has_every_operation_and_schema_and_links_within_it_lead_to_them(anyone):
    _, page = read(anyone, "/docs")
    ids, deep = page.values("id"), {link[1:] for link in page.values("href") if link.startswith("#")}
    assert deep <= set(ids)
    operations = [one["operationId"] for methods in DOCUMENT["paths"].values() for one in methods.values()]
    assert deep >= {*operations, *(f"schema-{name}" for name in ("Invoice", "Product", "ProductPage"))}
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(ids)
    tags = [name.removeprefix("tag-") for name in ids if name.startswith("tag-")]
    assert tags[-2:] == ["pages", "system"]
    assert tags[0] == "users"


def test_the_reference_tells_every_error_of_an_operation_in_one_line(anyone):
    sections = anyone.get("/docs").body.decode().split('<details class="operation" id="')[1:]
    shown = {section.partition('"')[0]: set(re.findall('href="/problems/(.+?)"', section)) for section in sections}
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            examples = (answer.get("content", {}).get(errors.PROBLEM_JSON, {}) for answer in operation["responses"].values())
            assert shown[operation["operationId"]] == {name for example in examples for name in example.get("examples", ())}


def test_the_reference_lists_what_an_answer_can_be(anyone):
    shown = anyone.get("/docs").body.decode().partition('id="get_products"')[2].partition("<h4>Errors</h4>")[0]
    assert "<ul><li><code>ProductPage</code>: " in shown
    assert "<li><code>Product</code>: " in shown


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 10000}, "integer from 1 to 10,000"),
        ({"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, "integer from 0 to 2<sup>63</sup> − 1"),
        ({"type": "string", "minLength": 1}, "string, at least 1 character"),
        ({"type": "string", "maxLength": 500, "minLength": 1}, "string, 1 to 500 characters"),
        ({"type": ["string", "null"], "pattern": "^<$"}, "string or null, <code>^&lt;$</code>"),
        (
            {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]},
            "day (RFC 3339) or time (RFC 3339)",
        ),
        ({"enum": ["a", None, True]}, "one of <code>a</code>, <code>null</code>, <code>true</code>"),
        (
            {"type": "array", "maxItems": 100, "minItems": 1, "items": {"$ref": "#/components/schemas/Line"}},
            'array of <a href="#schema-Line">Line</a>, 1 to 100 items',
        ),
    ],
)
def test_the_reference_says_types_and_bounds_in_words(schema, words):
    assert Schemas({"Line": {"type": "object", "properties": {"id": {}}}}).in_words(schema) == words


def test_the_reference_tells_the_bounds_of_members_inside_members(anyone):
    section = anyone.get("/docs").body.decode().split('id="purchase_product"')[1].split("<h4>Answer</h4>")[0]
    lines = re.sub("<.*?>", " ", section)
    for words in ("products", "array of objects, 1 to 100 items", "quantity", "integer from 1 to 10,000", "expected_price"):
        assert words in lines


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_file_of_ours_names_another_host(path):
    text = path.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.findall(r"(?:https?:|wss?:|[\"'(=]\s*)//[\w.]+|@import", text)


@pytest.mark.parametrize("name", pages.ASSETS)
def test_a_file_of_the_pages_has_its_hash_in_its_name_and_can_be_kept_for_ever(anyone, name):
    stem, in_name, kind = name.split(".")
    answer = anyone.get(f"/assets/{name}")
    assert (answer.status, answer["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    assert answer["Content-Type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    assert in_name == hashlib.sha256(answer.body).hexdigest()[:12]  # of nothing else: a build with equal bytes has equal names
    for other in (f"{stem}.{kind}", f"{stem}.{in_name[::-1]}.{kind}"):
        refused = anyone.get(f"/assets/{other}")
        assert (refused.status, refused["Cache-Control"]) == (404, "no-store"), other


def test_pages_and_their_files_are_asked_for_again_only_when_they_changed(anyone):
    for path in [*PAGES[:4], *(f"/assets/{name}" for name in pages.ASSETS)]:
        answer = anyone.get(path)
        assert answer["Cache-Control"] == ("public, max-age=31536000, immutable" if "assets" in path else "no-cache")
        assert anyone.get(path, headers={"If-None-Match": answer["ETag"]}).status == 304, path
        assert anyone.get(path, headers={"If-None-Match": '"other"'}).body == answer.body


def test_what_is_no_page_is_a_404(anyone):
    for path in ("/problems/lost", "/problems/..", "/assets/lost.js", "/assets/home.html", "/assets/..%2f__init__.py"):
        answer = anyone.get(path)
        assert (answer.status, answer.json()["type"]) == (404, "/problems/not-found"), path


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/nothing-%3Cscript%3E", 404, "not-found"),
        ("/admin//users", 404, "not-found"),
        ("/problems/%3Cscript%3E", 404, "not-found"),
        ("/docs?%3Cscript%3E=1", 400, "bad-request"),
        ("/login", 405, "method-not-allowed"),
    ],
)
def test_a_browser_that_finds_no_page_gets_one_that_says_so_and_a_program_gets_json(anyone, path, status, slug):
    answer = anyone.get(path, headers={"Accept": BROWSER})
    assert (answer.status, answer["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert (answer["Vary"], answer["Cache-Control"]) == ("Accept, Accept-Encoding", "no-store")
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    page = Reader(answer.body.decode())
    assert errors.PROBLEMS[slug].title() in page.text
    assert answer["X-Request-ID"] in page.text
    assert {"/", "/docs", "/problems", f"/problems/{slug}"} <= set(page.values("href"))
    assert b"<script>" not in answer.body
    for accept in ("*/*", "application/json", "application/json, text/html;q=0.9"):
        answer = anyone.get(path, headers={"Accept": accept})
        assert (answer.status, answer.json()["type"], answer["Vary"]) == (status, f"/problems/{slug}", "Accept")


def test_a_program_that_takes_pages_too_gets_json_where_only_json_is(anyone):
    answer = anyone.get("/products?id=999", headers={"Accept": BROWSER})
    assert (answer.status, answer.json()["type"], answer["Vary"]) == (404, "/problems/not-found", None)


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML;Q=0.5", True),
        ("text/*, application/json;q=0.9", True),
        ("text/html;q=0.9, */*;q=0.1", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html, application/json", False),
        ("text/html, application/problem+json", False),
        ("text/html;q=0.5, application/*", False),
        ("text/html;q=0", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=x, application/json;q=, ;;,", False),
    ],
)
def test_who_prefers_a_page_is_told_by_accept(accept, html):
    assert prefers_html(accept) is html


@pytest.mark.parametrize("slug", errors.PROBLEMS)
def test_the_page_of_a_problem_tells_all_about_it(anyone, slug):
    answer, page = read(anyone, f"/problems/{slug}")
    kind, explanation = errors.PROBLEMS[slug], EXPLANATIONS[slug]
    for text in (kind.title(), str(kind.status), f"/problems/{slug}", explanation["means"], explanation["do"]):
        assert text.replace("`", "") in page.text
    assert json.loads(page.text[page.text.index("{\n") :].rpartition("}")[0] + "}") == problem_example(slug)
    assert "`" not in page.text
    assert answer.body.count(b"<code>") == 1 + (explanation["means"] + explanation["do"]).count("`") / 2


def test_what_is_told_about_a_problem_is_escaped(anyone):
    assert "<access_token>" in EXPLANATIONS["unauthorized"]["do"]
    answer, _ = read(anyone, "/problems/unauthorized")
    assert escape("<access_token>").encode() in answer.body
    assert b"<access_token>" not in answer.body


def test_the_pages_say_what_is_so(anyone, service):
    _, home = read(anyone, "/")
    assert f"Version {__version__}" in home.text
    _, docs = read(anyone, "/docs")
    assert f"a password of {service[0].settings.password_min} characters or more" in docs.text
    _, list_ = read(anyone, "/problems")
    for slug, kind in errors.PROBLEMS.items():
        assert f"{kind.status}{slug}{kind.title()}." in list_.text


def test_whoever_hears_a_page_is_told_as_much(anyone):
    for path in PAGES:
        _, page = read(anyone, path)
        images = [attributes for tag, attributes in page.elements if tag == "img"]
        assert all("alt" in attributes for attributes in images)
        assert [tag for tag, _ in page.elements].count("main") == 1
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), path
        assert page.unlabelled() == []
    _, docs = read(anyone, "/docs")
    assert ("span", {"id": "who", "role": "status"}) in docs.elements  # what changes in it is announced
    assert ("p", {"id": "failed", "class": "failed", "role": "alert"}) in docs.elements
    forms = [attributes for tag, attributes in docs.elements if tag == "form" and attributes.get("class") == "try"]
    assert len(forms) == docs.elements.count(("div", {"class": "answer", "role": "status"})) > 38
    _, home = read(anyone, "/")
    assert ("span", {"id": "health", "class": "scripted", "role": "status"}) in home.elements
