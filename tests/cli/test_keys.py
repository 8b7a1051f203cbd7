"""`petstore generate-keys`, and keys with which no service starts."""

from __future__ import annotations

import re
import stat

import pytest

from petstore.auth import key_rotation, signing_keys
from tests.auth.key_files import key_pair, spoil
from tests.commands import petstore


def test_generate_keys_makes_a_key_for_its_owner_alone_and_never_writes_over_one(tmp_path):
    keys, pem = tmp_path / "new" / "keys", tmp_path / "new" / "keys" / "private.pem"
    assert petstore("generate-keys", PETSTORE_KEYS=str(keys)).returncode == 0
    assert stat.S_IMODE(pem.stat().st_mode) == 0o600
    assert signing_keys.load_key(pem).key_size == 2048
    first, refresh = pem.read_bytes(), keys / "refresh.pem"
    refresh_key = refresh.read_bytes()
    again = petstore("generate-keys", PETSTORE_KEYS=str(keys))
    assert (again.returncode, pem.read_bytes(), refresh.read_bytes()) == (2, first, refresh_key)
    assert "--replace" in again.stderr
    assert petstore("generate-keys", "--replace", "--bits", "3072", PETSTORE_KEYS=str(keys)).returncode == 0
    assert signing_keys.load_key(pem).key_size == 3072
    assert stat.S_IMODE(pem.stat().st_mode) == 0o600
    assert sorted(keys.iterdir()) == [pem, refresh]
    assert refresh.read_bytes() not in (b"", refresh_key)
    assert stat.S_IMODE(refresh.stat().st_mode) == 0o600


@pytest.mark.parametrize("bits", ["1024", "2047", "100000", "many"])
def test_generate_keys_makes_no_weak_and_no_absurd_key(tmp_path, bits):
    assert petstore("generate-keys", "--bits", bits, PETSTORE_KEYS=str(tmp_path)).returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "is missing"),
        ("a folder", "cannot be read"),
        ("open to all", "chmod 600"),
        ("weak", "at least 2048 bits"),
        ("not RSA", "must be an RSA key"),
        ("bytes", "not an unencrypted private key"),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_start(tmp_path, fault, words):
    spoil(tmp_path / "private.pem", key_pair(0), fault)
    done = petstore("serve", PETSTORE_DATABASE_URL="postgresql://127.0.0.1:1/none", PETSTORE_KEYS=str(tmp_path))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# ── the folder ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_of_the_keys_is_made_for_its_owner_alone(tmp_path):
    assert petstore("generate-keys", PETSTORE_KEYS=str(tmp_path / "new" / "keys")).returncode == 0
    assert mode(tmp_path / "new" / "keys") == 0o700


def test_a_folder_that_anybody_can_enter_is_closed_if_it_is_for_the_keys_alone(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / ".gitignore").touch()
    done = petstore("generate-keys", PETSTORE_KEYS=str(tmp_path))
    assert (done.returncode, mode(tmp_path)) == (0, 0o700)
    assert "chmod" not in done.stderr


def test_what_a_group_may_enter_stays_open_to_it(tmp_path):
    tmp_path.chmod(0o750)
    done = petstore("generate-keys", PETSTORE_KEYS=str(tmp_path))
    assert (done.returncode, mode(tmp_path)) == (0, 0o750)
    assert "chmod" not in done.stderr


@pytest.mark.parametrize("name", ["certificate.crt", "shared", "group"])
def test_a_folder_that_others_need_is_left_and_told(tmp_path, name):
    tmp_path.chmod(0o755)
    if name == "group":
        assert petstore("generate-keys", PETSTORE_KEYS=str(tmp_path)).returncode == 0
        tmp_path.chmod(0o755)
        (tmp_path / "private.pem").chmod(0o640)
        key_rotation.close_folder(tmp_path)
        assert signing_keys.folder_fault(tmp_path) is not None
    else:
        (tmp_path / name).touch()
        done = petstore("generate-keys", PETSTORE_KEYS=str(tmp_path))
        assert done.returncode == 0
        assert re.search(
            rf" WARNING petstore: any user of this machine can enter {tmp_path}.*: chmod 700 {tmp_path}$", done.stderr, re.M
        )
    assert mode(tmp_path) == 0o755
