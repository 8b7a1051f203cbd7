"""Every row of the table of causes: really caused, and answered as the table says."""

import time

import pytest

from petstore.db.errors import CAUSES
from tests.faults import causing
from tests.faults.causing import Scene

RETRIES = 3
DETAILS = (
    causing.SECRET, "m2_be_project", "SELECT", "INSERT", "psycopg", "Traceback", "LINE ", "constraint", "relation", "_fkey", "_key",
)  # fmt: skip


@pytest.fixture
def scene(make, clients, ana, with_settings, settings, cluster, database, request, tmp_path):
    one = Scene(make, clients, ana, with_settings, lambda: request.getfixturevalue("own_redis"), tmp_path)  # few need it
    one.url, one.superuser_url = settings.database_url, cluster.url("postgres", database)
    return one


# A way to cause each row, for as long as the request takes, and the answer's status and slug.
CAUSED = {
    "users_email_key": (causing.email_taken, 409, "email-taken"),
    "users_actor_active": (causing.account_disabled, 401, "login-ended"),
    "08": (causing.raised("08006"), 503, "unavailable"),
    "25P03": (causing.raised("25P03"), 503, "unavailable"),
    "25006": (causing.read_only, 503, "unavailable"),
    "40": (causing.raised("40002"), 503, "unavailable"),
    "40001": (causing.raised("40001"), 503, "unavailable"),
    "40P01": (causing.raised("40P01"), 503, "unavailable"),
    "53": (causing.raised("53100"), 503, "unavailable"),
    "55P03": (causing.lock_timeout, 503, "unavailable"),
    "57": (causing.statement_timeout, 503, "unavailable"),
    "57P01": (causing.raised("57P01"), 503, "unavailable"),
    "57P02": (causing.raised("57P02"), 503, "unavailable"),
    "57P03": (causing.raised("57P03"), 503, "unavailable"),
    "58": (causing.raised("58030"), 503, "unavailable"),
    "connection lost": (causing.connection_cut, 503, "unavailable"),
    "no connection": (causing.pool_used_up, 503, "unavailable"),
    "database down": (causing.gone, 503, "unavailable"),
    "writes refused": (causing.known_to_be_read_only, 503, "unavailable"),
    "wrong database": (causing.another_currency, 503, "unavailable"),
    "no answer to COMMIT": (causing.answer_to_commit_lost, 503, "outcome-unknown"),
    "no answer from Redis": (causing.redis_frozen, 201, None),
    "no JSON": (causing.no_json, 400, "malformed-json"),
}

# A way to cause each row that is retried, just once.
PASSING = {
    "08": causing.raised("08006"),
    "25P03": causing.raised("25P03"),
    "25006": causing.raised("25006"),
    "40001": causing.raised("40001"),
    "40P01": causing.dead_lock,
    "57P01": causing.terminated,
    "57P02": causing.raised("57P02"),
    "57P03": causing.raised("57P03"),
    "connection lost": causing.connection_cut,
}


def test_every_row_of_the_table_is_caused_here():
    assert CAUSED.keys() == CAUSES.keys()
    assert PASSING.keys() == {row for row, cause in CAUSES.items() if cause.retried}


@pytest.mark.parametrize("row", CAUSED)
def test_a_cause_has_the_answer_of_its_row(scene, row):
    way, status, slug = CAUSED[row]
    problem = CAUSES[row].answer and CAUSES[row].answer()
    started = time.monotonic()
    answer = way(scene, causing.ALWAYS)
    assert time.monotonic() - started < 6
    assert answer.status == status
    if slug is None:
        assert problem is None
        return
    assert answer.json()["type"] == f"/problems/{slug}" == f"/problems/{problem.slug}"
    assert {name: answer[name] for name in problem.headers} == problem.headers
    assert answer["Retry-After"] == ("1" if status == 503 else None)
    assert [detail for detail in DETAILS if detail in answer.body.decode()] == []
    assert scene.attempts in (None, 1 + RETRIES if row in PASSING else 1)
    if row != "no answer to COMMIT":
        assert scene.make.scalar("SELECT count(*) FROM stock_movements WHERE kind <> 'initial'") == 0


@pytest.mark.parametrize("row", PASSING)
def test_what_is_retried_is_done_once_when_the_cause_has_passed(scene, row, caplog):
    caplog.set_level("INFO", "petstore.db.pool")
    answer = PASSING[row](scene, 1)
    assert answer.status == 201
    assert scene.bought() == (1, 9)
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "petstore.db.pool"] == [
        "database work is retried after"
    ]


@pytest.mark.parametrize("row", [row for row, cause in CAUSES.items() if cause.retried and len(row) == 5])
def test_the_third_retry_is_the_last_one_and_may_succeed(scene, row):
    assert causing.raised(row)(scene, RETRIES).status == 201
    assert scene.attempts == RETRIES + 1
    assert scene.bought() == (1, 9)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "57P01", "08006"])
def test_what_fails_in_commit_is_not_retried(scene, sqlstate):
    at_commit = causing.raised(sqlstate, when="AFTER INSERT DEFERRABLE INITIALLY DEFERRED", at="ROW")
    answer = at_commit(scene, causing.ALWAYS)
    assert (answer.status, answer["Retry-After"], answer.json()["type"]) == (503, "1", "/problems/unavailable")
    assert (scene.attempts, scene.bought()) == (1, (0, 10))


@pytest.mark.parametrize(("sqlstate", "constraint"), [("ZZ123", ""), ("42P01", ""), ("23505", "some_key"), ("23514", "")])
def test_a_cause_that_is_in_no_row_is_a_500_that_tells_nothing(scene, caplog, sqlstate, constraint):
    answer = causing.raised(sqlstate, constraint=constraint)(scene, causing.ALWAYS)
    assert (answer.status, answer["Retry-After"]) == (500, None)
    assert answer.json()["type"] == "/problems/internal-error"
    assert [detail for detail in DETAILS if detail in answer.body.decode()] == []
    assert (scene.attempts, scene.bought()) == (1, (0, 10))
    assert causing.SECRET in caplog.text
    assert answer["X-Request-ID"] in caplog.text
    assert scene.buy().status == 201
