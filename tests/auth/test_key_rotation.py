"""`petstore generate-keys` and `petstore rotate-keys`, as people run them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import pytest

from petstore.auth import key_rotation
from petstore.auth.signing_keys import KEY_FILE, NEXT_FILE, REFRESH_FILE, Keyring, load_key, load_keys, thumbprint
from petstore.cli import keys as key_commands
from petstore.errors import Unauthorized
from tests.auth.key_files import (
    NOBODY,
    SOMEBODY,
    age,
    issuer_of,
    kid_of,
    names,
    pem_of,
    public_pem_of,
    put,
    retired_name,
    spoil,
)
from tests.auth.test_key_set import shown, statuses
from tests.client import Client
from tests.commands import environment, petstore
from tests.factories import PASSWORD

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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
    assert {name for _, name in seen} == {KEY_FILE, NEXT_FILE, retired_name(kids[0]), REFRESH_FILE}
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
