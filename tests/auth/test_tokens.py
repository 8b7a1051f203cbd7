"""Access tokens: what they say, and that every forgery is refused, by the code itself and over HTTP."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from petstore.auth.signing_keys import KEY_FILE, Keyring, thumbprint
from petstore.auth.tokens import Caller, Tokens
from petstore.domain import logins
from petstore.errors import Unauthorized
from tests.auth.forgeries import ATTACKS, SOMEBODY, Good
from tests.factories import PASSWORD, Person
from tests.raw_http import talk

INVALID = 'Bearer realm="petstore", error="invalid_token"'
CLAIMS = {"iss", "sub", "aud", "iat", "exp", "jti", "role", "sid", "token_version", "session_uuid"}
ROUTES = {"user": "/me", "admin": "/admin/users"}


@pytest.fixture(scope="module")
def key(keys):
    return serialization.load_pem_private_key((keys / KEY_FILE).read_bytes(), None)


@pytest.fixture(scope="module")
def thief():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def issuer(keys):
    return Tokens(Keyring(keys), issuer="petstore", audience="petstore", seconds=900)


@pytest.fixture
def trap() -> Iterator[str]:
    """The address of a server of the thief's, which nobody may ask for a key."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/keys.json"
        with pytest.raises(BlockingIOError):
            server.accept()


# ── what is done meanwhile ───────────────────────────────────────────────────────────────────────────────────────────────


_watched: int | None = None
_touched: list[tuple[str, str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    # The shared service works on other threads, with files and sockets of its own.
    if _watched == threading.get_ident() and event.startswith(("open", "os.", "socket.", "subprocess.", "urllib.")):
        _touched.append((event, str(arguments[0]) if arguments else ""))


sys.addaudithook(_audit)  # for good: there is no way to take one off


@contextmanager
def touching_only_the_list_of(folder: str) -> Iterator[None]:
    """No file is opened and no socket made in the block, by this thread. The folder's names may be read: it shows new keys."""
    global _watched
    _touched.clear()
    _watched = threading.get_ident()
    try:
        yield
    finally:
        _watched = None
    listing = [("os.scandir", folder), ("os.listdir", folder)]
    assert [(event, what) for event, what in _touched if (event, os.path.normpath(what)) not in listing] == []


def test_the_watch_sees_files_and_sockets(tmp_path):
    for touch in (
        lambda: (tmp_path / "x").write_bytes(b""),
        lambda: os.close(os.open(tmp_path / "x", os.O_RDONLY)),
        lambda: socket.socket().close(),
        lambda: os.listdir(tmp_path / ".."),
    ):
        with pytest.raises(AssertionError), touching_only_the_list_of(str(tmp_path)):
            touch()
    with touching_only_the_list_of(str(tmp_path)), os.scandir(tmp_path):
        pass


# ── good ones ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_says_who_from_whom_for_whom_and_for_how_long(issuer, key):
    whom = Caller(id=7, role="admin", session_id=3, token_version=5, session_uuid=str(uuid.uuid4()))
    token = issuer.issue(whom)
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "at+jwt", "kid": thumbprint(key.public_key())}
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"], audience="petstore")
    assert set(claims) == CLAIMS
    assert (claims["iss"], claims["sub"], claims["aud"], claims["role"]) == ("petstore", "7", "petstore", "admin")
    assert (claims["sid"], claims["token_version"], claims["session_uuid"]) == ("3", 5, whom.session_uuid)
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - time.time()) < 5
    assert issuer.verify(token) == whom


def test_two_tokens_are_never_the_same(issuer):
    assert issuer.issue(SOMEBODY) != issuer.issue(SOMEBODY)


def test_a_token_tells_nothing_about_the_person(anyone, make):
    make.user("ana@example.com")
    answer = anyone.post("/login", {"email": "ana@example.com", "password": PASSWORD}).json()
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert set(claims) == CLAIMS
    assert answer["refresh_token"] not in str(claims)
    assert claims["exp"] - claims["iat"] == answer["expires_in"]
    row = make.rows("SELECT user_id::text, id::text, token_version, session_uuid::text FROM sessions ORDER BY id DESC LIMIT 1")
    assert row == [tuple(claims[name] for name in ("sub", "sid", "token_version", "session_uuid"))]


# ── forged ones ──────────────────────────────────────────────────────────────────────────────────────────────────────────


every_attack = pytest.mark.parametrize("forge", ATTACKS.values(), ids=ATTACKS)


@every_attack
def test_a_forged_token_is_refused_and_nothing_is_opened_on_the_way(issuer, keys, key, thief, trap, forge):
    good = Good(issuer.issue(SOMEBODY), key, thief, str(keys), trap)
    assert issuer.verify(good.signed()) == SOMEBODY  # so it is for nothing but the change that the other one is refused
    forged = forge(good)
    with touching_only_the_list_of(str(keys)), pytest.raises(Unauthorized):
        issuer.verify(forged)
    assert issuer.verify(good.token) == SOMEBODY


@pytest.mark.slow
@every_attack
def test_a_forged_token_is_401_over_http_for_users_and_admins(make, clients, service, keys, key, thief, trap, forge):
    for role, path in ROUTES.items():
        client = clients(make.user(role=role))
        good = Good(client.token, key, thief, str(keys), trap)
        client.token = good.signed()
        assert client.get(path).status == 200
        client.token = forge(good)
        answer = client.get(path)  # checked to be a whole problem+json
        assert (answer.status, answer["WWW-Authenticate"], answer["Cache-Control"]) == (401, INVALID, "no-store")
        client.token = good.token
        assert client.get(path).status == 200


def test_a_token_of_a_machine_whose_clock_is_a_little_ahead_is_good(anyone, ana, service, keys, key, thief):
    good = Good(service[0].tokens.issue(ana), key, thief, str(keys), "")
    for ahead, status in ((3, 200), (60, 401)):
        now = int(time.time())
        token = good.with_claim(iat=now + ahead, exp=now + ahead + 900)
        assert anyone.get("/me", headers={"Authorization": f"Bearer {token}"}).status == status


def test_an_expired_token_is_told_so_and_no_other_is(anyone, ana, service, keys, key, thief):
    good = Good(service[0].tokens.issue(ana), key, thief, str(keys), "")
    for token, told in ((good.with_claim(exp=1), True), (good.signed(claims={"exp": 1}, key=thief), False)):
        answer = anyone.get("/me", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status, answer["WWW-Authenticate"]) == (401, INVALID)
        assert ("expired" in answer.json()["detail"]) is told


def test_a_token_of_20_kb_is_not_looked_at(buyer):
    token = buyer.token
    buyer.token = "x" * 20_000
    assert buyer.get("/me").status == 401
    with pytest.raises(Unauthorized):
        Tokens.verify(Tokens.__new__(Tokens), "x" * 20_000)  # nothing of the issuer is asked
    buyer.close()
    buyer.token = token
    assert buyer.get("/me").status == 200


def test_a_refresh_token_is_no_access_token_nor_the_other_way_round(anyone, make):
    make.user("ana@example.com")
    tokens = anyone.post("/login", {"email": "ana@example.com", "password": PASSWORD}).json()
    anyone.token = tokens["refresh_token"]
    for path in ROUTES.values():
        answer = anyone.get(path)
        assert (answer.status, answer["WWW-Authenticate"]) == (401, INVALID)
    anyone.token = None
    assert anyone.post("/refresh", {"refresh_token": tokens["access_token"]}).pointers() == ["/refresh_token"]
    assert make.scalar("SELECT count(*) FROM refresh_tokens WHERE used_at IS NOT NULL") == 0


# ── what only the database knows ─────────────────────────────────────────────────────────────────────────────────────────


def token_of(service, person: Caller, **changes: Any) -> str:
    """A token of ours that says something else than the rows do."""
    facts = {name: getattr(person, name) for name in ("id", "role", "session_id", "token_version", "session_uuid")}
    return service[0].tokens.issue(Caller(**facts | changes))


STOLEN: dict[str, Callable[[Person, Person], dict[str, Any]]] = {
    "another user, own session": lambda own, other: {"id": other.id},
    "own user, another's session": lambda own, other: {"session_id": other.session_id},
    "own session, another's uuid": lambda own, other: {"session_uuid": other.session_uuid},
    "own session, as it was on a lost timeline": lambda own, other: {"session_uuid": str(uuid.uuid4())},
    "unknown session": lambda own, other: {"session_id": 10**6},
    "session 0": lambda own, other: {"session_id": 0},
    "the largest session": lambda own, other: {"session_id": 2**63 - 1},
    "unknown user": lambda own, other: {"id": 10**6},
    "user 0": lambda own, other: {"id": 0},
    "the largest user": lambda own, other: {"id": 2**63 - 1},
    "a version before": lambda own, other: {"token_version": 1},
    "a version after": lambda own, other: {"token_version": 3},
    "the largest version": lambda own, other: {"token_version": 2**31 - 1},
}


@pytest.mark.parametrize("change", STOLEN.values(), ids=STOLEN.keys())
def test_a_token_whose_user_login_and_version_do_not_belong_together_is_401(make, clients, service, change):
    for role, path in ROUTES.items():
        own, other = make.user(role=role), make.user(role=role)
        make.conn.execute("UPDATE users SET token_version = 2 WHERE id IN (%s, %s)", (own.id, other.id))
        client = clients()
        client.token = token_of(service, own, **{"token_version": 2} | change(own, other))
        answer = client.get(path)
        assert (answer.status, answer["WWW-Authenticate"]) == (401, INVALID)
        for person in (own, other):  # each with what belongs to them
            client.token = token_of(service, person, token_version=2)
            assert client.get(path).status == 200


def test_a_token_of_the_release_before_says_nothing_of_the_uuid_and_is_good(make, clients, service):
    ana, client = make.user(), clients()
    client.token = token_of(service, ana, session_uuid=None)
    assert "session_uuid" not in jwt.decode(client.token, options={"verify_signature": False})
    assert client.get("/me").status == 200


ENDINGS = {
    "ended": "UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE user_id = %s",
    "removed": "DELETE FROM sessions WHERE user_id = %s",
    "disabled": "UPDATE users SET active = false WHERE id = %s",
    "version": "UPDATE users SET token_version = token_version + 1 WHERE id = %s",
}


@pytest.mark.parametrize("statement", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_token_ends_with_its_login_at_the_very_next_request_and_nobody_elses_does(make, clients, service, statement):
    for role, path in ROUTES.items():
        own, other = make.user(role=role), make.user(role=role)
        client, second = clients(own), clients(other)
        assert (client.get(path).status, second.get(path).status) == (200, 200)
        make.conn.execute(statement, (own.id,))
        logins.invalidate(service[0], own.id)  # as whatever of the service does the same
        answer = client.get(path)
        assert (answer.status, answer["WWW-Authenticate"]) == (401, INVALID)
        assert second.get(path).status == 200


def test_the_role_is_that_of_the_row_and_not_that_of_the_token(make, clients, service):
    user, boss = make.user(), make.user(role="admin")
    client = clients()
    client.token = token_of(service, user, role="admin")
    for method, path in (("GET", "/admin/users"), ("DELETE", f"/delete_product?id={make.product()}")):
        answer = client.request(method, path)
        assert (answer.status, answer["WWW-Authenticate"]) == (403, None)
    assert client.get("/me").json()["role"] == "user"
    assert make.rows("SELECT id FROM products WHERE deleted_at IS NOT NULL") == []
    client.token = token_of(service, boss, role="user")
    assert (client.get("/admin/users").status, client.get("/me").json()["role"]) == (200, "admin")
    for role in ("root", "ADMIN", ""):
        client.token = token_of(service, user, role=role)
        assert (client.get("/admin/users").status, client.get("/me").json()["role"]) == (403, "user")


def test_a_role_that_is_lowered_is_403_at_the_next_request_with_the_same_token(make, clients, service):
    own, other = make.user(role="admin"), make.user(role="admin")
    client, second = clients(own), clients(other)
    assert client.get("/admin/users").status == 200
    make.conn.execute("UPDATE users SET role = 'user' WHERE id = %s", (own.id,))
    logins.invalidate(service[0], own.id)
    assert (client.get("/admin/users").status, second.get("/admin/users").status) == (403, 200)


# ── on the wire ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "Bearer ", "Basic YTpi", "Digest x", "Bearer a b", "Bearer a, Bearer b", "Bearer: a", "Bearer\ta",
        "x" * 10_000, "Bearer é", "Bearer null", "Bearer undefined",
    ],
)  # fmt: skip
def test_an_authorization_header_that_is_no_bearer_token_is_401(anyone, header):
    for path in ROUTES.values():
        answer = anyone.get(path, headers={"Authorization": header.encode("utf-8").decode("latin-1")})
        assert answer.status == 401
        assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_good_token_without_its_scheme_or_with_another_is_401(buyer):
    token = buyer.token
    for header in (
        token,
        f"JWT {token}",
        f"Token {token}",
        f"Basic {token}",
        f"Bearer={token}",
        f"Bearer:{token}",
        f"Bearer\t{token}",
    ):
        assert buyer.get("/me", headers={"Authorization": header}).status == 401
    for header in (f"Bearer {token}", f"bearer {token}", f"BEARER {token}", f"bEARER   {token}"):
        assert buyer.get("/me", headers={"Authorization": header}).status == 200


def exchange(address: tuple[str, int], *lines: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a GET with these very lines."""
    return talk(address, b"\r\n".join([*lines, b"Host: petstore", b"Connection: close", b"", b""]))[0]


@pytest.mark.parametrize(
    "second",
    [
        b"Bearer %s", b"bearer %s", b"Basic YTpi", b"Bearer", b"", b" ", b",", b"!!!!", b"=", b"==", b"null",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [b"Authorization", b"authorization"])
def test_two_authorization_headers_are_refused_in_either_order(make, clients, service, name, second):
    for role, path in ROUTES.items():
        token = clients(make.user(role=role)).token.encode()
        address, first = service[1].address, b"Authorization: Bearer " + token
        other = name + b": " + second.replace(b"%s", token)
        assert exchange(address, b"GET %s HTTP/1.1" % path.encode(), first)[0] == 200
        for lines in ((first, other), (other, first)):
            status, headers, body = exchange(address, b"GET %s HTTP/1.1" % path.encode(), *lines)
            assert status in (400, 401)
            assert headers["content-type"] == "application/problem+json"
            assert json.loads(body)["status"] == status


@pytest.mark.parametrize(
    "inside", [b"\r\n ", b"\r\n\t", b"\n", b"\r", b"\0", b"\x0b", b"\x1f", b"\xa0", b"\xc2\xa0", b" ", b"\t", b"%20", b"\xad"]
)
def test_a_token_with_anything_inside_it_is_refused(buyer, inside):
    token = buyer.token.encode()
    for at in (3, token.index(b".") + 3, token.rindex(b".") + 4, len(token) - 4):
        line = b"Authorization: Bearer " + token[:at] + inside + token[at:]
        status, headers, body = exchange(buyer.address, b"GET /me HTTP/1.1", line)
        assert status in (400, 401)
        assert (headers["content-type"], json.loads(body)["status"]) == ("application/problem+json", status)


def test_a_token_in_the_query_or_in_the_body_or_in_a_cookie_is_none(admin):
    token, admin.token = admin.token, None
    for path in ROUTES.values():
        for query in (f"access_token={token}", f"token={token}", f"authorization=Bearer%20{token}"):
            answer = admin.get(f"{path}?{query}")
            assert (answer.status, answer["WWW-Authenticate"]) == (401, 'Bearer realm="petstore"')
        for name in ("Cookie", "X-Authorization", "Proxy-Authorization", "X-Access-Token"):
            value = f"access_token={token}" if name == "Cookie" else f"Bearer {token}"
            assert admin.get(path, headers={name: value}).status == 401
    for path in ("/create_product", "/me/password"):
        assert admin.post(path, {"access_token": token}).status == 401
        form = admin.post(
            path, raw=f"access_token={token}".encode(), headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert form.status == 415
    # Beside a good header it is an unknown parameter, and an unknown member.
    admin.token = token
    assert admin.get(f"/me?access_token={token}").status == 400
    assert admin.post("/me/password", {"access_token": token}).status == 422


def test_a_refused_token_is_in_no_log(admin, caplog):
    token, admin.token = admin.token, None
    with caplog.at_level("DEBUG"):
        admin.get(f"/me?access_token={token}")
        admin.get("/me", headers={"Authorization": f"Bearer {token}x"})
        admin.get("/me", headers={"Authorization": f"Bearer {token[:-4]}"})
    assert "GET /me 401" in caplog.text
    assert not any(part in caplog.text for part in token.split("."))
