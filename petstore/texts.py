"""What a text that people see may contain. The database has the same rule: the function is_line() in sql/schema.sql.

A text has no control characters, none that turn the direction of writing, and at least one character that can be seen. A name is
one line; a reason may have line feeds and tabs.
"""

from __future__ import annotations

import re

_LINE_FEED_AND_TAB = r"\u0009\u000a"
_CONTROL = r"\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029"  # the others, and ends of lines
_DIRECTION = r"\u202a-\u202e\u2066-\u2069"  # embeddings, overrides, isolates: what follows may read as something else
# White_Space and Default_Ignorable_Code_Point of Unicode (joiners, variation selectors, fillers, tags), further format characters
# and what is blank: Braille U+2800, hieroglyphs, a note head. An emoji or a word may have them; alone they are no text.
_UNSEEN = (
    r"\u0020\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u202f\u205f-\u2065\u206a-\u206f\u2800"
    r"\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
_UNSEEN_BEYOND = (  # U+FFFF: regular expressions write these in different ways, so the published patterns leave them out
    r"\U00013430-\U0001343f\U00013441\U00013442\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_FORBIDDEN = _LINE_FEED_AND_TAB + _CONTROL + _DIRECTION

# `pattern` of the JSON Schemas, for clients. Neither goes back in a text: a long one takes no longer than in proportion.
LINE = f"^[{_UNSEEN}]*[^{_FORBIDDEN}{_UNSEEN}][^{_FORBIDDEN}]*$"
LINES = f"^[{_LINE_FEED_AND_TAB}{_UNSEEN}]*[^{_FORBIDDEN}{_UNSEEN}][^{_CONTROL}{_DIRECTION}]*$"

_is_forbidden = re.compile(f"[{_FORBIDDEN}]").search
_turns_direction = re.compile(f"[{_DIRECTION}]").search
_visible = re.compile(f"[^{_FORBIDDEN}{_UNSEEN}{_UNSEEN_BEYOND}]")


def is_visible(text: str) -> bool:
    """Whether at least one character of a text can be seen. A blank cannot."""
    return _visible.search(text) is not None


def line_fault(text: str) -> str | None:
    """What is wrong with a text on one line, or None. It never repeats the text."""
    if not _is_forbidden(text):
        return None if is_visible(text) else "must have at least one character that can be seen"
    if _turns_direction(text):
        return "must not contain characters that turn the direction of writing (U+202A to U+202E, U+2066 to U+2069)"
    return "must not contain control characters, line ends or tabs"


def lines_fault(text: str) -> str | None:
    """What is wrong with a text that may have several lines, or None."""
    fault = line_fault(text.replace("\n", " ").replace("\t", " "))
    return fault and fault.replace(", line ends or tabs", " but line feed (\\n) and tab")


# The rule behind each pattern of a JSON Schema, complete and with a text of its own.
RULES = {LINE: line_fault, LINES: lines_fault}
