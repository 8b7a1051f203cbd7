"""Accounts: register, the own one, and what admins do to others."""

from __future__ import annotations

from functools import partial
from typing import Any

from petstore import credentials, errors, passwords
from petstore import sessions as logins
from petstore.calls import Answer, Call
from petstore.db import Connection
from petstore.documents import Document
from petstore.invoicing import wholes
from petstore.pagination import page, position
from petstore.parameters import fault
from petstore.repository import audit, idempotency, invoices, sessions, users
from petstore.repository.users import Credentials

_EVERYTHING = 2**31 - 1  # rows


def register(call: Call) -> Answer:
    """Make an account; a known email, in whatever case, is a 409."""
    email, password = call.body["email"], call.body["password"]
    credentials.check_email("/email", email)
    credentials.check_new(call, "/password", password, email)
    with credentials.registration(call) as attempt:
        # The index decides; this spares hashing for nothing.
        if call.read(partial(users.get_credentials, email=email)):
            raise errors.EmailTaken()
        phc = passwords.hash_password(password, credentials.wait_until(call))
        user = call.write(partial(users.create_user, email=email, password=phc))
    return Answer(201, user, attempt.fields())


def get_profile(call: Call) -> Document:
    """The caller's profile."""
    return call.document(_profile(call.read(partial(users.get_user, user_id=call.user.id))))


def change_password(call: Call) -> Answer:
    """Give the caller a new password; every login of theirs ends."""
    own, new = _own(call), call.body["new_password"]
    credentials.check_new(call, "/new_password", new, own.email)
    with credentials.own_attempt(call) as attempt:
        credentials.check_password(call, own, call.body["current_password"])
        phc = passwords.hash_password(new, credentials.wait_until(call))
        change = partial(users.change_password, user_id=own.id, old_password=own.password, password=phc)
        if logins.write(call, own.id, change) is None:
            raise errors.WrongCredentials()  # it was changed meanwhile
    return Answer(204, headers=attempt.fields())


def export_account(call: Call) -> Document:
    """All that is kept about the caller, as it was at one moment. One at a time: that of a big customer is megabytes."""
    user_id, exports = call.user.id, call.services.exports

    def work(conn: Connection) -> dict[str, Any]:
        own = invoices.list_invoices(conn, user_id=user_id, before=0, limit=_EVERYTHING)
        return {
            "profile": _profile(users.get_user(conn, user_id=user_id)),
            "sessions": sessions.list_sessions(conn, user_id=user_id),
            "invoices": wholes(conn, own),
            "audit": audit.list_own_entries(conn, user_id=user_id),
            "idempotency_keys": idempotency.list_keys(conn, user_id=user_id),
        }

    if not exports.acquire(blocking=False):
        raise errors.Unavailable("Another export is being made; try again.")
    try:
        return call.document(call.snapshot(work))
    finally:
        exports.release()


def delete_account(call: Call) -> Answer:
    """Erase what is personal of the caller; invoices remain, without it."""
    own = _own(call)

    def work(conn: Connection) -> Answer:
        _keep_an_admin(conn, own.id)
        users.lock_user(conn, user_id=own.id)
        if users.erase_user(conn, user_id=own.id, old_password=own.password) is None:
            raise errors.WrongCredentials()  # it was changed meanwhile
        sessions.delete_sessions(conn, user_id=own.id)
        idempotency.delete_keys(conn, user_id=own.id)
        audit.erase_addresses(conn, actor_id=own.id)
        invoices.erase_reasons(conn, user_id=own.id)
        return Answer(204)

    with credentials.own_attempt(call):
        credentials.check_password(call, own, call.body["current_password"])
        return logins.write(call, own.id, work)


def list_accounts(call: Call) -> Document:
    """A page of all accounts, or the one with an email.

    `email` stands alone, without `limit` and `after`.
    """
    query = call.query
    if "email" in query:
        if len(query) > 1:
            raise fault("email", "asks for one account: it cannot stand together with limit or after")
        found = call.read(partial(users.find_user, email=query["email"]))
        return call.document(page("users", [found] if found else [], 1))
    after, limit = position(query, "users", 0)
    return call.document(page("users", call.read(partial(users.list_users, after=after, limit=limit + 1)), limit))


def change_account(call: Call) -> Answer:
    """Give an account another role, disable it, or let it in again."""
    user_id, role, active = call.path["user_id"], call.body.get("role"), call.body.get("active")

    def work(conn: Connection) -> Answer:
        if role == "user" or active is False:
            _keep_an_admin(conn, user_id)
        account = users.update_user(conn, user_id=user_id, role=role, active=active)
        if account is None:
            raise errors.NotFound("There is no account with this id.")
        return Answer(200, account)

    return logins.write(call, user_id, work)


def _keep_an_admin(conn: Connection, leaving: int) -> None:
    """Refuse when the last active admin would go."""
    if users.lock_admins(conn) == [leaving]:
        raise errors.LastAdmin()


def _own(call: Call) -> Credentials:
    own = call.read(partial(users.get_own_credentials, user_id=call.user.id))
    if own is None:
        raise errors.LoginEnded()  # it was erased meanwhile
    return own


def _profile(user: users.User | None) -> users.User:
    if user is None:
        raise errors.LoginEnded()
    return user
