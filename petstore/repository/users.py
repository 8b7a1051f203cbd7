"""Accounts, as sql/queries/users."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from petstore.db import Connection, one, one_or_none, scalar


@dataclass(frozen=True)
class User:
    """A profile: what may be shown of an account."""

    id: int
    email: str
    role: str
    created_at: datetime


@dataclass(frozen=True)
class Credentials:
    """What a login is checked against. password: the hash, a PHC string."""

    id: int
    password: str
    role: str


def create_user(conn: Connection, *, email: str, password: str) -> User:
    """A new account; EmailTaken when the address is known."""
    return one(conn, "users/create_user", User, email=email, password=password)


def save_admin(conn: Connection, *, email: str, password: str) -> User:
    """A new admin, or the known account made one."""
    return one(conn, "users/save_admin", User, email=email, password=password)


def get_user(conn: Connection, *, user_id: int) -> User | None:
    """The profile of an account."""
    return one_or_none(conn, "users/get_user", User, user_id=user_id)


def get_credentials(conn: Connection, *, email: str) -> Credentials | None:
    """Id, hash and role by email, in whatever case it is typed."""
    return one_or_none(conn, "users/get_credentials", Credentials, email=email)


def update_password(conn: Connection, *, user_id: int, old_password: str, password: str) -> int | None:
    """Replace the hash that was read; None when it is no longer that one."""
    found: int | None = scalar(conn, "users/update_password", user_id=user_id, old_password=old_password, password=password)
    return found
