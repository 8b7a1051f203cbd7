"""The little Markdown of the OpenAPI document as HTML: paragraphs, lists, `code`, **stress** and links within this service."""

from __future__ import annotations

import re

from petstore.web.pages import with_code


def prose(text: str) -> str:
    """Paragraphs and lists, parted by blank lines."""
    return "\n".join(_block(block) for block in re.split(r"\n\s*\n", text.strip()) if block)


def inline(text: str) -> str:
    """One line of text."""
    html = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", with_code(text))
    html = re.sub(r"(?<!\w)https?://\S+", lambda address: address[0].replace("/", "/<wbr>"), html)  # where it may break
    return re.sub(r"\[([^\]]+)\]\(([/#][^)\s]*)\)", r'<a href="\2">\1</a>', html)


def path(text: str) -> str:
    """The path of an operation, which a narrow window breaks before a slash only."""
    return with_code(text).replace("/", "<wbr>/").removeprefix("<wbr>")


def name(text: str) -> str:
    """The name of a schema, such as InvoiceDetail, which a narrow window breaks between its words only."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "<wbr>", with_code(text))


def _block(block: str) -> str:
    lines = block.splitlines()
    if not all(line.startswith("- ") for line in lines):
        return f"<p>{inline(' '.join(lines))}</p>"
    return "<ul>" + "".join(f"<li>{inline(line[2:])}</li>" for line in lines) + "</ul>"
