"""Proving who one is with a password, and choosing a new one: throttled, in turns, and telling nothing by answer or time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from petstore import emails, errors
from petstore.auth import passwords
from petstore.limits import clients
from petstore.limits.failed_attempts import ACCOUNT, ACCOUNT_HERE, ADDRESS, NEWCOMERS, REGISTER, Attempt
from petstore.repository import sessions, users
from petstore.repository.users import Credentials
from petstore.request import Request

RESERVED_SECONDS = 1.0  # of the three that a request has: then no turn at hashing is worth having
logger = logging.getLogger(__name__)


@contextmanager
def attempt(request: Request, email: str) -> Iterator[Attempt]:
    """An attempt to log in to the account with this email: WrongCredentials in the block makes it a failed one."""
    account = request.read(users.get_email_key, email=email)
    client = clients.client_key(request.address or "")
    here, from_here = {ACCOUNT_HERE: f"{account} {client}"}, {ADDRESS: client}
    throttle = request.services.failed_attempts
    tried = throttle.attempt({ACCOUNT: account, **here, **from_here})
    # Strangers who guess must not keep the owner out: where they were logged in before, only what was tried with this account
    # counts, and where nothing was tried with it yet, one attempt is looked at.
    if tried.waits and ACCOUNT_HERE not in tried.waits:
        if request.read(sessions.is_known_address, email=email, address=request.address):
            tried = throttle.attempt(here)
        elif tried.waits == {ACCOUNT} and tried.is_first(ACCOUNT_HERE):
            tried = throttle.attempt({NEWCOMERS: account, **here, **from_here})
    with _judged(request, tried, errors.WrongCredentials):
        yield tried


@contextmanager
def own_attempt(request: Request) -> Iterator[Attempt]:
    """The same for who is logged in: their login is counted for itself, whatever strangers try elsewhere."""
    tried = request.services.failed_attempts.attempt({ACCOUNT_HERE: f"login {request.user.session_id}"})
    with _judged(request, tried, errors.WrongCredentials):
        try:
            yield tried
        except errors.WrongCredentials as problem:
            problem.detail = "The current password is wrong."
            problem.errors = [{"pointer": "/current_password", "detail": "is wrong"}]
            raise


@contextmanager
def registration(request: Request) -> Iterator[Attempt]:
    """An attempt to register: EmailTaken in the block tells who has an account, so it counts against the address."""
    client = clients.client_key(request.address or "")
    with _judged(request, request.services.failed_attempts.attempt({REGISTER: client}), errors.EmailTaken) as tried:
        yield tried


@contextmanager
def _judged(request: Request, tried: Attempt, failure: type[errors.Problem]) -> Iterator[Attempt]:
    if tried.waits:
        raise tried.refusal()
    try:
        yield tried
    except failure as problem:
        problem.headers.update(tried.fields())
        logger.warning("%s from %s: %s; request %s", request.route, request.address, problem.slug, request.request_id)
        raise
    except BaseException:
        tried.was_none()
        raise
    tried.succeeded()


def check_password(request: Request, known: Credentials | None, password: str) -> Credentials:
    """The same credentials, if the password is theirs; else WrongCredentials, after the same time when nobody is known."""
    # No connection is held meanwhile: hashing takes longer than any query.
    if not passwords.verify_password(password, known.password if known else None, wait_until(request)) or known is None:
        raise errors.WrongCredentials()
    return known


def check_new(request: Request, pointer: str, password: str, email: str) -> None:
    """Refuse a password that is too short, too long, common or made of the email."""
    if fault := passwords.password_fault(password, email, request.services.settings.password_min):
        raise errors.invalid(pointer, fault)


def check_email(pointer: str, email: str) -> None:
    """Refuse what is no email address."""
    if fault := emails.email_fault(email):
        raise errors.invalid(pointer, fault)


def wait_until(request: Request) -> float:
    """Until when a request may wait for its turn at hashing: 2 s after it arrived."""
    return request.deadline - RESERVED_SECONDS
