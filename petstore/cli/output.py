"""How a command speaks to who runs it."""

from __future__ import annotations

import sys
from contextlib import suppress


class CommandError(Exception):
    """A command that cannot be done; the text says why and what to do."""


def report(text: str) -> None:
    """A step of the work, for who watches. That nobody does, or that a disk is full, is no reason to end."""
    with suppress(OSError):
        print(f"petstore: {text}", file=sys.stderr, flush=True)
