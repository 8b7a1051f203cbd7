"""How a command speaks to who runs it."""

from __future__ import annotations

import sys


class Refused(Exception):
    """A command that cannot be done; the text says why and what to do."""


def say(text: str) -> None:
    """A step of the work, for who watches."""
    print(f"petstore: {text}", file=sys.stderr, flush=True)
