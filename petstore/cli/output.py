"""Messages of a command to its operator."""

from __future__ import annotations

import sys
from contextlib import suppress


class CommandError(Exception):
    """A command cannot be carried out. The text says why, and what to do."""


def report(text: str) -> None:
    """Print a message to standard error. A closed terminal or a full disk does not end the command."""
    with suppress(OSError):
        print(f"petstore: {text}", file=sys.stderr, flush=True)
