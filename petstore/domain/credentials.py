"""Checks of passwords. Failed attempts are slowed down; neither the answer nor its time tells whether an email has an account."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from petstore import emails, errors
from petstore.auth import passwords
from petstore.limits.clients import client_networks
from petstore.limits.failed_attempts import Attempt
from petstore.limits.policies import ACCOUNT, ACCOUNT_HERE, ACCOUNT_NEAR, ADDRESSES, NEWCOMERS, REGISTERS, counters_of
from petstore.repository import sessions, users
from petstore.repository.users import Credentials
from petstore.request import Request

RESERVED_SECONDS = 1.0  # of the three that a request has, for hashing itself and the queries after it
logger = logging.getLogger(__name__)


@contextmanager
def login_attempt(request: Request, email: str) -> Iterator[Attempt]:
    """An attempt to log in to the account with this email. WrongCredentials in the block makes it a failed one.

    TooManyAttempts when it must wait.
    """
    account = request.read(users.get_email_key, email=email)
    networks = client_networks(request.address or "")
    near = {**counters_of(ACCOUNT_NEAR, networks, account), **counters_of(ADDRESSES, networks)}
    limits = request.services.failed_attempts
    attempt = limits.attempt({ACCOUNT: account, **near})
    # Strangers who guess must not lock the owner out. From an address that has logged in to the account before, only the failures
    # from there count. From one that has not tried this account yet, the first attempt is let through.
    if attempt.blocked_by and ACCOUNT_HERE not in attempt.blocked_by:
        if request.read(sessions.is_known_address, email=email, address=request.address):
            attempt = limits.attempt({ACCOUNT_HERE: near[ACCOUNT_HERE]})
        elif attempt.blocked_by == {ACCOUNT} and attempt.is_first(ACCOUNT_HERE):
            attempt = limits.attempt({NEWCOMERS: account, **near})
    with _counted(request, attempt, errors.WrongCredentials):
        yield attempt


@contextmanager
def password_attempt(request: Request) -> Iterator[Attempt]:
    """An attempt of the caller to give their current password. It counts per login, so strangers cannot block it.

    WrongCredentials in the block becomes Invalid: the caller is logged in, and a 401 makes clients refresh and send it again.
    """
    attempt = request.services.failed_attempts.attempt({ACCOUNT_HERE: f"login {request.user.session_id}"})
    try:
        with _counted(request, attempt, errors.WrongCredentials):
            yield attempt
    except errors.WrongCredentials:
        refusal = errors.invalid("/current_password", "is wrong")
        refusal.headers.update(attempt.fields())
        raise refusal from None


@contextmanager
def registration_attempt(request: Request) -> Iterator[Attempt]:
    """An attempt to register. EmailTaken in the block counts as failed: it tells that an email has an account."""
    networks = client_networks(request.address or "")
    attempt = request.services.failed_attempts.attempt(counters_of(REGISTERS, networks))
    with _counted(request, attempt, errors.EmailTaken):
        yield attempt


@contextmanager
def _counted(request: Request, attempt: Attempt, failure: type[errors.Problem]) -> Iterator[Attempt]:
    """Count how the block ends: `failure` keeps the charges, success resets the counters, any other error refunds the charges."""
    if attempt.blocked_by:
        raise attempt.refusal()
    try:
        yield attempt
    except failure as problem:
        problem.headers.update(attempt.fields())
        logger.warning("%s from %s: %s; request %s", request.route, request.address, problem.slug, request.request_id)
        raise
    except BaseException:
        attempt.cancel()
        raise
    attempt.succeed()


def check_password(request: Request, known: Credentials | None, password: str) -> Credentials:
    """Return `known` if the password is theirs, else raise WrongCredentials. For None (no account) it takes the same time."""
    # No database connection is held here: hashing takes longer than any query.
    if not passwords.verify_password(password, known.password if known else None, hashing_deadline(request)) or known is None:
        raise errors.WrongCredentials()
    return known


def check_new_password(request: Request, pointer: str, password: str, email: str) -> None:
    """Refuse a new password that is too short, too long or too easy to guess (petstore/auth/passwords.py)."""
    if fault := passwords.password_fault(password, email, request.services.settings):
        raise errors.invalid(pointer, fault)


def check_email(pointer: str, email: str) -> None:
    """Refuse a text that is not an email address."""
    if fault := emails.email_fault(email):
        raise errors.invalid(pointer, fault)


def hashing_deadline(request: Request) -> float:
    """time.monotonic() by which hashing must begin: 2 s after the request arrived."""
    return request.deadline - RESERVED_SECONDS
