"""The keys that sign: which files of a folder are keys, and which of them signs and verifies at each step of a rotation."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from petstore.auth import key_rotation, signing_keys
from petstore.auth.key_rotation import generate_key
from petstore.auth.signing_keys import (
    KEY_FILE,
    NEXT_FILE,
    REFRESH_FILE,
    KeyFault,
    Keyring,
    load_key,
    load_keys,
    refresh_pem,
    thumbprint,
)
from petstore.errors import Unauthorized
from tests.auth.key_files import SOMEBODY, issuer_of, kid_of, names, pem_of, public_pem_of, put, retired_name, spoil

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


@pytest.mark.parametrize("fault", ["a folder", "empty", "short", "no base64", "private", "open to all"])
def test_a_refresh_key_that_cannot_be_used_is_refused_with_its_path(folder, pairs, fault):
    path = folder / REFRESH_FILE
    put(path, refresh_pem(b"k" * 32))
    assert load_keys(folder).refresh == b"k" * 32
    path.unlink()
    if fault == "a folder":
        path.mkdir()
    else:
        good = refresh_pem(b"k" * 32)
        pems = {
            "empty": b"",
            "short": refresh_pem(b"k" * 31),
            "no base64": good.replace(b"a2", b"!!"),
            "private": pem_of(pairs[1]),
        }
        put(path, pems.get(fault, good), 0o604 if fault == "open to all" else 0o600)
    with pytest.raises(KeyFault) as refusal:
        load_keys(folder)
    assert str(path) in str(refusal.value)


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
