"""`petstore serve`: from the settings to a service on its socket, and to its end."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from petstore import __version__, db, db_schema, embedded, errors, interrupts, keyring, passwords, seeding
from petstore.app import create_app
from petstore.calls import Services
from petstore.console import Refused, say
from petstore.repository import products, users
from petstore.server import Server, listen
from petstore.services import open_services
from petstore.settings import Settings, variable
from petstore.stock import PRODUCTS
from petstore.turns import CORES
from petstore.workers import Workers

_RESET_HINT = "\n--reset throws away what PETSTORE_HOME holds and begins anew"


def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Serve the API. --setup makes first whatever is missing: servers, key, schema, demo catalogue."""
    _refuse_early(settings, options)
    own_database = settings.database_url is None
    with ExitStack() as stack:
        if options.setup:
            settings = stack.enter_context(embedded.services(settings, say, reset=options.reset))
            _make_key(settings)
            make_schema(settings)
        # What workers share is the socket alone: pools and whatever else is open here are closed before the first one starts.
        with open_services(settings) as services:
            reachable = _check_at_start(services, own_database)
            listener = stack.enter_context(_listener(settings))  # before the demo: its password is for a service that can start
            if reachable and (options.demo or (options.setup and own_database)):
                _seed_if_empty(services, options.demo)
            url = _url(listener)
            first_steps = _first_steps(services, url) if reachable else ""
        count = options.workers or settings.workers or min(CORES, 64)
        workers = Workers(listener, count, _environ(settings))
        interrupts.call(workers.stop, _at_hangup(workers))
        workers.run(partial(_announce, f"{url}, with {count} worker{'s' * (count > 1)}", first_steps))
        interrupts.ignore()  # the rest of the stop is quick, and must be whole
    say("stopped")


def _refuse_early(settings: Settings, options: argparse.Namespace) -> None:
    """Say what cannot be done before anything is started."""
    if options.reset and settings.database_url:
        raise Refused("--reset is for the embedded database; PETSTORE_DATABASE_URL names another, which is left alone")
    if not options.setup and settings.database_url is None:
        raise Refused("PETSTORE_DATABASE_URL is not set; `petstore serve --setup` brings a database of its own")
    if settings.admin_password:
        fault = passwords.password_fault(settings.admin_password, settings.admin_email, settings.password_min)
        if fault:
            raise Refused(f"PETSTORE_ADMIN_PASSWORD {fault}")


def worker(settings: Settings, options: argparse.Namespace) -> None:
    """Serve in one of several processes; `serve` starts it, with a socket that listens and a line to itself."""
    interrupts.call(sys.exit)  # nothing has begun yet
    with (
        open_services(settings) as services,
        socket.socket(fileno=options.listener) as listener,
        socket.socket(fileno=options.line) as line,
    ):
        _check(services)
        server = Server(create_app(services), settings, listener)
        interrupts.call(server.stop, server.retire)

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


def _at_hangup(workers: Workers) -> Callable[[], None]:
    """SIGHUP says that our terminal has ended, or, to a service that has none or still has it, that it is to reload."""
    started_on_terminal = interrupts.has_terminal()

    def hang_up() -> None:
        if started_on_terminal and not interrupts.has_terminal():
            workers.stop()
        else:
            workers.reload()

    return hang_up


def make_schema(settings: Settings) -> None:
    """Make roles and schema where the owner's URL is known and they are missing. A database that is down is left for later."""
    if settings.owner_url is None:
        return
    try:
        if db_schema.create_schema(settings.owner_url, currency=settings.currency, minor_digits=settings.minor_digits):
            say(f"schema made, amounts in {settings.currency}")
    except db.Error as error:
        if error.sqlstate is not None:
            raise
        say(f"whether there is a schema could not be seen: {str(error).strip()}")


def _make_key(settings: Settings) -> None:
    if not (settings.keys / keyring.KEY_FILE).exists():
        say(f"a new signing key: {keyring.generate_key(settings.keys)}")


def _check_at_start(services: Services, own_database: bool) -> bool:
    reachable = _check(services, _RESET_HINT if own_database else "")
    if not reachable:
        say(f"the database cannot be used yet{_why_not(services.settings)}; serving, and ready as soon as it can")
    return reachable


def _check(services: Services, hint: str = "") -> bool:
    """Whether the database answers. A wrong one stops the start; with one that is down, the service gets ready when it is up."""
    try:
        services.db.check()
        return True
    except db.WrongDatabase as error:
        # New data would not mend a file.
        raise Refused(f"{error}{'' if isinstance(error, db.WrongQuery) else hint}") from None
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
        raise Refused(f"cannot listen on {host}:{port}: {reason}; name another address in PETSTORE_LISTEN") from None


def _seed_if_empty(services: Services, asked: bool) -> None:
    """Put in the demo catalogue and one admin, whose password is shown if it was made here."""
    settings = services.settings
    with db.connect(settings.owner_url or settings.database_url or "") as conn, interrupts.held():
        with conn.transaction():
            seeding.lock(conn)  # of two services that start at once, one seeds
            if not seeding.is_empty(conn):
                if asked:
                    say("the database is not empty: no demo catalogue (`petstore seed` adds it)")
                return
            count = seeding.seed_demo(conn, settings.minor_digits)
            password = settings.admin_password or secrets.token_urlsafe(12)
            users.save_admin(conn, email=settings.admin_email, password=passwords.hash_password(password))
        services.cache.invalidate(PRODUCTS)
        say(f"{count} demo products, and the admin {settings.admin_email}")
        if settings.admin_password is None:
            say(f"the admin's password, shown this once: {password}")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(where: str, first_steps: str) -> None:
    say(f"version {__version__} serves on {where}, Ctrl-C stops it")
    if first_steps:
        print(first_steps, flush=True)


def _first_steps(services: Services, url: str) -> str:
    """Three lines to paste: look, register, and buy (or see one's profile, where nothing is on sale); "" without a database."""
    try:
        goods = services.db.read(partial(products.list_products, after=0, limit=100))
    except errors.Problem:
        return ""
    product_id = next((product.id for product in goods if product.stock > 1), None)
    email, password = f"ana-{secrets.token_hex(3)}@example.com", secrets.token_urlsafe(9)
    body = f'{{"email":"{email}","password":"{password}"}}'
    json = "-H 'Content-Type: application/json'"
    login = f"""curl -s {url}/login {json} -d '{body}' | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/'"""
    token = f'-H "Authorization: Bearer $({login})"'
    purchase = f"""{url}/purchase_product {json} {token} -d '{{"products":[{{"product_id":{product_id},"quantity":2}}]}}'"""
    return (
        "\nTry it:\n\n"
        f"curl -s '{url}/products?limit=3'\n"
        f"curl -s {url}/register {json} -d '{body}'\n"
        f"curl -s {purchase if product_id else f'{url}/me {token}'}\n"
    )
