"""How the service logs: one line per event, on standard error."""

from __future__ import annotations

import logging
import sys

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OURS = logging.getLogger("petstore")


def configure_process() -> None:
    """For a `petstore` command: the whole process logs to standard error."""
    logging.basicConfig(stream=sys.stderr, format=_FORMAT, level=logging.WARNING)
    # The format shows neither caller nor thread nor process: not collecting them halves the cost of a line (Logging HOWTO).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def configure_guest() -> None:
    """For another WSGI server: only our loggers get a handler, and only if the server's configuration has none for them."""
    if not _OURS.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(_FORMAT))
        _OURS.addHandler(handler)


def set_levels(access_log: bool) -> None:
    """Set levels where none is set. access_log: with a line per request."""
    levels = {"petstore": logging.INFO if access_log else logging.WARNING, "psycopg.pool": logging.ERROR}
    for name, level in levels.items():  # psycopg.pool would log every attempt; petstore.db logs one line
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
