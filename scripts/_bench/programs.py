"""The programs that are loaded: the service of a checkout, a baseline program, a bare server. `stack` stops them at its end."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import prepare
from checkouts import Checkout
from cryptography.hazmat.primitives import serialization
from servers import Servers, free_port

from petstore.auth.signing_keys import KEY_FILE
from petstore.cli.output import CommandError
from petstore.embedded import find_program
from petstore.embedded.processes import Command, Server, run

COUNTS = {"products": 10_000, "users": 1_000, "invoices": 25_000}
# All load comes from one address, so the rate limit is off.
ALWAYS = {"PETSTORE_RATE_LIMIT": "0"}
# Settings that are not taken from the environment: those of the servers, which the bench starts, and those that have an option.
_NOT_INHERITED = ("DATABASE_URL", "OWNER_URL", "REPORT_URL", "REDIS_URL", "HOME", "KEYS", "LISTEN", "WORKERS", "CACHE_SCOPE")


@dataclass(frozen=True)
class How:
    """How a service is started. None: its default; scope: PETSTORE_CACHE_SCOPE; environ: settings, over all others."""

    workers: int | None = None
    scope: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """A running program. tokens: a file with access tokens; pids: of the processes that were started here."""

    name: str
    url: str
    tokens: Path
    pids: tuple[int, ...]


def make_shop(checkout: Checkout, servers: Servers, name: str) -> Path:
    """Make a database with schema, data and logins, with the code of the checkout; the file of its tokens."""
    servers.postgres.create_database(name)
    environ = _environment(checkout, servers, name)
    environ["PETSTORE_OWNER_URL"] = servers.postgres.url("postgres", name)
    counts = [f"--{what}={count}" for what, count in COUNTS.items()]
    for command in (["-m", "petstore", "migrate"], ["-m", "petstore", "seed", *counts], ["scripts/_bench/prepare.py"]):
        status, printed = run([checkout.python, *command], env=environ, cwd=checkout.folder)
        if status:
            raise CommandError(f"{checkout.name}: {' '.join(command)} ended with status {status}:\n{printed.strip()}")
    tokens = servers.folder / f"{name}.tokens"
    tokens.write_text(printed)
    return tokens


def start_service(stack: ExitStack, checkout: Checkout, servers: Servers, name: str, how: How) -> Program:
    """Start `petstore serve` of a checkout on a database that make_shop() has made."""
    port = free_port()
    environ = _environment(checkout, servers, name) | {"PETSTORE_LISTEN": f"127.0.0.1:{port}", **how.environ}
    command: list[str | Path] = [checkout.python, "-m", "petstore", "serve"]
    for option, value in (("--workers", how.workers),):
        if value is not None and checkout.takes(option):
            command += [option, str(value)]
    if how.scope is not None and checkout.takes("cache_scope"):
        environ["PETSTORE_CACHE_SCOPE"] = how.scope
    server = _start(stack, name, servers.folder, command, port, "/readyz", env=environ, cwd=checkout.folder)
    return Program(checkout.name, f"http://127.0.0.1:{port}", servers.folder / f"{name}.tokens", (server.pid or 0,))


def _environment(checkout: Checkout, servers: Servers, database: str) -> dict[str, str]:
    environ = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("PETSTORE_") or ((setting := name[9:]) not in _NOT_INHERITED and checkout.takes(setting.lower()))
    }
    return environ | ALWAYS | {
        "PYTHONPATH": str(checkout.folder),
        "PETSTORE_DATABASE_URL": servers.postgres.url("petstore_app", database),
        "PETSTORE_REDIS_URL": servers.redis_url,
        "PETSTORE_KEYS": str(servers.keys),
        "PETSTORE_HOME": str(servers.folder),
    }  # fmt: skip


def start_baseline(stack: ExitStack, folder: Path, servers: Servers) -> Program:
    """Start a program to compare with. `seed.sql` fills its database; `app.py` reads PORT, REDIS_PORT, JWT_PUBLIC and PG_DSN."""
    url, port = servers.postgres.url("postgres", "baseline"), free_port()
    servers.postgres.create_database("baseline")
    status, printed = run([find_program("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", folder / "seed.sql"])
    if status:
        raise CommandError(f"{folder / 'seed.sql'} failed: {printed.strip()}")
    key = serialization.load_pem_private_key((servers.keys / KEY_FILE).read_bytes(), None)
    public = servers.folder / "public.pem"
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(*form))
    tokens, claims = servers.folder / "baseline.tokens", {"exp": int(time.time()) + 86_400}
    ids = range(1, prepare.USERS + 1)
    tokens.write_text("".join(jwt.encode({**claims, "sub": str(id)}, key, algorithm="RS256") + "\n" for id in ids))
    environ = {**os.environ, "PORT": str(port), "REDIS_PORT": str(servers.redis_port), "JWT_PUBLIC": str(public), "PG_DSN": url}
    command = [sys.executable, folder.resolve() / "app.py"]
    server = _start(stack, "baseline", servers.folder, command, port, "/products?id=1", env=environ, cwd=folder)
    return Program("baseline", f"http://127.0.0.1:{port}", tokens, (server.pid or 0,))


def start_bare(stack: ExitStack, workers: int, folder: Path) -> Program:
    """Start bare waitress with this number of workers; it answers `/N` with N bytes."""
    here = Path(__file__).parent
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
    port, fd = listening.getsockname()[1], listening.fileno()
    command = [sys.executable, str(here / "bare.py"), str(fd)]
    started = [_start(stack, f"bare{i}", folder, command, port, "/1", pass_fds=(fd,)) for i in range(workers)]
    return Program("bare waitress", f"http://127.0.0.1:{port}", Path(), tuple(one.pid or 0 for one in started))


def _start(stack: ExitStack, name: str, folder: Path, command: Command, port: int, path: str, **how: Any) -> Server:
    """Start a program with its output in NAME.log; returns when it answers at the path."""
    server = Server(name, folder / f"{name}.log")
    stack.callback(server.stop, signal.SIGTERM, signal.SIGKILL)
    server.start(command, **how)
    server.wait_until(lambda: answers(f"http://127.0.0.1:{port}{path}"))
    return server


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - http, on this machine
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def size(program: Program, path: str) -> int:
    """Bytes of the body that the program answers at the path."""
    token = program.tokens.read_text().split("\n", 1)[0]
    request = urllib.request.Request(program.url + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return len(answer.read())
