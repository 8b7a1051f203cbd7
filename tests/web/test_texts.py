"""What a text may contain: the same in Python, in the published patterns and in the database, for every code point that there is."""

import re
import sys
import unicodedata

import pytest

from petstore.app import create_router
from petstore.emails import email_fault
from petstore.texts import LINE, LINES, line_fault, lines_fault
from petstore.web.validation import SCHEMAS

EVERY = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
# Signs that stand before digits, in Arabic, Syriac and Kaithi: format characters, and seen.
SEEN_FORMATS = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
REFUSED = "SELECT n FROM generate_series(%s::integer, %s::integer) AS n WHERE n > 0 AND n NOT BETWEEN 55296 AND 57343 AND NOT is_line({})"


def refused(rule, form="{}"):
    return {ord(char) for char in EVERY if rule(form.format(char)) is not None}


@pytest.mark.parametrize(("form", "in_sql"), [("{}", "chr(n)"), ("a{}b", "'a' || chr(n) || 'b'")])
def test_each_code_point_alone_and_in_a_word_is_the_same_to_the_service_and_to_the_database(conn, form, in_sql):
    planes = range(0, sys.maxunicode, 0x10000)  # one after the other, for statement_timeout
    in_database = {n for first in planes for (n,) in conn.execute(REFUSED.format(in_sql), (first, first + 0xFFFF)).fetchall()}
    here = refused(line_fault, form)
    assert 60 < len(here) < 5000
    assert here == in_database
    assert refused(lines_fault, form) == (here if form == "{}" else here - {9, 10})


@pytest.mark.parametrize(("pattern", "rule"), [(LINE, line_fault), (LINES, lines_fault)])
def test_the_published_pattern_refuses_nothing_else_and_all_but_what_patterns_cannot_say(pattern, rule):
    published = re.compile(pattern.removesuffix("$") + r"\Z")
    for form in ("{}", "a{}b"):
        by_pattern = {ord(char) for char in EVERY if not published.match(form.format(char))}
        assert by_pattern <= refused(rule, form)
        assert all(code > 0xFFFF for code in refused(rule, form) - by_pattern)
    assert published.match("\u00a0" * 100_000) is None  # at once: no pattern may take long


def test_what_unicode_calls_a_control_a_format_or_a_blank_is_not_seen():
    unseen = {ord(char) for char in EVERY if unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp")}
    assert unseen - set(map(ord, SEEN_FORMATS)) <= refused(line_fault)


def test_an_email_has_no_character_that_is_no_text_alone():
    assert [hex(code) for code in refused(line_fault) if email_fault(f"a{chr(code)}b@example.com") is None] == []
    assert email_fault("\u732b@example.com") is None


@pytest.mark.parametrize(
    "text",
    ["x", " x ", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "می\u200cخواهم", "\u200eשלום", "❤\ufe0f", "\U0001f3f4\U000e0067\U000e007f", "\u0301"],
)  # fmt: skip
def test_a_text_with_something_to_see_is_one(text):
    assert line_fault(text) is None


def texts_in(part, name=""):
    """The members of a request's schema that are texts, by name."""
    if "string" in part.get("type", ()) and "enum" not in part:
        yield name, part
    for member, schema in part.get("properties", {}).items():
        yield from texts_in(schema, member)
    if "items" in part:
        yield from texts_in(part["items"], name)


def test_no_text_of_a_request_is_without_a_rule():
    bodies = {facts["body"] for facts in (route.config for route in create_router(None).routes) if facts.get("body")}
    found = {(name, part.get("pattern")) for body in bodies for name, part in texts_in(SCHEMAS[body])}
    assert {name for name, pattern in found if pattern == LINE} == {"name"}
    assert {name for name, pattern in found if pattern == LINES} == {"reason"}
    # Emails have a rule of their own; nobody sees the others.
    assert {name for name, pattern in found if pattern is None} == {"email", "password", "current_password", "new_password"}
