"""What stops a service from starting, and what it says then."""

from __future__ import annotations

import re
import socket

import pytest

from tests.commands import petstore


def test_wrong_settings_stop_the_start_and_all_of_them_are_named():
    done = petstore("serve", PETSTORE_THREADS="none", PETSTORE_LISTEN="nowhere", PETSTORE_POOLSIZE="3")
    assert done.returncode == 2
    assert len(re.findall("PETSTORE_THREADS|PETSTORE_LISTEN must|PETSTORE_POOLSIZE", done.stderr)) == 3
    assert "did you mean PETSTORE_POOL_SIZE?" in done.stderr


@pytest.mark.parametrize("password", ["password1", "my admin!", "Petstore!", "zoo-berlin", "aaaaaaaa"])
def test_an_admin_password_that_nobody_could_register_with_stops_the_start(password):
    admin = {"PETSTORE_ADMIN_PASSWORD": password, "PETSTORE_ADMIN_EMAIL": "admin@example.com"}
    done = petstore("serve", "--setup", PETSTORE_ISSUER="Zoo Berlin", **admin)
    assert done.returncode == 2
    assert "PETSTORE_ADMIN_PASSWORD must" in done.stderr or "PETSTORE_ADMIN_PASSWORD is" in done.stderr
    assert password not in done.stderr


def test_an_admin_email_that_folds_to_another_one_stops_the_start():
    done = petstore("serve", "--setup", PETSTORE_ADMIN_EMAIL="\u0130ris@example.com")
    assert (done.returncode, "PETSTORE_ADMIN_EMAIL must not have characters that stand for others" in done.stderr) == (2, True)


def test_reset_leaves_a_database_alone_that_is_not_embedded():
    done = petstore("serve", "--setup", "--reset", PETSTORE_DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert done.returncode == 2
    assert "--reset is for the embedded database" in done.stderr


def test_serving_without_setup_needs_a_database():
    done = petstore("serve")
    assert done.returncode == 2
    assert "PETSTORE_DATABASE_URL is not set" in done.stderr


def test_a_port_in_use_is_named(make, settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = petstore(
            "serve", "--demo",
            PETSTORE_DATABASE_URL=settings.database_url, PETSTORE_KEYS=str(settings.keys), PETSTORE_LISTEN=f"127.0.0.1:{port}",
        )  # fmt: skip
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert make.scalar("SELECT count(*) FROM users") == 0  # no password is made for a service that does not start


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").touch()
    done = petstore("serve", "--setup", PETSTORE_HOME=str(tmp_path / "file" / "var"), PETSTORE_KEYS=str(tmp_path))
    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr
