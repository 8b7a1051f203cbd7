"""Loads the Lua scripts of lua/: each is what Redis does in one atomic step, with KEYS, ARGV and result in its header."""

from __future__ import annotations

from functools import cache
from importlib import resources


def load_scripts() -> None:
    """Load all of them. Read at the first use, a file that an upgrade has replaced would not fit the code that runs."""
    for path in (resources.files("petstore.cache") / "lua").iterdir():
        load_script(path.name.removesuffix(".lua"))


@cache
def load_script(name: str) -> bytes:
    """The text of lua/<name>.lua. Without comment lines, as EVAL sends the whole text with every call."""
    text = (resources.files("petstore.cache") / "lua" / f"{name}.lua").read_text("utf-8")
    return "\n".join(line for line in text.splitlines() if line and not line.startswith("--")).encode()
