"""That a secret in a log would be seen: tests/after_all.py looks through every log when all the tests have run."""

import logging
import subprocess
import sys

import pytest

from tests.logs import collector, secrets_in, without_what_is_written_on_purpose

TOKEN = "AAAAAAAAAAIfx3bZ1QlALa9FQ0I1gyvIBYdIdmySlrylw8YC5yIa6n0QmAegKx_WyQjOUeTZbVKyZRh55Rk2mxCEoJFqPP_Q"


@pytest.mark.parametrize(
    "line",
    [
        "token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "authorization: bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJzdWIiOiI0MiJ9.",
        "{'Authorization': 'x'}",
        "sent Bearer abc",
        "Failing row contains (1, ana@example.com, $argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA)",
        "2026-01-01 00:00:00.000 UTC [7] <petstore> DETAIL:  Failing row contains (1, $argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA)",
        "2026-01-01 00:00:00.000 UTC [7] <petstore> STATEMENT:  SELECT\n\t'$argon2id$'",
        "2026-01-01 00:00:00.000 UTC [7] <[unknown]> STATEMENT:  SELECT 'correct horse battery'",
        "with correct horse battery in it",
        f"refreshed {TOKEN}",
        "correct horse battery, and curl -s http://127.0.0.1/",
    ],
)
def test_what_is_secret_is_found(line):
    text = f"before\n{line}\nafter"
    given = {TOKEN, "correct horse battery", "password", "x" * 256, "short"}
    assert len(secrets_in(without_what_is_written_on_purpose("postgres.log", text), given)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "POST /me/password 401 3.2ms 5f1c",
        "database error 23505: duplicate key value violates unique constraint",
        "a token of user 7 was used twice; eyJ is how they begin",
        f"/{'x' * 300}",
    ],
)
def test_what_is_not_secret_is_let_be(line):
    assert secrets_in(line, {TOKEN, "password", "token", "x" * 256}) == []


def written():
    return "\n".join(text for _, text in collector.texts())


@pytest.mark.parametrize("name", ["petstore", "petstore.access", "psycopg.pool", "redis", "waitress", "anything"])
def test_what_is_logged_is_seen_with_its_trace(name):
    try:
        raise ValueError(f"the cause, of {name}")
    except ValueError:
        logging.getLogger(name).warning("noted by %s", name, exc_info=True)
    logging.getLogger(name).debug("whispered by %s", name)
    seen = written()
    assert f"noted by {name}" in seen
    assert f"ValueError: the cause, of {name}" in seen
    assert name == "anything" or f"whispered by {name}" in seen


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_a_program_writes_is_seen_also_when_its_file_is_gone_or_begun_anew(tmp_path, stream):
    path = tmp_path / "log"
    for number in range(3):
        with path.open("w") as file:
            code = f"import sys; print('said {stream}', {number}, file=sys.{stream})"
            subprocess.run([sys.executable, "-c", code], check=True, **{stream: file})
        collector.read()
    path.unlink()
    assert [f"said {stream} {number}" in written() for number in range(3)] == [True] * 3


def test_the_servers_of_the_tests_are_seen(service, make):
    """What tests do to the database by mistake is in its log, and that is among what is looked through."""
    with pytest.raises(Exception, match="no_such_table_at_all"):
        make.conn.execute("SELECT FROM no_such_table_at_all")
    assert "STATEMENT:  SELECT FROM no_such_table_at_all" in written()


def test_passwords_and_tokens_are_noted_as_they_pass(make, anyone):
    user = {"email": "ana@example.com", "password": "a quite unlikely password"}
    anyone.post("/register", user)
    tokens = anyone.post("/login", user).json()
    assert {user["password"], tokens["access_token"], tokens["refresh_token"]} <= collector.given
