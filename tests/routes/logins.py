"""Logins as the tests of sessions see them."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import jwt

from tests.factories import PASSWORD
from tests.waiting import eventually

ANA, BOB = "Ana@example.com", "bob@example.com"
NEW_PASSWORD = "a staple of another make"


def login(client, email=ANA, password=PASSWORD):
    answer = client.post("/login", {"email": email, "password": password})
    assert answer.status == 200
    return answer.json()


def refresh(client, tokens):
    return client.post("/refresh", {"refresh_token": tokens if isinstance(tokens, str) else tokens["refresh_token"]})


def logout(client, tokens):
    return client.post("/logout", {"refresh_token": tokens if isinstance(tokens, str) else tokens["refresh_token"]})


def me(client, tokens, path="/me"):
    return client.get(path, headers={"Authorization": f"Bearer {tokens['access_token']}"})


def is_dead(clients, tokens):
    """Neither token of a login is good for anything, on any worker."""
    answers = [me(client, tokens) for client in clients]
    assert {answer["WWW-Authenticate"] for answer in answers} == {'Bearer realm="petstore", error="invalid_token"'}
    return {answer.status for answer in answers + [refresh(client, tokens) for client in clients]} == {401}


def lives(clients, tokens):
    """Its tokens are good on every worker; the refresh token is used up by this."""
    return {me(client, tokens).status for client in clients} == {200} and refresh(clients[0], tokens).status == 200


def age(make, tokens, seconds):
    """Let a used refresh token have been used that much longer ago."""
    assert make.conn.execute(
        "UPDATE refresh_tokens SET used_at = used_at - make_interval(secs => %s) WHERE token_hash = %s",
        (seconds, sha256(tokens)),
    ).rowcount


def sha256(tokens):
    return hashlib.sha256(tokens["refresh_token"].encode()).digest()


def sid(tokens):
    return int(jwt.decode(tokens["access_token"], options={"verify_signature": False})["sid"])


def ends(make):
    """Of each login: whether and why it ended."""
    return make.rows("SELECT id, ended_at IS NOT NULL, end_reason FROM sessions ORDER BY id")


def waiting(make):
    """How many wait for a lock."""
    return make.scalar("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")


@contextmanager
def held(make, sql, *parameters):
    """Rows that somebody else has locked, for the block."""
    with make.conn.transaction():
        make.conn.execute(sql, parameters)
        yield


def in_order(make, requests):
    """Send requests of which each comes to wait for the lock that the test holds before the next is sent; their futures."""
    pool, futures = ThreadPoolExecutor(len(requests)), []
    for number, request in enumerate(requests, 1):
        futures.append(pool.submit(request))
        eventually(lambda number=number: waiting(make) == number, seconds=5)
    pool.shutdown(wait=False)
    return futures
