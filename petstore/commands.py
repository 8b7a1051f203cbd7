"""What operators need beside `serve`. Each command takes the settings and its options; what cannot be done is Refused."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from petstore import app, db, db_schema, interrupts, keyring, passwords, seeding
from petstore.console import Refused, say
from petstore.emails import email_fault
from petstore.repository import system, users
from petstore.settings import Settings
from petstore.shop import check_shop, clear_cache, forget_logins, open_shop
from petstore.tokens import CLOCK_SECONDS

_HASHING_SECONDS = 60.0  # that a command waits for its turn at hashing


def migrate(settings: Settings, options: argparse.Namespace) -> None:
    """Make roles and schema in an empty database (PETSTORE_OWNER_URL: a superuser, or petstore_owner after roles.sql)."""
    if not settings.owner_url:
        raise Refused("set PETSTORE_OWNER_URL to the database, as a superuser (or as petstore_owner after sql/roles.sql)")
    made = db_schema.create_schema(settings.owner_url, currency=settings.currency, minor_digits=settings.minor_digits)
    with db.connect(settings.owner_url) as conn:
        shop = check_shop(conn)
    say(f"schema version {shop.version} {'made' if made else 'is there already'}, amounts in {shop.currency}")


def seed(settings: Settings, options: argparse.Namespace) -> None:
    """Add the demo catalogue, or products, users and invoices for load tests; then clear the cache."""
    counts = {"products": options.products, "users": options.users, "invoices": options.invoices}
    if any(counts.values()) and settings.database_url and not settings.owner_url:
        raise Refused("set PETSTORE_OWNER_URL: loading needs the rights of petstore_owner")
    with open_shop(settings) as (found, _, shop), _as_owner(found, shop) as conn:
        try:
            if any(counts.values()):
                seeding.load(conn, minor_digits=shop.minor_digits, **counts)
            else:
                added = seeding.seed_demo(conn, shop.minor_digits)
                say(f"{added} demo products added" if added else "every demo product is on sale already")
        except seeding.NothingToSell as error:
            raise Refused(str(error)) from None
        finally:  # an interrupted load has added something, too
            clear_cache(found, shop.identity)


def create_admin(settings: Settings, options: argparse.Namespace) -> None:
    """Add an admin, or make the account with this email one; the password comes from a prompt or standard input."""
    if fault := email_fault(options.email):
        raise Refused(f"email {fault}")
    phc = _new_hash(settings, options.email)
    with open_shop(settings) as (found, conn, shop):
        user = users.save_admin(conn, email=options.email, password=phc)
        forget_logins(found, shop.identity, user.id)
        say(f"{user.email} is admin (user {user.id})")


def set_password(settings: Settings, options: argparse.Namespace) -> None:
    """Give an account a new password, from a prompt or standard input; its logins end."""
    with open_shop(settings) as (found, conn, shop):
        known = users.get_credentials(conn, email=options.email)
        if known is None:
            raise Refused(f"there is no account {options.email}")
        phc = _new_hash(settings, known.email)
        if users.change_password(conn, user_id=known.id, old_password=known.password, password=phc) is None:
            raise Refused(f"the password of {options.email} was changed at the same time; try again")
        forget_logins(found, shop.identity, known.id)
        say(f"{options.email} has a new password")


@contextmanager
def _as_owner(settings: Settings, shop: system.Shop) -> Iterator[db.Connection]:
    """A connection as the owner of the same shop, where PETSTORE_OWNER_URL is known; else as the service."""
    with db.connect(settings.owner_url or settings.database_url or "") as conn:
        if check_shop(conn).identity != shop.identity:
            raise Refused("PETSTORE_OWNER_URL and PETSTORE_DATABASE_URL name two different databases")
        yield conn


def _new_hash(settings: Settings, email: str) -> str:
    """The hash of a password that is asked for, if registering would take it."""
    password = _ask_password()
    if fault := passwords.password_fault(password, email, settings.password_min):
        raise Refused(f"password {fault}")
    return passwords.hash_password(password, time.monotonic() + _HASHING_SECONDS)


def _ask_password() -> str:
    try:
        if sys.stdin.isatty():
            password = getpass.getpass("New password: ")
            if getpass.getpass("Once more: ") != password:
                raise Refused("the two are not the same")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
        if re.search("[\0\ud800-\udfff]", password):
            raise Refused("that is not a password")
    except (EOFError, UnicodeDecodeError):
        raise Refused("that is not a password") from None
    return password


def openapi(settings: Settings, options: argparse.Namespace) -> None:
    """Print the OpenAPI document of this version, as the service has it at /openapi.json."""
    print(json.dumps(app.openapi_document(), indent=2, ensure_ascii=False))


def generate_keys(settings: Settings, options: argparse.Namespace) -> None:
    """Make the key that signs tokens; the present one stays, unless --replace is given (rotate-keys is the gentle way)."""
    _check_bits(options.bits)
    path = settings.keys / keyring.KEY_FILE
    if options.replace and path.exists():
        with _alone(settings.keys):
            keyring.replace_key(settings.keys, options.bits)
    else:
        keyring.generate_key(settings.keys, options.bits)
    say(f"a new signing key: {path}")


def rotate_keys(settings: Settings, options: argparse.Namespace) -> None:
    """Change the signing key without refusing a token on the way: publish a new one, let it sign, retire the old one."""
    _check_bits(options.bits)
    folder = settings.keys
    keyring.load_keys(folder)
    with _alone(folder):
        if not keyring.retired(folder) or (folder / keyring.NEXT_FILE).exists():
            _publish_and_switch(folder, options)
        for path in keyring.retired(folder):
            _wait(path.stat().st_mtime + settings.token_seconds + CLOCK_SECONDS, f"{path.name} retires")
            path.unlink()
            say(f"{path.name} is retired; the rotation is done")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with keyring.rotating(folder) as alone:
        if not alone:
            raise Refused(f"the keys in {folder} are being rotated right now")
        yield


def _publish_and_switch(folder: Path, options: argparse.Namespace) -> None:
    path = folder / keyring.NEXT_FILE
    if not path.exists():
        keyring.generate_key(folder, options.bits, keyring.NEXT_FILE)
        say(f"{path} is published")
    _wait(path.stat().st_mtime + options.publish_seconds, "it signs")
    with interrupts.held():
        say(f"key {keyring.switch(folder)} signs")


def _wait(until: float, what: str) -> None:
    seconds = until - time.time()
    if seconds > 0:
        say(f"{what} in {seconds:.0f} s; Ctrl-C leaves it as it is, and the next run goes on from here")
        time.sleep(seconds)


def _check_bits(bits: int) -> None:
    if not keyring.MINIMUM_BITS <= bits <= keyring.MINIMUM_BITS * 4:
        raise Refused(f"--bits must be from {keyring.MINIMUM_BITS} to {keyring.MINIMUM_BITS * 4}")
