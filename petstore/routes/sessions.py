"""Logging in, refreshing, logging out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from petstore import credentials, errors, passwords, sessions
from petstore.calls import Answer, Call
from petstore.repository import users


def login(call: Call) -> Answer:
    """Give tokens for email and password. Unknown email and wrong password are the same, also in time."""
    email, password = call.body["email"], call.body["password"]
    with credentials.attempt(call, email) as attempt:
        known = credentials.check_password(call, call.read(partial(users.get_credentials, email=email)), password)
        phc = known.password
        if passwords.needs_rehash(phc):
            phc = passwords.hash_password(password, credentials.wait_until(call))
            call.write(partial(users.rehash_password, user_id=known.id, old_password=known.password, password=phc))
        answer = sessions.begin(call, known.id, phc)
        if answer is None:
            raise errors.WrongCredentials()
    return replace(answer, headers=attempt.fields())


def refresh(call: Call) -> Answer:
    """Give the next tokens for a refresh token, which works once."""
    return sessions.refresh(call, call.body["refresh_token"])


def logout(call: Call) -> Answer:
    """End the login of a refresh token; nothing, if there is none."""
    sessions.end(call, call.body["refresh_token"])
    return Answer(204)
