"""Accounts: register; read, change, export and delete one's own; list and change them as an admin."""

from __future__ import annotations

from petstore import errors
from petstore.auth import passwords
from petstore.cache.document import Document
from petstore.db import Connection
from petstore.domain import credentials, logins
from petstore.domain.exports import make_export
from petstore.domain.transactions import transact
from petstore.repository import audit, idempotency, invoices, sessions, system, users
from petstore.repository.users import Credentials
from petstore.request import FileDocument, Request, Response
from petstore.web.pagination import page, position
from petstore.web.parameters import fault


def register(request: Request) -> Response:
    """Make an account; a known email, in whatever case, is a 409.

    The password must be hard to guess; a 422 says what is wrong with it. POST /login then gives the tokens.
    """
    email, password = request.body["email"], request.body["password"]
    credentials.check_email("/email", email)
    credentials.check_new_password(request, "/password", password, email)
    with credentials.registration_attempt(request) as attempt:
        # The unique index decides. This read only saves the time of hashing.
        if request.read(users.get_credentials, email=email):
            raise errors.EmailTaken()
        phc = passwords.hash_password(password, credentials.hashing_deadline(request))
        user = transact(request, lambda conn: users.create_user(conn, email=email, password=phc))
    return Response(201, user, attempt.fields())


def get_profile(request: Request) -> Document:
    """The caller's profile.

    Who the access token belongs to, and their role now.
    """
    return request.document(_profile(request.read(users.get_user, user_id=request.user.id)))


def change_password(request: Request) -> Response:
    """Give the caller a new password; every login of theirs ends.

    Log in again with the new one. The current password is asked for, and failed attempts have to wait.
    """
    own, new = _own_credentials(request), request.body["new_password"]
    credentials.check_new_password(request, "/new_password", new, own.email)
    with credentials.password_attempt(request) as attempt:
        credentials.check_password(request, own, request.body["current_password"])
        phc = passwords.hash_password(new, credentials.hashing_deadline(request))

        def change(conn: Connection) -> int | None:
            return users.change_password(conn, user_id=own.id, old_password=own.password, password=phc)

        with logins.invalidating(request, own.id):
            changed = transact(request, change, locks=lambda conn: users.lock_for_change(conn, user_id=own.id))
        if changed is None:
            raise errors.WrongCredentials()  # another request changed it meanwhile
    return Response(204, headers=attempt.fields())


def export_account(request: Request) -> FileDocument:
    """All that is kept about the caller, as it was at one moment.

    While an export of the account is being made, or read by its client, another one is a 429.
    """
    return make_export(request)


def delete_account(request: Request) -> Response:
    """Erase what is personal of the caller; invoices remain, without it.

    It cannot be undone. The current password is asked for. The last active admin cannot leave: 409.
    """
    own = _own_credentials(request)

    def lock(conn: Connection) -> None:
        system.share_housekeeping(conn)
        users.lock_admins(conn)
        users.lock_user(conn, user_id=own.id)

    def erase(conn: Connection) -> Response:
        _keep_an_admin(conn, own.id)
        sessions.delete_sessions(conn, user_id=own.id)
        idempotency.delete_keys(conn, user_id=own.id)
        invoices.erase_reasons(conn, user_id=own.id)
        # Dated here, when nothing of the account runs any more. It adds an address of its own to the audit log.
        if users.erase_user(conn, user_id=own.id, old_password=own.password) is None:
            raise errors.WrongCredentials()  # another request changed it meanwhile
        audit.erase_addresses(conn, actor_id=own.id)
        return Response(204)

    with credentials.password_attempt(request):
        credentials.check_password(request, own, request.body["current_password"])
        with logins.invalidating(request, own.id):
            return transact(request, erase, locks=lock)


def list_accounts(request: Request) -> Document:
    """A page of all accounts, or the one with an email.

    With `email` the page has that account, or nothing; `email` stands alone, without `limit` and `after`.
    """
    query = request.query
    if "email" in query:
        if len(query) > 1:
            raise fault("email", "asks for one account: it cannot stand together with limit or after")
        found = request.read(users.find_user, email=query["email"])
        return request.document(page("users", [found] if found else [], 1))
    after, limit = position(query, "users", 0)
    return request.document(page("users", request.read(users.list_users, after=after, limit=limit + 1), limit))


def get_account(request: Request) -> Document:
    """An account, as the list of all shows it.

    One that was deleted is a 404, and its invoices remain.
    """
    account = request.read(users.get_account, user_id=request.path["user_id"])
    if account is None:
        raise _no_such_account()
    return request.document(account)


def change_account(request: Request) -> Response:
    """Give an account another role, disable it, or let it in again.

    It takes effect with the account's next request. The last active admin can neither be demoted nor disabled: 409.
    """
    user_id, role, active = request.path["user_id"], request.body.get("role"), request.body.get("active")

    def lock(conn: Connection) -> None:
        users.lock_admins(
            conn
        )  # also when nobody leaves: whoever changes other accounts waits here for the others, or for an erasure
        users.lock_for_change(conn, user_id=user_id)

    def change(conn: Connection) -> Response:
        if role == "user" or active is False:
            _keep_an_admin(conn, user_id)
        account = users.update_user(conn, user_id=user_id, role=role, active=active)
        if account is None:
            raise _no_such_account()
        return Response(200, account)

    with logins.invalidating(request, user_id):
        return transact(request, change, locks=lock)


def _keep_an_admin(conn: Connection, leaving: int) -> None:
    """Raise LastAdmin if the user `leaving` is the only active admin."""
    if users.lock_admins(conn) == [leaving]:
        raise errors.LastAdmin()


def _no_such_account() -> errors.NotFound:
    return errors.NotFound("There is no account with this id.")


def _own_credentials(request: Request) -> Credentials:
    own = request.read(users.get_own_credentials, user_id=request.user.id)
    if own is None:
        raise errors.LoginEnded()  # another request erased it meanwhile
    return own


def _profile(user: users.User | None) -> users.User:
    if user is None:
        raise errors.LoginEnded()
    return user
