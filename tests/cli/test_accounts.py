"""`petstore create-admin` and `petstore set-password`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from petstore.domain import logins
from tests.cli.shops import PASSWORD, login
from tests.commands import environment, run


def test_create_admin_reads_the_password_from_standard_input(make, anyone, settings):
    done = run(settings, "create-admin", "boss@example.com", text=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert login(anyone, "boss@example.com", PASSWORD) == 200
    assert anyone.post("/create_product", {"name": "Ball", "price": "1", "stock": 1}).status == 201


def test_create_admin_makes_a_known_account_an_admin(make, anyone, settings):
    make.user("ana@example.com")
    assert run(settings, "create-admin", "Ana@example.com", text=f"{PASSWORD} new\n").returncode == 0
    assert make.rows("SELECT role FROM users") == [("admin",)]
    assert login(anyone, "ana@example.com", f"{PASSWORD} new") == 200


def test_set_password_ends_the_old_one(make, anyone, settings):
    make.user("ana@example.com")
    make.user("bob@example.com")
    assert run(settings, "set-password", "ana@example.com", text="another password\n").returncode == 0
    assert login(anyone, "ana@example.com", PASSWORD) == 401
    assert login(anyone, "ana@example.com", "another password") == 200
    assert login(anyone, "bob@example.com", PASSWORD) == 200


@pytest.mark.parametrize(("command", "role"), [("set-password", "user"), ("create-admin", "admin")])
def test_a_running_service_forgets_the_logins_of_the_account_at_once(
    make, ana, buyer, admin, settings, monkeypatch, command, role
):
    monkeypatch.setattr(logins, "CACHED_SECONDS", 60)
    assert [client.get("/me").json()["role"] for client in (buyer, admin)] == ["user", "admin"]  # both are in its memory now
    assert run(settings, command, ana.email, text="another password\n").returncode == 0
    assert buyer.get("/me").status == 401
    assert admin.get("/me").status == 200
    assert login(buyer, ana.email, "another password") == 200
    assert buyer.get("/me").json()["role"] == role
    assert buyer.get("/admin/users").status == (200 if role == "admin" else 403)


@pytest.mark.parametrize(
    ("command", "email", "password"),
    [
        ("set-password", "ana@example.com", "short"),
        ("create-admin", "ana@example.com", "x" * 257),
        ("create-admin", "boss@example.com", ""),
        ("set-password", "ana@example.com", "aaaaaaaa"),
        ("create-admin", "boss@example.com", "\u200b" * 8),
    ],
)
def test_a_password_out_of_bounds_is_refused_and_nothing_changes(make, settings, command, email, password):
    make.user("ana@example.com")
    before = make.rows("SELECT id, password, role FROM users")
    done = run(settings, command, email, text=f"{password}\n")
    assert done.returncode == 2
    assert "password must have" in done.stderr
    assert make.rows("SELECT id, password, role FROM users") == before


def test_what_is_no_email_is_no_admin_and_no_account_has_no_password(make, settings):
    assert "email must be" in run(settings, "create-admin", "boss", text=f"{PASSWORD}\n").stderr
    assert "stand for others" in run(settings, "create-admin", "\u212aim@example.com", text=f"{PASSWORD}\n").stderr
    done = run(settings, "set-password", "nobody@example.com", text=f"{PASSWORD}\n")
    assert done.returncode == 2
    assert "there is no account nobody@example.com" in done.stderr
    assert make.scalar("SELECT count(*) FROM users") == 0


def test_a_password_is_never_an_argument(settings):
    done = run(settings, "create-admin", "boss@example.com", PASSWORD)
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


@pytest.mark.parametrize(("second", "status"), [(PASSWORD, 0), ("something else", 2)])
def test_a_prompt_asks_twice_and_shows_nothing(make, anyone, settings, second, status):
    in_a_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    command = [sys.executable, "-c", in_a_terminal, sys.executable, "-m", "petstore", "create-admin", "boss@example.com"]
    environ = environment(PETSTORE_DATABASE_URL=settings.database_url)
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        shown = b""
        for prompt, answer in ((b"New password: ", PASSWORD), (b"Once more: ", second)):
            while prompt not in shown:
                shown += (byte := os.read(process.stdout.fileno(), 1))
                assert byte, shown
            os.write(process.stdin.fileno(), f"{answer}\n".encode())
        shown += process.stdout.read()
    assert process.returncode == status, shown
    assert PASSWORD.encode() not in shown
    assert login(anyone, "boss@example.com", PASSWORD) == (200 if status == 0 else 401)
