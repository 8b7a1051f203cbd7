"""The public halves of the keys, shown to everybody, by a service whose keys change while it runs."""

from __future__ import annotations

import base64
import time
from contextlib import ExitStack

import jwt
import pytest

from petstore.auth import key_rotation, signing_keys
from petstore.auth.signing_keys import KEY_FILE, NEXT_FILE, Keyring, load_key, load_keys, thumbprint
from petstore.cli import keys as key_commands
from tests.auth.key_files import INVALID, kid_of, pem_of, public_pem_of, put, retired_name
from tests.client import Client
from tests.commands import petstore
from tests.waiting import eventually

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


@pytest.mark.slow
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
