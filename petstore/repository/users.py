"""Accounts (sql/queries/users)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from petstore.db import Connection, many, one, one_or_none, scalar


@dataclass(frozen=True)
class User:
    """The profile: what users see of their own account."""

    id: int
    email: str
    role: str
    created_at: datetime


@dataclass(frozen=True)
class Account:
    """What admins see of an account. active: False when it was disabled."""

    id: int
    email: str
    role: str
    active: bool
    created_at: datetime


@dataclass(frozen=True)
class Credentials:
    """What a password is checked against. password: its hash, a PHC string."""

    id: int
    email: str
    password: str


def create_user(conn: Connection, *, email: str, password: str) -> User:
    """Create an account; EmailTaken when the email has one."""
    return one(conn, "users/create_user", User, email=email, password=password)


def save_admin(conn: Connection, *, email: str, password: str) -> User:
    """Create an admin, or make the account with this email an admin."""
    return one(conn, "users/save_admin", User, email=email, password=password)


def get_user(conn: Connection, *, user_id: int) -> User | None:
    """The profile of an account; None when it is erased."""
    return one_or_none(conn, "users/get_user", User, user_id=user_id)


def get_credentials(conn: Connection, *, email: str) -> Credentials | None:
    """The credentials of the account with this email, compared without case."""
    return one_or_none(conn, "users/get_credentials", Credentials, email=email)


def get_email_key(conn: Connection, *, email: str) -> str:
    """The form in which emails are compared. PostgreSQL's lower() decides, which differs from Python's for some letters."""
    return str(scalar(conn, "users/get_email_key", email=email))


def get_own_credentials(conn: Connection, *, user_id: int) -> Credentials | None:
    """The credentials of an account; None when it is erased."""
    return one_or_none(conn, "users/get_own_credentials", Credentials, user_id=user_id)


def rehash_password(conn: Connection, *, user_id: int, old_password: str, password: str) -> int | None:
    """Replace the hash by a stronger one of the same password; None when it is no longer `old_password`."""
    found: int | None = scalar(conn, "users/rehash_password", user_id=user_id, old_password=old_password, password=password)
    return found


def change_password(conn: Connection, *, user_id: int, old_password: str, password: str) -> int | None:
    """Replace the hash by that of a new password, and end all logins; None when it is no longer `old_password`."""
    found: int | None = scalar(conn, "users/change_password", user_id=user_id, old_password=old_password, password=password)
    return found


def erase_user(conn: Connection, *, user_id: int, old_password: str) -> int | None:
    """Erase the personal data of an account; None when its hash is no longer `old_password`."""
    found: int | None = scalar(conn, "users/erase_user", user_id=user_id, old_password=old_password)
    return found


def lock_for_change(conn: Connection, *, user_id: int) -> int | None:
    """Lock an account that is to be changed until the transaction ends; None when there is none."""
    found: int | None = scalar(conn, "users/lock_for_change", user_id=user_id)
    return found


def lock_user(conn: Connection, *, user_id: int) -> int | None:
    """Lock an account that is to be erased until the transaction ends, after all transactions that use it have ended."""
    found: int | None = scalar(conn, "users/lock_user", user_id=user_id)
    return found


def lock_admins(conn: Connection) -> list[int]:
    """Lock all active admins until the transaction ends; their ids."""
    found: list[int] = scalar(conn, "users/lock_admins")
    return found


def update_user(conn: Connection, *, user_id: int, role: str | None, active: bool | None) -> Account | None:
    """Change `role` and `active`, if they are not None; None when there is no such account."""
    return one_or_none(conn, "users/update_user", Account, user_id=user_id, role=role, active=active)


def get_account(conn: Connection, *, user_id: int) -> Account | None:
    """One account as admins see it; None when it is erased."""
    return one_or_none(conn, "users/get_account", Account, user_id=user_id)


def list_users(conn: Connection, *, after: int, limit: int) -> list[Account]:
    """At most `limit` accounts with an id above `after`, in id order."""
    return many(conn, "users/list_users", Account, after=after, limit=limit)


def find_user(conn: Connection, *, email: str) -> Account | None:
    """The account with this email, compared without case."""
    return one_or_none(conn, "users/find_user", Account, email=email)
