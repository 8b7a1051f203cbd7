"""A folder of keys, and how often it is looked at."""

from __future__ import annotations

import time

import pytest

from petstore.auth import signing_keys
from petstore.auth.signing_keys import KEY_FILE, thumbprint
from petstore.cli import keys as key_commands
from tests.auth.key_files import key_pair, pem_of, put


@pytest.fixture(scope="session")
def pairs():
    """Three good keys."""
    return [key_pair(number) for number in range(3)]


@pytest.fixture(scope="session")
def kids(pairs):
    return [thumbprint(pair.public_key()) for pair in pairs]


@pytest.fixture
def folder(tmp_path, pairs):
    """A folder with the first of them as the signing key."""
    path = tmp_path / "keys"
    path.mkdir()
    put(path / KEY_FILE, pem_of(pairs[0]))
    return path


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
