"""Proving who one is with a password, and choosing a new one: throttled, in turns, and telling nothing by answer or time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from petstore import addresses, emails, errors, passwords
from petstore.calls import Call
from petstore.repository import sessions, users
from petstore.repository.users import Credentials
from petstore.throttle import ACCOUNT, ACCOUNT_HERE, ADDRESS, NEWCOMERS, REGISTER, Attempt

RESERVED_SECONDS = 1.0  # of the three that a request has: then no turn at hashing is worth having

logger = logging.getLogger(__name__)


@contextmanager
def attempt(call: Call, email: str) -> Iterator[Attempt]:
    """An attempt to log in to the account with this email: WrongCredentials in the block makes it a failed one."""
    account = call.read(partial(users.get_email_key, email=email))
    client = addresses.household(call.address or "")
    here, from_here = {ACCOUNT_HERE: f"{account} {client}"}, {ADDRESS: client}
    throttle = call.services.throttle
    tried = throttle.attempt({ACCOUNT: account, **here, **from_here})
    # Strangers who guess must not keep the owner out: where they were logged in before, only what was tried with this account
    # counts, and where nothing was tried with it yet, one attempt is looked at.
    if tried.waits and ACCOUNT_HERE not in tried.waits:
        if call.read(partial(sessions.is_known_address, email=email, address=call.address)):
            tried = throttle.attempt(here)
        elif tried.waits == {ACCOUNT} and tried.is_first(ACCOUNT_HERE):
            tried = throttle.attempt({NEWCOMERS: account, **here, **from_here})
    with _judged(call, tried, errors.WrongCredentials):
        yield tried


@contextmanager
def own_attempt(call: Call) -> Iterator[Attempt]:
    """The same for who is logged in: their login is counted for itself, whatever strangers try elsewhere."""
    tried = call.services.throttle.attempt({ACCOUNT_HERE: f"login {call.user.session_id}"})
    with _judged(call, tried, errors.WrongCredentials):
        try:
            yield tried
        except errors.WrongCredentials as problem:
            problem.detail = "The current password is wrong."
            problem.errors = [{"pointer": "/current_password", "detail": "is wrong"}]
            raise


@contextmanager
def registration(call: Call) -> Iterator[Attempt]:
    """An attempt to register: EmailTaken in the block tells who has an account, so it counts against the address."""
    client = addresses.household(call.address or "")
    with _judged(call, call.services.throttle.attempt({REGISTER: client}), errors.EmailTaken) as tried:
        yield tried


@contextmanager
def _judged(call: Call, tried: Attempt, failure: type[errors.Problem]) -> Iterator[Attempt]:
    if tried.waits:
        raise tried.refusal()
    try:
        yield tried
    except failure as problem:
        problem.headers.update(tried.fields())
        logger.warning("%s from %s: %s; request %s", call.route, call.address, problem.slug, call.request_id)
        raise
    except BaseException:
        tried.was_none()
        raise
    tried.succeeded()


def check_password(call: Call, known: Credentials | None, password: str) -> Credentials:
    """The same credentials, if the password is theirs; else WrongCredentials, after the same time when nobody is known."""
    # No connection is held meanwhile: hashing takes longer than any query.
    if not passwords.verify_password(password, known.password if known else None, wait_until(call)) or known is None:
        raise errors.WrongCredentials()
    return known


def check_new(call: Call, pointer: str, password: str, email: str) -> None:
    """Refuse a password that is too short, too long, common or made of the email."""
    if fault := passwords.password_fault(password, email, call.services.settings.password_min):
        raise errors.invalid(pointer, fault)


def check_email(pointer: str, email: str) -> None:
    """Refuse what is no email address."""
    if fault := emails.email_fault(email):
        raise errors.invalid(pointer, fault)


def wait_until(call: Call) -> float:
    """Until when a request may wait for its turn at hashing: 2 s after it arrived."""
    return call.deadline - RESERVED_SECONDS
