"""`petstore serve`, and `petstore worker`, which it starts."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from petstore import __version__, embedded, errors, signals
from petstore.app import create_app
from petstore.auth import passwords, signing_keys
from petstore.cli.child import Supervised
from petstore.cli.first_start import first_steps, make_key, make_schema, seed_if_empty
from petstore.cli.output import CommandError, report
from petstore.cli.socket_activation import inherited_listener
from petstore.cli.supervisor import Supervisor
from petstore.db.errors import WrongDatabase
from petstore.limits.hashing import CORES
from petstore.server.limits import listen
from petstore.server.waitress import Server
from petstore.services import Services, open_services
from petstore.settings import Settings, variable

_TRIES, _TRY_SECONDS = 3, 1.0  # of a worker that must reach the database: it may be about to be back


def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Serve the API. --setup makes first whatever is missing: servers, key, schema, demo catalogue."""
    _check_options(settings, options)
    own_database = settings.database_url is None
    with ExitStack() as stack:
        if options.setup:
            settings = stack.enter_context(embedded.servers(settings, report, reset=options.reset))
            make_key(settings)
            make_schema(settings, migrate=own_database)
        # Workers share nothing but the socket: pools and connections that are open here are closed before the first one starts.
        with open_services(settings) as services:
            if fault := signing_keys.folder_fault(settings.keys):
                report(fault, logging.WARNING)
            reachable = _check_at_start(services)
            listener = stack.enter_context(_listener(settings))  # before seeding: a start that fails prints no password
            if reachable and (options.demo or (options.setup and own_database)):
                seed_if_empty(services, options.demo)
            url = _url(listener)
            steps = first_steps(services, url) if options.setup and reachable else ""  # a log is no place for a password
        count = options.workers or settings.workers or min(CORES, 64)
        supervisor = Supervisor(listener, count, _environ(settings), settings.drain_seconds)
        signals.call(supervisor.stop, _hangup_handler(supervisor), supervisor.stop_now)
        supervisor.run(partial(_announce, f"{url}, with {count} worker{'s' * (count > 1)}", steps))
        signals.ignore()  # stopping the embedded servers must not be interrupted
    report("stopped")


def _check_options(settings: Settings, options: argparse.Namespace) -> None:
    """Refuse options and settings that cannot work, before anything is started."""
    if options.reset and settings.database_url:
        raise CommandError("--reset is for the embedded database; PETSTORE_DATABASE_URL names another one, which is not touched")
    if not options.setup and settings.database_url is None:
        raise CommandError("PETSTORE_DATABASE_URL is not set; `petstore serve --setup` starts an embedded database")
    if settings.admin_password:
        fault = passwords.password_fault(settings.admin_password, settings.admin_email, settings)
        if fault:
            raise CommandError(f"PETSTORE_ADMIN_PASSWORD {fault}")


def worker(settings: Settings, options: argparse.Namespace) -> None:
    """Serve in this process. `serve` starts it, with a listening socket and a pipe to the supervisor."""
    signals.call(sys.exit)  # until there are requests to drain
    if options.supervisor.needs_database:
        logging.disable()  # until it is known whether it gets ready: one that is tried again would repeat all lines
    passwords.setup()
    with (
        open_services(settings) as services,
        socket.socket(fileno=options.listener) as listener,
        socket.socket(fileno=options.pipe) as pipe,
    ):
        _check_in_worker(services, options.supervisor)
        server = Server(create_app(services), settings, listener)
        signals.call(_stop_handler(services, server), server.retire, server.stop)

        def stop_with_supervisor() -> None:
            pipe.recv(1)  # returns only when the supervisor exits
            server.stop()

        threading.Thread(target=stop_with_supervisor, name="supervisor-watch", daemon=True).start()
        options.supervisor.ready()
        server.run()


def _stop_handler(services: Services, server: Server) -> Callable[[], None]:
    """SIGTERM means for a worker: stop, after the drain if there is one."""

    def on_stop() -> None:
        seconds = services.settings.drain_seconds
        if not seconds:
            server.stop()
        elif not services.process.stopping:  # systemd may send SIGTERM to each process, and the supervisor does so again
            services.process.stopping = True
            server.stop_later(seconds)

    return on_stop


def _environ(settings: Settings) -> dict[str, str]:
    """The environment of a worker: that of this process, and the URLs of the servers that --setup has started."""
    urls = {variable(name): getattr(settings, name) for name in embedded.URLS}
    return {**os.environ, **{name: value for name, value in urls.items() if value}}


def _hangup_handler(supervisor: Supervisor) -> Callable[[], None]:
    """SIGHUP means: stop, if the terminal that the service was started on has closed; else reload."""
    started_on_terminal = signals.has_terminal()

    def on_hangup() -> None:
        if started_on_terminal and not signals.has_terminal():
            supervisor.stop_now()
        else:
            supervisor.reload()

    return on_hangup


def _check_at_start(services: Services) -> bool:
    reachable = _check(services)
    if reachable:
        for sentence in services.drift.sentences(services.db.read) or ():
            report(f"drift: {sentence}; `petstore check` shows how to mend it", logging.WARNING)
    else:
        fault = services.db.fault
        why = f" ({fault})" if fault else ""
        report(f"the database cannot be used yet{why}; serving anyway, ready when it can", logging.WARNING)
    return reachable


def _check(services: Services) -> bool:
    """Whether the database can be reached. CommandError when it is not the right one: waiting would not help."""
    try:
        services.db.check()
        return True
    except WrongDatabase as error:
        raise CommandError(str(error)) from None
    except errors.Unavailable:
        return False


def _check_in_worker(services: Services, supervisor: Supervised) -> None:
    """Check the database. CommandError if it cannot be reached, and this worker must."""
    if not supervisor.needs_database:
        _check(services)
        return
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_TRY_SECONDS)
        if _check(services):
            break
    else:
        raise CommandError(f"the database cannot be reached: {services.db.fault or 'no connection within a second'}")
    logging.disable(logging.NOTSET)


def _listener(settings: Settings) -> socket.socket:
    if (inherited := inherited_listener()) is not None:
        return inherited
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
