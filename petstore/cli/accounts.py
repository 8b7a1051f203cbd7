"""`petstore create-admin` and `petstore set-password`."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
import time

from petstore.auth import passwords
from petstore.cli.connect import forget_logins, open_shop
from petstore.cli.output import CommandError, report
from petstore.emails import email_fault
from petstore.repository import users
from petstore.settings import Settings

_HASHING_SECONDS = 60.0  # that a command waits for a hashing slot


def create_admin(settings: Settings, options: argparse.Namespace) -> None:
    """Add an admin, or make the account with this email one; the password comes from a prompt or standard input."""
    if fault := email_fault(options.email):
        raise CommandError(f"email {fault}")
    phc = _new_hash(settings, options.email)
    with open_shop(settings) as (settings, conn, shop):
        user = users.save_admin(conn, email=options.email, password=phc)
        forget_logins(settings, shop.identity, user.id)
        report(f"{user.email} is an admin (user {user.id})")


def set_password(settings: Settings, options: argparse.Namespace) -> None:
    """Give an account a new password, from a prompt or standard input; its logins end."""
    with open_shop(settings) as (settings, conn, shop):
        known = users.get_credentials(conn, email=options.email)
        if known is None:
            raise CommandError(f"there is no account {options.email}")
        phc = _new_hash(settings, known.email)
        if users.change_password(conn, user_id=known.id, old_password=known.password, password=phc) is None:
            raise CommandError(f"the password of {options.email} was changed at the same time; try again")
        forget_logins(settings, shop.identity, known.id)
        report(f"{options.email} has a new password")


def _new_hash(settings: Settings, email: str) -> str:
    """Ask for a password, check it as at registration, and hash it."""
    password = _ask_password()
    if fault := passwords.password_fault(password, email, settings):
        raise CommandError(f"password {fault}")
    return passwords.hash_password(password, time.monotonic() + _HASHING_SECONDS)


def _ask_password() -> str:
    try:
        if sys.stdin.isatty():
            password = getpass.getpass("New password: ")
            if getpass.getpass("Once more: ") != password:
                raise CommandError("the two passwords differ")
        else:
            password = sys.stdin.readline().rstrip("\r\n")
        if re.search("[\0\ud800-\udfff]", password):
            raise CommandError("a password is one line of text, in UTF-8")
    except (EOFError, UnicodeDecodeError):
        raise CommandError("a password is one line of text, in UTF-8") from None
    return password
