"""`petstore serve`: from the settings to a service on its socket, and to its end."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from threading import BoundedSemaphore

from petstore import __version__, db, db_schema, embedded, errors, interrupts, keyring, passwords, seeding
from petstore.app import create_app
from petstore.cache import Cache
from petstore.calls import Services
from petstore.console import Refused, say
from petstore.memory import Memory, SharedGenerations
from petstore.rates import Rates
from petstore.repository import products, users, verify_database
from petstore.server import Server
from petstore.settings import Settings
from petstore.stock import PRODUCTS
from petstore.throttle import Throttle
from petstore.tokens import Tokens


def serve(settings: Settings, options: argparse.Namespace) -> None:
    """Serve the API. --setup makes first whatever is missing: servers, key, schema, demo catalogue."""
    if options.reset and settings.database_url:
        raise Refused("--reset is for the embedded database; PETSTORE_DATABASE_URL names another, which is left alone")
    if not options.setup and settings.database_url is None:
        raise Refused("PETSTORE_DATABASE_URL is not set; `petstore serve --setup` brings a database of its own")
    if settings.admin_password:
        fault = passwords.password_fault(settings.admin_password, settings.admin_email, settings.password_min)
        if fault:
            raise Refused(f"PETSTORE_ADMIN_PASSWORD {fault}")
    own_database = settings.database_url is None
    with ExitStack() as stack:
        if options.setup:
            settings = stack.enter_context(embedded.services(settings, say, reset=options.reset))
            _make_key(settings)
            make_schema(settings)
        services = stack.enter_context(open_services(settings))
        reachable = _check_at_start(services, own_database)
        server = _open_server(services)  # before the demo: its password must not be made for a service that cannot start
        if reachable and (options.demo or (options.setup and own_database)):
            _seed_if_empty(services, options.demo)
        interrupts.call(server.stop)
        _announce(services, server)
        server.run()
        interrupts.ignore()  # the rest of the stop is quick, and must be whole
    say("stopped")


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


def open_cache(settings: Settings, namespace: Callable[[], str | None]) -> Cache:
    """The cache that the settings name; Refused when what the processes of this machine are to share cannot be used."""
    shared = None
    if settings.cache_scope == "machine":
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            shared = SharedGenerations(settings.home / "generations")
        except OSError as error:
            raise Refused(f"PETSTORE_CACHE_SCOPE=machine needs a file of this user's: {error}") from None
    return Cache(settings.redis_url, namespace, shared)


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    """What every request shares, for the block: pool, cache and key, as the settings say. KeyFault when the key is unfit."""
    ring = keyring.Keyring(settings.keys)
    verify = partial(verify_database, currency=settings.currency, minor_digits=settings.minor_digits)
    database = db.Database(settings.database_url or "", pool_size=settings.pool_size, verify=verify)
    cache = open_cache(settings, lambda: database.identity)
    issuer = Tokens(ring, issuer=settings.issuer, audience=settings.audience, seconds=settings.token_seconds)
    database.open()
    try:
        waiters = BoundedSemaphore(max(1, settings.threads // 4))
        yield Services(
            settings,
            database,
            cache,
            Memory(),
            issuer,
            Throttle(cache.reach),
            Rates(settings.rate_limit),
            waiters,
            BoundedSemaphore(1),
        )
    finally:
        cache.close()
        database.close()


def _check_at_start(services: Services, own_database: bool) -> bool:
    """Whether the database answers. A wrong one stops the start; with one that is down, the service gets ready when it is up."""
    try:
        services.db.check()
        return True
    except db.WrongDatabase as error:
        resets = own_database and not isinstance(error, db.WrongQuery)  # new data would not mend a file
        hint = "\n--reset throws away what PETSTORE_HOME holds and begins anew" if resets else ""
        raise Refused(f"{error}{hint}") from None
    except errors.Unavailable:
        say(f"the database cannot be used yet{_why_not(services.settings)}; serving, and ready as soon as it can")
        return False


def _why_not(settings: Settings) -> str:
    """What PostgreSQL says to a connection: a wrong password is not a server that is down."""
    try:
        with db.connect(settings.database_url or ""):
            return ""
    except db.Error as error:
        return f" ({str(error).strip().splitlines()[0]})"


def _open_server(services: Services) -> Server:
    host, port = services.settings.listen
    try:
        app = create_app(services)
        return Server(app, services.settings, app.hits)
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


def _announce(services: Services, server: Server) -> None:
    host, port = server.address
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    say(f"version {__version__} serves on {url}, Ctrl-C stops it")
    with suppress(errors.Problem):
        goods = services.db.read(partial(products.list_products, after=0, limit=100))
        print(_first_steps(url, next((product.id for product in goods if product.stock > 1), None)), flush=True)


def _first_steps(url: str, product_id: int | None) -> str:
    """Three lines to paste: look, register, and buy (or see one's profile, where nothing is on sale)."""
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
