"""The keys that sign: those of a folder, shown to everybody by their public halves, and changed while the shop is open."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPException
from itertools import count
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from petstore.auth import key_rotation, signing_keys
from petstore.auth.key_rotation import generate_key
from petstore.auth.signing_keys import KEY_FILE, NEXT_FILE, KeyFault, Keyring, load_key, load_keys, thumbprint
from petstore.auth.tokens import Caller, Tokens
from petstore.cli import keys as key_commands
from petstore.errors import Unauthorized
from tests.client import Client
from tests.commands import environment, petstore
from tests.factories import PASSWORD
from tests.waiting import eventually

slow = pytest.mark.slow
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
SOMEBODY = Caller(id=7, role="user", session_id=3, token_version=1)
INVALID = 'Bearer realm="petstore", error="invalid_token"'
NOBODY = 65534


def pem_of(key, encryption=None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def public_pem_of(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def pairs():
    """Three good keys."""
    return [rsa.generate_private_key(65537, 2048) for _ in range(3)]


@pytest.fixture(scope="module")
def kids(pairs):
    return [thumbprint(pair.public_key()) for pair in pairs]


def put(path: Path, pem: bytes, mode: int = 0o600) -> Path:
    """A file as it would be left by an editor that writes aside and renames."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(pem)
    draft.chmod(mode)
    return draft.replace(path)


@pytest.fixture
def folder(tmp_path, pairs):
    """A folder with the first of them as the signing key."""
    path = tmp_path / "keys"
    path.mkdir()
    put(path / KEY_FILE, pem_of(pairs[0]))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def retired_name(kid: str) -> str:
    return f"retired-{kid}.pem"


def kid_of(token: str) -> str:
    return jwt.get_unverified_header(token)["kid"]


def issuer_of(ring: Keyring) -> Tokens:
    return Tokens(ring, issuer="petstore", audience="petstore", seconds=900)


@pytest.fixture
def always_looking(monkeypatch):
    """Every use of the keys looks at the folder, so that no test waits for the next look."""
    monkeypatch.setattr(signing_keys, "RELOAD_SECONDS", -1.0)


@pytest.fixture
def never_looking(monkeypatch):
    """Only a key that is not known makes anybody look, as in the second after a look."""
    monkeypatch.setattr(signing_keys, "RELOAD_SECONDS", 3600.0)
    monkeypatch.setattr(signing_keys, "UNKNOWN_SECONDS", -1.0)


@pytest.fixture
def impatient(monkeypatch):
    """The rotation waits a minute less than the settings say, and what still makes it wait is a fault."""

    def wait(until: float, what: str) -> None:
        assert until <= time.time(), f"it would wait: {what}"

    monkeypatch.setattr(key_commands, "CLOCK_SECONDS", -60)
    monkeypatch.setattr(key_commands, "_wait", wait)


# ── one key ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_thumbprint_is_that_of_the_rfc():
    """RFC 7638, 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5h"
        "ajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    public = jwt.algorithms.RSAAlgorithm.from_jwk({"kty": "RSA", "n": modulus, "e": "AQAB"})
    assert thumbprint(public) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_new_key_is_2048_bits_for_its_owner_only_and_never_written_over(tmp_path):
    path = generate_key(tmp_path / "new" / "keys")
    assert path.name == "private.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).key_size == 2048
    before = path.read_bytes()
    with pytest.raises(KeyFault, match="exists already"):
        generate_key(path.parent)
    assert path.read_bytes() == before
    assert names(path.parent) == ["private.pem"]


def spoil(path: Path, pair: rsa.RSAPrivateKey, fault: str) -> None:
    """Put something at the path that is no key to sign with."""
    if fault == "a folder":
        path.mkdir(mode=0o700)
    elif fault != "missing":
        weak = rsa.generate_private_key(65537, 1024) if fault == "weak" else None
        pems = {
            "empty": b"",
            "not PEM": b"-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----\n",
            "bytes": bytes(range(256)),
            "cut": pem_of(pair)[:-100],
            "encrypted": pem_of(pair, BestAvailableEncryption(b"x")) if fault == "encrypted" else b"",
            "not RSA": pem_of(ec.generate_private_key(ec.SECP256R1())),
            "public": public_pem_of(pair),
            "weak": pem_of(weak) if weak else b"",
        }
        mode = {"open to all": 0o604, "writable to all": 0o602, "runnable by all": 0o601}.get(fault, 0o600)
        put(path, pems.get(fault, pem_of(pair)), mode)


PRIVATE_FAULTS = {
    "a folder": "cannot be read",
    "empty": "unencrypted private key in PEM",
    "not PEM": "unencrypted private key in PEM",
    "bytes": "unencrypted private key in PEM",
    "cut": "unencrypted private key in PEM",
    "encrypted": "unencrypted",
    "public": "unencrypted private key in PEM",
    "not RSA": "RSA key of at least 2048",
    "weak": "RSA key of at least 2048",
    "open to all": "chmod 600",
    "writable to all": "chmod 600",
    "runnable by all": "chmod 600",
}


@pytest.mark.parametrize("name", [KEY_FILE, NEXT_FILE])
@pytest.mark.parametrize(("fault", "words"), PRIVATE_FAULTS.items(), ids=PRIVATE_FAULTS)
def test_a_key_that_cannot_be_used_is_refused_with_its_path_and_what_to_do(folder, pairs, name, fault, words):
    assert len(load_keys(folder).verifying) == 1
    (folder / name).unlink(missing_ok=True)
    spoil(folder / name, pairs[1], fault)
    with pytest.raises(KeyFault, match=words) as refusal:
        load_keys(folder)
    assert str(folder / name) in str(refusal.value)
    assert "BEGIN" not in str(refusal.value)


def test_a_folder_without_a_signing_key_is_refused_with_how_to_make_one(folder, pairs):
    for missing in (folder / KEY_FILE, folder):
        missing.rename(missing.with_name("gone"))
        with pytest.raises(KeyFault, match="generate-keys"):
            load_keys(folder)


def test_the_group_of_a_key_may_read_it(folder):
    (folder / KEY_FILE).chmod(0o640)
    assert len(load_keys(folder).verifying) == 1


@pytest.mark.parametrize("fault", ["a folder", "empty", "not PEM", "cut", "private", "not RSA", "weak"])
def test_a_retired_key_that_cannot_be_used_is_refused_with_its_path(folder, pairs, kids, fault):
    path = folder / retired_name(kids[1])
    put(path, public_pem_of(pairs[1]))
    assert list(load_keys(folder).verifying) == kids[:2]
    path.unlink()
    if fault == "a folder":
        path.mkdir()
    else:
        pems = {
            "empty": b"",
            "not PEM": b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n",
            "cut": public_pem_of(pairs[1])[:-100],
            "private": pem_of(pairs[1]),
            "not RSA": public_pem_of(ec.generate_private_key(ec.SECP256R1())),
            "weak": public_pem_of(rsa.generate_private_key(65537, 1024)),
        }
        put(path, pems[fault])
    with pytest.raises(KeyFault) as refusal:
        load_keys(folder)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("mode", [0o602, 0o622, 0o666])
def test_a_retired_key_that_everybody_could_have_written_is_refused(folder, pairs, kids, mode):
    """Who writes a public key of his own into it can sign as anybody."""
    put(folder / retired_name(kids[1]), public_pem_of(pairs[1]), mode)
    with pytest.raises(KeyFault, match="any user"):
        load_keys(folder)


def test_a_folder_that_everybody_may_put_a_key_into_is_refused(folder):
    load_keys(folder)
    folder.chmod(0o703)
    with pytest.raises(KeyFault, match="chmod o-w"):
        load_keys(folder)


def test_only_the_three_kinds_of_files_count(folder, pairs, kids):
    for name in ("old.pem", "next.pem.bak", ".next.pem.0123", "retired.pem", "private.pem~", "xretired-a.pem", "next.PEM"):
        put(folder / name, pem_of(pairs[1]))
    assert list(load_keys(folder).verifying) == kids[:1]


# ── the three steps ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_key_is_shown_then_signs_and_the_one_before_verifies_until_it_is_retired(always_looking, folder, pairs, kids):
    ring = Keyring(folder)
    issuer = issuer_of(ring)
    first = issuer.issue(SOMEBODY)
    assert (kid_of(first), set(ring.now().verifying)) == (kids[0], {kids[0]})

    put(folder / NEXT_FILE, pem_of(pairs[1]))  # published: it verifies, and does not sign yet
    second = issuer.issue(SOMEBODY)
    assert (kid_of(second), set(ring.now().verifying)) == (kids[0], set(kids[:2]))

    assert key_rotation.switch(folder) == kids[1]
    third = issuer.issue(SOMEBODY)
    assert (kid_of(third), set(ring.now().verifying)) == (kids[1], set(kids[:2]))
    assert names(folder) == ["private.pem", retired_name(kids[0])]
    assert load_key(folder / KEY_FILE).private_numbers() == pairs[1].private_numbers()
    assert (folder / retired_name(kids[0])).read_bytes() == public_pem_of(pairs[0])  # nobody can sign with it any more
    for token in (first, second, third):
        assert issuer.verify(token) == SOMEBODY

    (folder / retired_name(kids[0])).unlink()
    assert set(ring.now().verifying) == {kids[1]}
    for token in (first, second):
        with pytest.raises(Unauthorized):
            issuer.verify(token)
    assert issuer.verify(third) == SOMEBODY


def test_a_key_that_came_just_now_is_found_by_its_name_without_waiting(never_looking, folder, pairs, kids):
    ring = Keyring(folder)
    assert ring.find(kids[0]) is not None
    assert ring.find(kids[1]) is None
    put(folder / NEXT_FILE, pem_of(pairs[1]))
    assert set(ring.now().verifying) == {kids[0]}
    assert thumbprint(ring.find(kids[1])) == kids[1]
    assert set(ring.now().verifying) == set(kids[:2])


def test_tokens_of_unknown_keys_cannot_make_a_service_look_all_the_time(folder, pairs, kids, monkeypatch):
    monkeypatch.setattr(signing_keys, "RELOAD_SECONDS", 3600.0)
    monkeypatch.setattr(signing_keys, "UNKNOWN_SECONDS", 3600.0)
    ring = Keyring(folder)
    put(folder / NEXT_FILE, pem_of(pairs[1]))
    for kid in (kids[1], "of nobody") * 20:
        assert ring.find(kid) is None
    monkeypatch.setattr(signing_keys, "UNKNOWN_SECONDS", -1.0)
    assert ring.find(kids[1]) is not None


@pytest.mark.parametrize("kid", [None, 1, 1.5, True, [], {}, b"x", ""])
def test_what_is_no_name_finds_nothing(folder, kid):
    assert Keyring(folder).find(kid) is None


def steps(folder: Path) -> dict[str, Callable[[], object]]:
    return {
        "publish": lambda: (folder / "later").rename(folder / NEXT_FILE),
        "switch": lambda: key_rotation.switch(folder),
        "retire": lambda: signing_keys.retired(folder)[0].unlink(),
        "replace": lambda: (folder / "later").replace(folder / KEY_FILE),
    }


@pytest.mark.parametrize("step", ["publish", "switch", "retire", "replace"])
def test_who_reads_the_folder_misses_no_key_whatever_the_moment_of_a_step(tmp_path, pairs, kids, step):
    """The step is done between every two lines of the reading, in turn."""
    start = {
        "publish": {KEY_FILE: pairs[0]},
        "switch": {KEY_FILE: pairs[0], NEXT_FILE: pairs[1]},
        "retire": {KEY_FILE: pairs[1], retired_name(kids[0]): pairs[0]},
        "replace": {KEY_FILE: pairs[0]},
    }[step]
    needed = {"publish": {kids[0]}, "switch": set(kids[:2]), "retire": {kids[1]}, "replace": set()}[step]
    missed = []
    for moment in count():
        folder = tmp_path / str(moment)
        folder.mkdir()
        put(folder / "later", pem_of(pairs[1]))
        for name, pair in start.items():
            put(folder / name, public_pem_of(pair) if name.startswith("retired") else pem_of(pair))
        lines, done = 0, False

        def trace(frame, event, _, folder=folder, moment=moment):
            nonlocal lines, done
            if frame.f_code.co_filename != signing_keys.__file__:
                return None
            if event == "line":
                if lines == moment:
                    done = True
                    sys.settrace(None)
                    steps(folder)[step]()
                    sys.settrace(trace)
                lines += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            found = set(load_keys(folder).verifying)
        except (KeyFault, OSError) as fault:
            found = {repr(fault)}
        finally:
            sys.settrace(before)
        if not needed <= found or any("(" in kid for kid in found):
            missed.append((moment, found))
        shutil.rmtree(folder)
        if not done:
            break
    assert moment > 20
    assert missed == []


# ── the public halves ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_key_set_has_the_public_members_of_the_key_and_no_other(anyone, keys):
    answer = anyone.get("/.well-known/jwks.json")
    public = load_key(keys / KEY_FILE).public_key()
    numbers = public.public_numbers()
    (jwk,) = answer.json()["keys"]
    assert list(answer.json()) == ["keys"]
    assert set(jwk) == {"kty", "n", "e", "kid", "use", "alg"}
    assert (jwk["kty"], jwk["use"], jwk["alg"], jwk["kid"], jwk["e"]) == ("RSA", "sig", "RS256", thumbprint(public), "AQAB")
    assert int.from_bytes(base64.urlsafe_b64decode(jwk["n"] + "=="), "big") == numbers.n
    assert (answer.status, answer["Cache-Control"]) == (200, "public, max-age=300")
    assert answer["Content-Type"] == "application/json"
    head = anyone.request("HEAD", "/.well-known/jwks.json")
    assert (head.status, head["Cache-Control"], head["Content-Length"]) == (200, "public, max-age=300", answer["Content-Length"])


def test_a_stranger_can_verify_a_token_with_the_key_set_alone(anyone, buyer, ana):
    key_set = jwt.PyJWKSet.from_dict(anyone.get("/.well-known/jwks.json").json())
    key = next(jwk for jwk in key_set.keys if jwk.key_id == kid_of(buyer.token))
    claims = jwt.decode(buyer.token, key, algorithms=["RS256"], audience="petstore", issuer="petstore")
    assert claims["sub"] == str(ana.id)
    header, payload, signature = buyer.token.split(".")
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{header}.{payload}.{'A' * len(signature)}", key, algorithms=["RS256"], audience="petstore")


def test_the_key_set_takes_no_parameter_and_is_read_only(anyone):
    assert anyone.get("/.well-known/jwks.json?kid=x").status == 400
    answer = anyone.post("/.well-known/jwks.json", {})
    assert (answer.status, answer["Allow"]) == (405, "GET, HEAD")


def test_the_key_set_shows_no_private_member_of_any_of_three_keys(always_looking, make, with_settings, folder, pairs, kids):
    put(folder / NEXT_FILE, pem_of(pairs[1]))
    put(folder / retired_name(kids[2]), public_pem_of(pairs[2]))
    with with_settings(keys=folder) as (_, server), Client(server.address) as client:
        shown = client.get("/.well-known/jwks.json")
    assert {jwk["kid"] for jwk in shown.json()["keys"]} == set(kids)
    for jwk in shown.json()["keys"]:
        assert set(jwk) == {"kty", "n", "e", "kid", "use", "alg"}
    for pair in pairs:
        numbers = pair.private_numbers()
        for secret in (numbers.d, numbers.p, numbers.q):
            text = base64.urlsafe_b64encode(secret.to_bytes((secret.bit_length() + 7) // 8, "big")).rstrip(b"=")
            assert text not in shown.body


def test_others_may_keep_the_key_set_no_longer_than_a_new_key_is_shown_before_it_signs(anyone, folder, monkeypatch):
    kept = int(anyone.get("/.well-known/jwks.json")["Cache-Control"].split("max-age=")[1])
    waits = {}
    monkeypatch.setattr(key_commands, "_wait", lambda until, what: waits.setdefault(what, until - time.time()))
    assert petstore("rotate-keys", PETSTORE_KEYS=str(folder)).returncode == 0
    assert kept - 5 < waits["the new key signs"] <= kept
    (retiring,) = (seconds for what, seconds in waits.items() if what.endswith(" retires"))
    assert 900 < retiring <= 910  # the life of a token, and a little for clocks that differ


# ── a running service ────────────────────────────────────────────────────────────────────────────────────────────────────


def shown(client: Client) -> set[str]:
    return {jwk["kid"] for jwk in client.get("/.well-known/jwks.json").json()["keys"]}


def statuses(token: str, *clients: Client) -> list[int]:
    """What the services say to a token."""
    said = []
    for client in clients:
        client.token = token
        answer = client.get("/me")
        assert answer.status in (200, 401)
        if answer.status == 401:
            assert answer["WWW-Authenticate"] == INVALID
        client.token = None
        said.append(answer.status)
    return said


def test_a_running_service_shows_a_new_key_signs_with_it_and_lets_the_old_one_go(
    always_looking, make, with_settings, folder, pairs, kids
):
    ana = make.user()
    with with_settings(keys=folder) as (services, server), Client(server.address) as client:
        first = services.tokens.issue(ana)
        assert (shown(client), statuses(first, client)) == ({kids[0]}, [200])
        put(folder / NEXT_FILE, pem_of(pairs[1]))
        assert shown(client) == set(kids[:2])
        assert kid_of(services.tokens.issue(ana)) == kids[0]
        key_rotation.switch(folder)
        second = services.tokens.issue(ana)
        assert (kid_of(second), shown(client)) == (kids[1], set(kids[:2]))
        assert statuses(first, client) + statuses(second, client) == [200, 200]
        (folder / retired_name(kids[0])).unlink()
        assert shown(client) == {kids[1]}
        assert statuses(first, client) + statuses(second, client) == [401, 200]


@slow
def test_a_running_service_looks_at_its_folder_every_second(make, with_settings, folder, pairs, kids):
    """Nobody shows it a token of the new key."""
    with with_settings(keys=folder) as (_, server), Client(server.address) as client:
        assert shown(client) == {kids[0]}
        put(folder / NEXT_FILE, pem_of(pairs[1]))
        eventually(lambda: shown(client) == set(kids[:2]), 5)


@pytest.mark.parametrize("ahead", ["who signs", "who verifies"])
def test_two_services_on_one_folder_accept_each_others_tokens_at_each_step(
    never_looking, make, with_settings, folder, pairs, kids, ahead
):
    """One of them has looked at the folder, and the other has not since it started: the most that they can be apart."""
    ana = make.user()
    with ExitStack() as stack:
        both = [stack.enter_context(with_settings(keys=folder)) for _ in range(2)]
        clients = [stack.enter_context(Client(server.address)) for _, server in both]
        issuers = [services.tokens for services, _ in both]
        quick = issuers[0 if ahead == "who signs" else 1]
        kept = []
        for step in ("none", "publish", "switch"):
            if step == "publish":
                put(folder / NEXT_FILE, pem_of(pairs[1]))
            elif step == "switch":
                key_rotation.switch(folder)
            quick.keyring.find("of nobody")  # it looks
            for issuer in issuers:
                kept.append(issuer.issue(ana))
            for token in kept:
                for client in reversed(clients) if ahead == "who signs" else clients:
                    assert statuses(token, client) == [200], step
        assert {kid_of(token) for token in kept} == set(kids[:2])
        (folder / retired_name(kids[0])).unlink()
        for issuer in issuers:
            issuer.keyring.find("of nobody")
        for token in kept:
            assert statuses(token, *clients) == ([200, 200] if kid_of(token) == kids[1] else [401, 401])


@pytest.mark.slow
@pytest.mark.parametrize("name", [NEXT_FILE, "retired-x.pem", KEY_FILE])
def test_a_broken_file_dropped_into_the_folder_leaves_the_old_keys_in_use_and_is_logged_once(
    always_looking, make, with_settings, folder, pairs, kids, caplog, name
):
    ana = make.user()
    with with_settings(keys=folder) as (services, server), Client(server.address) as client:
        token = services.tokens.issue(ana)
        put(folder / name, b"-----BEGIN nothing-----")
        for _ in range(5):
            assert statuses(token, client) == [200]
            assert shown(client) == {kids[0]}
            assert kid_of(services.tokens.issue(ana)) == kids[0]
        logged = [record for record in caplog.records if "cannot be used" in record.getMessage()]
        assert [record.levelname for record in logged] == ["ERROR"]
        assert str(folder / name) in logged[0].getMessage()
        assert "BEGIN" not in caplog.text
        # Mended, it is used.
        (folder / name).unlink()
        if name == KEY_FILE:
            put(folder / KEY_FILE, pem_of(pairs[0]))
        put(folder / NEXT_FILE, pem_of(pairs[1]))
        assert shown(client) == set(kids[:2])
        assert statuses(token, client) == [200]
    assert sum("cannot be used" in record.getMessage() for record in caplog.records) == 1


def test_a_folder_that_goes_away_leaves_the_keys_in_use_until_it_is_back(
    always_looking, make, with_settings, folder, pairs, kids, caplog
):
    ana = make.user()
    with with_settings(keys=folder) as (services, server), Client(server.address) as client:
        token = services.tokens.issue(ana)
        away = folder.rename(folder.with_name("away"))
        for _ in range(3):
            assert (statuses(token, client), shown(client)) == ([200], {kids[0]})
        assert sum("cannot be used" in record.getMessage() for record in caplog.records) == 1
        put(away / NEXT_FILE, pem_of(pairs[1]))
        away.rename(folder)
        assert (statuses(token, client), shown(client)) == ([200], set(kids[:2]))


def test_a_link_to_nothing_in_the_folder_hides_no_change(always_looking, folder, pairs, kids):
    ring = Keyring(folder)
    (folder / "old.pem").symlink_to(folder / "gone.pem")
    assert set(ring.now().verifying) == {kids[0]}
    put(folder / NEXT_FILE, pem_of(pairs[1]))
    assert set(ring.now().verifying) == set(kids[:2])


def test_a_folder_in_which_nothing_changes_is_loaded_once_and_says_nothing(always_looking, folder, caplog, monkeypatch):
    loaded = []
    monkeypatch.setattr(signing_keys, "load_keys", lambda path, load=load_keys: loaded.append(path) or load(path))
    ring = Keyring(folder)
    for _ in range(20):
        ring.now()
        ring.find("of nobody")
    put(folder / "notes.txt", b"")
    ring.now()
    assert (loaded, caplog.text) == ([folder], "")


# ── petstore generate-keys ───────────────────────────────────────────────────────────────────────────────────────────────


def test_replacing_the_key_ends_every_access_token_and_no_login(always_looking, make, with_settings, folder, kids):
    make.user("ana@example.com")
    with with_settings(keys=folder) as (_, server), Client(server.address) as client:
        old = client.post("/login", {"email": "ana@example.com", "password": PASSWORD}).json()
        assert statuses(old["access_token"], client) == [200]
        assert petstore("generate-keys", "--replace", PETSTORE_KEYS=str(folder)).returncode == 0
        assert statuses(old["access_token"], client) == [401]
        new = client.post("/refresh", {"refresh_token": old["refresh_token"]})
        assert new.status == 200
        assert statuses(new.json()["access_token"], client) == [200]
        assert shown(client) == {kid_of(new.json()["access_token"])} != {kids[0]}
    assert make.rows("SELECT ended_at FROM sessions WHERE ended_at IS NOT NULL") == []


def test_replacing_the_key_in_the_middle_of_a_rotation_ends_the_tokens_of_every_key(always_looking, folder, pairs, kids):
    issuer = issuer_of(Keyring(folder))
    tokens = [issuer.issue(SOMEBODY)]
    put(folder / NEXT_FILE, pem_of(pairs[1]))
    key_rotation.switch(folder)
    tokens.append(issuer.issue(SOMEBODY))
    put(folder / NEXT_FILE, pem_of(pairs[2]))
    assert petstore("generate-keys", "--replace", PETSTORE_KEYS=str(folder)).returncode == 0
    for token in tokens:
        with pytest.raises(Unauthorized):
            issuer.verify(token)
    assert not set(load_keys(folder).verifying) & set(kids)
    assert names(folder) == ["private.pem"]


@root_only
def test_a_key_that_root_replaces_still_belongs_to_its_owner(folder):
    os.chown(folder / KEY_FILE, NOBODY, NOBODY)
    before = (folder / KEY_FILE).read_bytes()
    assert petstore("generate-keys", "--replace", PETSTORE_KEYS=str(folder)).returncode == 0
    status = (folder / KEY_FILE).stat()
    assert (folder / KEY_FILE).read_bytes() != before
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY, 0o600)


# ── petstore rotate-keys ─────────────────────────────────────────────────────────────────────────────────────────────────


def rotate(folder: Path, *arguments: str, token_seconds: int = 1) -> subprocess.CompletedProcess:
    return petstore("rotate-keys", *arguments, PETSTORE_KEYS=str(folder), PETSTORE_TOKEN_SECONDS=str(token_seconds))


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_rotation_publishes_switches_and_retires(impatient, folder, kids):
    done = rotate(folder, "--publish-seconds", "0")
    assert done.returncode == 0, done.stderr
    assert names(folder) == ["private.pem"]
    new = thumbprint(load_key(folder / KEY_FILE).public_key())
    assert new != kids[0]
    assert list(load_keys(folder).verifying) == [new]
    published, signs, retired = done.stderr.splitlines()
    assert "next.pem is published" in published
    assert f"key {new} signs" in signs
    assert f"{retired_name(kids[0])} is retired: the rotation is done" in retired
    assert "BEGIN" not in done.stderr + done.stdout


def test_a_rotation_makes_the_key_as_large_as_it_is_asked_to(impatient, folder):
    assert rotate(folder, "--publish-seconds", "0", "--bits", "3072").returncode == 0
    assert load_key(folder / KEY_FILE).key_size == 3072


@pytest.mark.parametrize("bits", ["1024", "2047", "100000", "many"])
def test_a_rotation_to_a_weak_or_an_absurd_key_is_refused(impatient, folder, bits):
    assert rotate(folder, "--publish-seconds", "0", "--bits", bits).returncode == 2
    assert names(folder) == ["private.pem"]


def test_a_published_key_is_the_one_that_signs_when_the_rotation_goes_on(impatient, folder, pairs, kids):
    age(put(folder / NEXT_FILE, pem_of(pairs[1])), 3601)
    done = rotate(folder, "--publish-seconds", "3600")
    assert done.returncode == 0, done.stderr
    assert list(load_keys(folder).verifying) == [kids[1]]
    assert names(folder) == ["private.pem"]
    assert "published" not in done.stderr


def test_a_rotation_that_had_switched_only_retires(impatient, folder, pairs, kids):
    put(folder / NEXT_FILE, pem_of(pairs[1]))
    key_rotation.switch(folder)
    done = rotate(folder, "--publish-seconds", "3600")
    assert done.returncode == 0, done.stderr
    assert list(load_keys(folder).verifying) == [kids[1]]
    assert names(folder) == ["private.pem"]


def test_a_rotation_that_died_inside_the_switch_is_finished(impatient, folder, pairs, kids):
    """The public half was put aside, and the new key not in its place yet."""
    put(folder / NEXT_FILE, pem_of(pairs[1]))
    put(folder / retired_name(kids[0]), public_pem_of(pairs[0]))
    for path in (folder / NEXT_FILE, folder / retired_name(kids[0])):
        age(path, 7200)
    done = rotate(folder, "--publish-seconds", "3600")
    assert done.returncode == 0, done.stderr
    assert list(load_keys(folder).verifying) == [kids[1]]
    assert names(folder) == ["private.pem"]


@pytest.mark.parametrize("waits_for", ["the new key signs", "retires"])
def test_keys_are_not_replaced_while_a_rotation_runs(folder, monkeypatch, waits_for):
    """Else it would go on with keys that are gone, and leave halves of it behind."""

    def wait(until: float, what: str) -> None:
        if what.endswith(waits_for):
            replaced.append(petstore("generate-keys", "--replace", PETSTORE_KEYS=str(folder)))

    replaced = []
    monkeypatch.setattr(key_commands, "_wait", wait)
    done = rotate(folder)
    (replacing,) = replaced
    assert (replacing.returncode, done.returncode) == (2, 0)
    assert "being rotated" in replacing.stderr
    assert names(folder) == ["private.pem"]


def test_one_rotation_at_a_time(impatient, folder):
    with key_rotation.rotation_lock(folder) as locked:
        assert locked
        done = rotate(folder, "--publish-seconds", "0")
        assert done.returncode == 2
        assert "being rotated" in done.stderr
        assert names(folder) == ["private.pem"]
    with key_rotation.rotation_lock(folder) as locked:
        assert locked


@pytest.mark.parametrize("name", [KEY_FILE, NEXT_FILE])
@pytest.mark.parametrize("fault", ["a folder", "not PEM", "weak", "open to all"])
def test_a_rotation_with_a_key_that_cannot_be_used_is_refused_and_changes_nothing(impatient, folder, pairs, name, fault):
    (folder / name).unlink(missing_ok=True)
    spoil(folder / name, pairs[1], fault)
    before = {path: path.stat().st_ino for path in folder.iterdir()}
    done = rotate(folder, "--publish-seconds", "0")
    assert done.returncode == 2
    assert str(folder / name) in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_ino for path in folder.iterdir()} == before


def test_a_rotation_of_no_key_or_no_folder_is_refused_with_how_to_make_one(impatient, folder):
    (folder / KEY_FILE).unlink()
    for path in (folder, folder / "none"):
        done = rotate(path, "--publish-seconds", "0")
        assert done.returncode == 2
        assert "generate-keys" in done.stderr
    assert names(folder) == []


@root_only
def test_the_files_of_a_rotation_by_root_belong_to_whom_the_key_belongs(impatient, folder, kids, monkeypatch):
    os.chown(folder / KEY_FILE, NOBODY, NOBODY)
    seen = {}

    def look(until: float, what: str) -> None:
        for path in folder.glob("*.pem"):
            status = path.stat()
            seen[what, path.name] = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))

    monkeypatch.setattr(key_commands, "_wait", look)
    assert rotate(folder, "--publish-seconds", "0").returncode == 0
    look(0, "the end")
    assert {name for _, name in seen} == {KEY_FILE, NEXT_FILE, retired_name(kids[0])}
    assert set(seen.values()) == {(NOBODY, NOBODY, 0o600)}


# ── as people do it, in processes of their own ───────────────────────────────────────────────────────────────────────────


class Rotation:
    """A `petstore rotate-keys` that runs."""

    def __init__(self, folder: Path, *arguments: str, token_seconds: int = 1) -> None:
        environ = environment(PETSTORE_KEYS=str(folder), PETSTORE_TOKEN_SECONDS=str(token_seconds))
        command = [sys.executable, "-m", "petstore", "rotate-keys", *arguments]
        self.process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)

    def wait_for(self, words: str) -> None:
        said = []
        for line in self.process.stderr:
            said.append(line)
            if words in line:
                return
        raise AssertionError(f"it never said {words!r}: {said}")

    def end(self, signal_number: int | None = None) -> tuple[int, str]:
        """Its status and its last words."""
        if signal_number:
            self.process.send_signal(signal_number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def start(folder):
    """Starts rotations of the folder; none outlives the test."""
    started = []

    def one(*arguments: str, token_seconds: int = 1) -> Rotation:
        started.append(Rotation(folder, *arguments, token_seconds=token_seconds))
        return started[-1]

    yield one
    for rotation in started:
        if rotation.process.returncode is None:
            rotation.end(signal.SIGKILL)


@slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_rotation_interrupted_after_each_step_goes_on_with_the_next_run(start, folder, kids, how):
    status = -how if how == signal.SIGKILL else 128 + how
    first = start("--publish-seconds", "3600")
    first.wait_for("the new key signs in")
    assert first.end(how)[0] == status
    assert names(folder) == [NEXT_FILE, KEY_FILE]
    coming = thumbprint(load_key(folder / NEXT_FILE).public_key())

    second = start("--publish-seconds", "0", token_seconds=3600)
    second.wait_for("retires in")
    assert second.end(how)[0] == status
    assert names(folder) == [KEY_FILE, retired_name(kids[0])]
    assert load_keys(folder).kid == coming
    assert set(load_keys(folder).verifying) == {coming, kids[0]}

    age(folder / retired_name(kids[0]), 3600 + 6)
    third = start("--publish-seconds", "3600", token_seconds=3600)
    code, said = third.end()
    assert code == 0
    assert "is done" in said
    assert names(folder) == [KEY_FILE]
    assert list(load_keys(folder).verifying) == [coming]


@slow
def test_of_two_rotations_at_once_the_second_is_refused_and_the_first_goes_on(start, folder):
    first = start("--publish-seconds", "3600")
    first.wait_for("the new key signs in")
    before = names(folder)
    code, said = start("--publish-seconds", "0").end()
    assert code == 2
    assert "being rotated" in said
    assert (names(folder), first.process.poll()) == (before, None)
    assert first.end(signal.SIGINT)[0] == 130


EXPIRED = "The access token has expired: get the next one (POST /refresh), or log in again."


def said_to(client: Client) -> str:
    answer = client.get("/me")
    return "200" if answer.status == 200 else answer.json()["detail"]


@slow
def test_no_request_is_refused_while_the_keys_of_two_services_are_rotated(start, make, with_settings, folder, kids):
    """Tokens are asked for all the way, and used at both services until a moment before they expire."""
    seconds = 3
    people = [make.user() for _ in range(3)]
    used: list[tuple[str, str]] = []
    faults: list[object] = []
    over = threading.Event()

    with ExitStack() as stack:
        both = [stack.enter_context(with_settings(keys=folder, token_seconds=seconds)) for _ in range(2)]

        def ask(person, turn: int) -> None:
            try:
                with Client(both[0][1].address) as one, Client(both[1][1].address) as two:
                    while not over.is_set():
                        token, born = both[turn % 2][0].tokens.issue(person), int(time.time())
                        turn += 1
                        while time.time() < born + seconds - 1:
                            for client in (one, two):
                                client.token = token
                                used.append((kid_of(token), said_to(client)))
                            if turn % 3:  # of three tokens one is used for all its life, the others once
                                break
            except (AssertionError, OSError, HTTPException) as fault:
                faults.append(fault)

        threads = [threading.Thread(target=ask, args=(person, turn)) for turn, person in enumerate(people)]
        for thread in threads:
            thread.start()
        try:
            code, said = start("--publish-seconds", "1", token_seconds=seconds).end()
            time.sleep(seconds)  # what was signed at the last moment
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert (code, faults) == (0, []), said
    new = thumbprint(load_key(folder / KEY_FILE).public_key())
    assert {kid for kid, _ in used} == {kids[0], new}
    # On a machine that stands still for a second one may be late; its signature is good all the same.
    assert {said for _, said in used} - {EXPIRED} == {"200"}
    assert sum(said == EXPIRED for _, said in used) < len(used) / 20
    assert names(folder) == [KEY_FILE]
