"""Loads the Lua scripts of lua/: each is what Redis does in one atomic step, with KEYS, ARGV and result in its header."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def load_script(name: str) -> bytes:
    """The text of lua/<name>.lua. Without comment lines, as EVAL sends the whole text with every call."""
    text = (resources.files("petstore.cache") / "lua" / f"{name}.lua").read_text("utf-8")
    return "\n".join(line for line in text.splitlines() if line and not line.startswith("--")).encode()
