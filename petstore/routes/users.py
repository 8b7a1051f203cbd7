"""Accounts: register, login, the own profile."""

from __future__ import annotations

from functools import partial

from petstore import errors, passwords
from petstore.cache import Document
from petstore.calls import Answer, Call
from petstore.repository import users
from petstore.tokens import User


def register(call: Call) -> Answer:
    """Make an account; a known email, in whatever case, is a 409."""
    password = passwords.hash_password(call.body["password"])
    # With time of its own: the hash may have had to wait for its turn.
    user = call.db.write(partial(users.create_user, email=call.body["email"], password=password))
    return Answer(201, user)


def login(call: Call) -> Answer:
    """Give an access token for email and password. Unknown email and wrong password are the same, also in time."""
    password = call.body["password"]
    known = call.db.read(partial(users.get_credentials, email=call.body["email"]))
    # The connection is back in the pool: hashing takes longer than any query.
    if not passwords.verify_password(password, known.password if known else None) or known is None:
        raise errors.WrongCredentials()
    if passwords.needs_rehash(known.password):
        stronger = passwords.hash_password(password)
        call.db.write(partial(users.update_password, user_id=known.id, old_password=known.password, password=stronger))
    tokens = call.services.tokens
    token = tokens.issue(User(known.id, known.role))
    return Answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": tokens.seconds})


def me(call: Call) -> Document:
    """The caller's profile."""
    user = call.read(partial(users.get_user, user_id=call.user.id))
    if user is None:
        raise errors.account_gone()
    return call.document(user)
