"""The petstore command, run in this process."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from petstore.__main__ import main
from petstore.settings import Settings, variable


def environment(**changes: str) -> dict[str, str]:
    """Ours without what is set for the service."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PETSTORE_")} | changes


def petstore(*arguments: str, text: str = "", **environ: str) -> subprocess.CompletedProcess:
    """A petstore command, with standard input and environment of its own. Not for commands that start programs."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    level = logging.getLogger("petstore").level
    with (
        mock.patch.dict(os.environ, environment(**environ), clear=True),
        mock.patch("sys.stdin", io.StringIO(text)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main(list(arguments))
        except SystemExit as end:
            status = end.code
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.getLogger("petstore").setLevel(level)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def of(settings: Settings) -> dict[str, str]:
    """The environment that gives these settings."""
    names = ("database_url", "owner_url", "report_url", "redis_url", "currency", "keys")
    return {variable(name): str(getattr(settings, name)) for name in names if getattr(settings, name)}


def run(settings: Settings, *arguments: str, text: str = "") -> subprocess.CompletedProcess:
    """A petstore command on the database and Redis of these settings."""
    return petstore(*arguments, text=text, **of(settings))
