"""Log in, refresh the tokens, log out."""

from __future__ import annotations

from dataclasses import replace

from petstore import errors
from petstore.auth import passwords
from petstore.domain import credentials, logins
from petstore.domain.transactions import transact
from petstore.repository import users
from petstore.request import Request, Response


def login(request: Request) -> Response:
    """Give tokens for email and password. Unknown email and wrong password are the same, also in time.

    Send the `access_token` with each request; POST /refresh gives the next pair. After some failures attempts have to wait.
    """
    email, password = request.body["email"], request.body["password"]
    with credentials.login_attempt(request, email) as attempt:
        known = credentials.check_password(request, request.read(users.get_credentials, email=email), password)
        phc = known.password
        if passwords.needs_rehash(phc):
            phc = passwords.hash_password(password, credentials.hashing_deadline(request))
            new = {"old_password": known.password, "password": phc}
            transact(request, lambda conn: users.rehash_password(conn, user_id=known.id, **new))
        response = logins.begin(request, known.id, phc)
        if response is None:
            raise errors.WrongCredentials()
    return replace(response, headers=attempt.fields())


def refresh(request: Request) -> Response:
    """Give the next tokens for a refresh token.

    Shown again within 10 s, while its successor is unused, it gives the same refresh token: send it again if the answer was
    lost. If the successor is used: `refresh-token-just-used`. After 10 s the whole login ends.
    """
    return logins.refresh(request, request.body["refresh_token"])


def logout(request: Request) -> Response:
    """End the login of a refresh token; nothing, if there is none.

    Its access tokens end, too. An unknown or used token is a 204 as well.
    """
    logins.end(request, request.body["refresh_token"])
    return Response(204)
