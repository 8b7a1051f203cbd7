"""`petstore serve`: from the settings to a service on its socket, and to its end."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from petstore import __version__, db, embedded, errors, signals
from petstore.app import create_app
from petstore.auth import passwords
from petstore.cli.first_start import first_steps, make_key, make_schema, seed_if_empty
from petstore.cli.output import CommandError, report
from petstore.cli.supervisor import Supervisor
from petstore.db.errors import WrongDatabase, WrongQuery
from petstore.limits.hashing import CORES
from petstore.server.limits import listen
from petstore.server.setup import setup
from petstore.server.waitress import Server
from petstore.services import Services, open_services
from petstore.settings import Settings, variable

_RESET_HINT = "\n--reset throws away what PETSTORE_HOME holds and begins anew"


def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Serve the API. --setup makes first whatever is missing: servers, key, schema, demo catalogue."""
    _refuse_early(settings, options)
    own_database = settings.database_url is None
    with ExitStack() as stack:
        if options.setup:
            settings = stack.enter_context(embedded.services(settings, report, reset=options.reset))
            make_key(settings)
            make_schema(settings)
        # What workers share is the socket alone: pools and whatever else is open here are closed before the first one starts.
        with open_services(settings) as services:
            reachable = _check_at_start(services, own_database)
            listener = stack.enter_context(_listener(settings))  # before the demo: its password is for a service that can start
            if reachable and (options.demo or (options.setup and own_database)):
                seed_if_empty(services, options.demo)
            url = _url(listener)
            steps = first_steps(services, url) if reachable else ""
        count = options.workers or settings.workers or min(CORES, 64)
        workers = Supervisor(listener, count, _environ(settings))
        signals.call(workers.stop, _at_hangup(workers))
        workers.run(partial(_announce, f"{url}, with {count} worker{'s' * (count > 1)}", steps))
        signals.ignore()  # the rest of the stop is quick, and must be whole
    report("stopped")


def _refuse_early(settings: Settings, options: argparse.Namespace) -> None:
    """Say what cannot be done before anything is started."""
    if options.reset and settings.database_url:
        raise CommandError("--reset is for the embedded database; PETSTORE_DATABASE_URL names another, which is left alone")
    if not options.setup and settings.database_url is None:
        raise CommandError("PETSTORE_DATABASE_URL is not set; `petstore serve --setup` brings a database of its own")
    if settings.admin_password:
        fault = passwords.password_fault(settings.admin_password, settings.admin_email, settings.password_min)
        if fault:
            raise CommandError(f"PETSTORE_ADMIN_PASSWORD {fault}")


def worker(settings: Settings, options: argparse.Namespace) -> None:
    """Serve in one of several processes; `serve` starts it, with a socket that listens and a line to itself."""
    signals.call(sys.exit)  # nothing has begun yet
    setup()
    passwords.setup()
    with (
        open_services(settings) as services,
        socket.socket(fileno=options.listener) as listener,
        socket.socket(fileno=options.line) as line,
    ):
        _check(services)
        server = Server(create_app(services), settings, listener)
        signals.call(server.stop, server.retire)

        def watch() -> None:
            line.recv(1)  # of which nothing comes but its end, with that of our parent
            server.stop()

        threading.Thread(target=watch, name="parent-watch", daemon=True).start()
        line.sendall(b"1")
        server.run()


def _environ(settings: Settings) -> dict[str, str]:
    """The environment of a worker: ours, and where the servers are that --setup has started."""
    found = {variable(name): getattr(settings, name) for name in embedded.URLS}
    return {**os.environ, **{name: value for name, value in found.items() if value}}


def _at_hangup(workers: Supervisor) -> Callable[[], None]:
    """SIGHUP says that our terminal has ended, or, to a service that has none or still has it, that it is to reload."""
    started_on_terminal = signals.has_terminal()

    def hang_up() -> None:
        if started_on_terminal and not signals.has_terminal():
            workers.stop()
        else:
            workers.reload()

    return hang_up


def _check_at_start(services: Services, own_database: bool) -> bool:
    reachable = _check(services, _RESET_HINT if own_database else "")
    if not reachable:
        report(f"the database cannot be used yet{_why_not(services.settings)}; serving, and ready as soon as it can")
    return reachable


def _check(services: Services, hint: str = "") -> bool:
    """Whether the database answers. A wrong one stops the start; with one that is down, the service gets ready when it is up."""
    try:
        services.db.check()
        return True
    except WrongDatabase as error:
        # New data would not mend a file.
        raise CommandError(f"{error}{'' if isinstance(error, WrongQuery) else hint}") from None
    except errors.Unavailable:
        return False


def _why_not(settings: Settings) -> str:
    """What PostgreSQL says to a connection: a wrong password is not a server that is down."""
    try:
        with db.connect(settings.database_url or ""):
            return ""
    except db.Error as error:
        return f" ({str(error).strip().splitlines()[0]})"


def _listener(settings: Settings) -> socket.socket:
    host, port = settings.listen
    try:
        return listen(host, port)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise CommandError(f"cannot listen on {host}:{port}: {reason}; name another address in PETSTORE_LISTEN") from None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(where: str, first_steps: str) -> None:
    report(f"version {__version__} serves on {where}, Ctrl-C stops it")
    if first_steps:
        print(first_steps, flush=True)
