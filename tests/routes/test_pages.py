"""The pages: each is whole, leads only to what there is, and takes nothing from anywhere else."""

import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import pytest

from petstore import __version__, errors
from petstore.routes import pages
from petstore.web.openapi import EXPLANATIONS, problem_example
from tests.openapi_contract import DOCUMENT

OWN = [path for path in (Path(pages.__file__).parent.parent / "pages").iterdir() if path.is_file()]
PAGES = ["/", "/docs", "/problems", *(f"/problems/{slug}" for slug in errors.PROBLEMS)]
VOID = {"link", "meta", "img", "input", "br"}


class Reader(HTMLParser):
    """Reads HTML, and fails where an element is not closed in its turn; knows its elements and its text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> ends nothing"
        assert self.open.pop() == tag, f"</{tag}> is not what was opened last"

    def handle_data(self, data):
        self.text += data

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
        assert policy.pop("img-src") == "'self' data:"  # Swagger UI's icons
        assert {policy.pop(f"{kind}-src") for kind in ("script", "style", "connect")} == {"'self'"}
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
    assert seen > {*PAGES, "/openapi.json", "/assets/swagger-ui-bundle.js"}


def test_deep_links_of_the_reference_name_operations(anyone):
    _, page = read(anyone, "/docs")
    deep = [link for link in page.values("href") if link.startswith("#/")]
    assert len(deep) == 3
    operations = {
        f"#/{operation['tags'][0]}/{operation['operationId']}"
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
    }
    assert set(deep) <= operations


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_file_of_ours_names_another_host(path):
    text = path.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.findall(r"(?:https?:|wss?:|[\"'(=]\s*)//[\w.]+|@import", text)


def test_the_style_sheet_of_swagger_ui_loads_nothing(anyone):
    style = anyone.get("/assets/swagger-ui.css").body.decode()
    assert {found[:5] for found in re.findall(r"url\(['\"]?(.{5})", style)} == {"data:"}
    assert "@import" not in style


def test_pages_and_their_files_are_asked_for_again_only_when_they_changed(anyone):
    for path in [*PAGES[:4], *(f"/assets/{name}" for name in pages._ASSETS)]:
        answer = anyone.get(path)
        assert answer["Cache-Control"] == "no-cache"
        assert anyone.get(path, headers={"If-None-Match": answer["ETag"]}).status == 304, path
        assert anyone.get(path, headers={"If-None-Match": '"other"'}).body == answer.body


def test_what_is_no_page_is_a_404(anyone):
    for path in ("/problems/lost", "/problems/..", "/assets/lost.js", "/assets/home.html", "/assets/..%2f__init__.py"):
        answer = anyone.get(path)
        assert (answer.status, answer.json()["type"]) == (404, "/problems/not-found"), path


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
    _, docs = read(anyone, "/docs")
    labels = [tag for tag, _ in docs.elements].count("label")
    assert labels == [tag for tag, _ in docs.elements].count("input") == 2
    assert ("output", {"id": "who", "for": "email password"}) in docs.elements  # what changes in it is announced
    assert ("p", {"id": "refused", "role": "status"}) in docs.elements
    _, home = read(anyone, "/")
    assert ("span", {"id": "health", "role": "status"}) in home.elements
