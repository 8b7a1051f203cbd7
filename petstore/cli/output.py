"""Messages of a command to its operator, and the form of all lines on standard error."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {10: "\\n", 13: "\\r", 9: "\t"}


class CommandError(Exception):
    """A command cannot be carried out. The text says why, and what to do."""


class LineFormatter(logging.Formatter):
    """One line per record, whatever is in it: time (UTC), level, logger, message; line breaks and control characters escaped."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._second = (-1, "")  # the one of the last line, and its text: it is that of many lines

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.exc_text or record.stack_info:
            text = super().format(record)
        else:  # the same, in half the time
            text = f"{self.formatTime(record)} {record.levelname} {record.name}: {record.getMessage()}"
        return text if text.isprintable() else text.translate(_ESCAPES)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        number, text = self._second
        if number != int(record.created):
            number = int(record.created)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(number))
            self._second = (number, text)
        return f"{text}.{int(record.msecs):03d}Z"


_formatter = LineFormatter()


def report(text: str, level: int = logging.INFO) -> None:
    """Print a message to standard error, as a line of the log. A closed terminal or a full disk does not end the command."""
    with suppress(OSError):
        record = logging.LogRecord("petstore", level, "", 0, text, (), None)
        print(_formatter.format(record), file=sys.stderr, flush=True)
