"""A connection: a transaction begins with its first query, in one round trip, and a query file is prepared once."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from petstore import db, errors
from petstore.db import enqueue
from petstore.db.queries import load_queries, parse_query
from petstore.repository import audit, idempotency, system, users
from tests.waiting import eventually

PREPARED = "SELECT name FROM pg_prepared_statements ORDER BY name"
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"


@pytest.fixture
def alone(cluster, database):
    """A connection of its own, in no transaction."""
    with db.connect(cluster.url("petstore_app", database)) as conn:
        yield conn


def prepared(conn):
    return [name for (name,) in conn.execute(PREPARED)]


def as_values(_names, values):
    return tuple(values)


def test_a_transaction_without_a_query_never_reaches_the_server(alone):
    alone.queue_command("BEGIN AND NOTHING THAT COULD BE RUN")
    assert alone.end("COMMIT") is None
    alone.queue_command(BEGIN)
    assert alone.end("ROLLBACK") is None
    assert system.get_shop(alone).currency == "USD"


def test_what_waits_is_sent_before_the_query_and_in_its_transaction(alone, make):
    account = make.user()
    alone.queue_command(BEGIN)
    audit.begin_request(alone, actor_id=account.id, address="192.0.2.7")
    assert users.get_user(alone, user_id=account.id).id == account.id
    assert alone.pgconn.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert alone.execute("SELECT current_setting('petstore.request')::jsonb").fetchone() == (
        {"actor_id": account.id, "address": "192.0.2.7"},
    )
    assert alone.end("COMMIT") == "COMMIT"


def test_what_waits_is_sent_before_what_psycopg_itself_sends(alone):
    alone.queue_command("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    assert alone.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
    assert alone.end("ROLLBACK") == "ROLLBACK"


def test_an_error_in_what_waited_is_the_querys_and_the_connection_stays_good(alone):
    alone.queue_command(BEGIN)
    audit.begin_request(alone, actor_id=2**40, address=None)
    with pytest.raises(psycopg.errors.CheckViolation) as error:
        system.get_shop(alone)
    assert error.value.diag.constraint_name == "users_actor_active"
    assert alone.end("COMMIT") == "ROLLBACK"  # PostgreSQL's word for a COMMIT after an error
    assert system.get_shop(alone).currency == "USD"


def test_a_query_is_prepared_once_also_by_a_transaction_that_fails(alone):
    for _ in range(2):
        alone.queue_command(BEGIN)
        audit.begin_request(alone, actor_id=2**40, address=None)
        with pytest.raises(psycopg.errors.CheckViolation):
            system.get_shop(alone)
        alone.end("ROLLBACK")
        assert prepared(alone) == ["audit/begin_request"]  # what came after the error was not looked at
    for _ in range(2):
        system.get_shop(alone)
        assert prepared(alone) == ["audit/begin_request", "system/get_shop 2"]  # not a name that was sent in vain


def test_what_psycopg_itself_runs_and_rolls_back_forgets_no_query(alone):
    system.get_shop(alone)
    for number in range(7):  # psycopg would prepare what it has run five times
        alone.execute("SELECT %s::integer", (number,))
    with alone.transaction(force_rollback=True):
        pass
    system.get_shop(alone)
    assert prepared(alone) == ["system/get_shop"]


def test_a_query_that_cannot_be_prepared_fails_each_time_and_harms_no_other(alone):
    broken = parse_query("shop/broken", "-- Broken.\nSELECT nothing FROM nowhere")
    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            alone.run(broken, {}, as_values)
    assert system.get_shop(alone).currency == "USD"


@pytest.mark.parametrize("given", [{"product_id": 1, "colour": "red"}, {"colour": "red"}, {}])
def test_a_parameter_that_the_query_does_not_take_or_that_is_missing_is_an_error(alone, given):
    with pytest.raises((TypeError, KeyError), match=r"products/get_product takes product_id; given: |product_id"):
        db.rows(alone, load_queries()["products/get_product"], **given)
    assert system.get_shop(alone).currency == "USD"


def test_what_waits_last_is_done_when_it_is_flushed_and_not_at_all_when_not(alone):
    settle = parse_query("shop/settle", "-- Settles.\nSELECT set_config('petstore.settled', 'yes', false)")
    for command, settled in (("ROLLBACK", ""), ("COMMIT", "yes")):
        alone.queue_command(BEGIN)
        system.get_shop(alone)
        alone.queue(settle, {})
        if command == "COMMIT":
            alone.flush()
        assert alone.end(command) == command
        assert alone.execute("SELECT coalesce(current_setting('petstore.settled', true), '')").fetchone() == (settled,)
        assert alone.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_write_sees_an_error_in_what_waits_last(service, make):
    """Before COMMIT, so that nothing of it stays, and the connection is good for the next."""

    def work(conn):
        make_user(conn)
        audit.begin_request(conn, actor_id=2**40, address=None)

    def make_user(conn):
        users.create_user(conn, email="ana@example.com", password="$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA")

    with pytest.raises(errors.LoginEnded):
        service[0].db.transact(work)
    service[0].db.transact(make_user)
    assert make.scalar("SELECT count(*) FROM users") == 1


def test_a_write_whose_beginning_fails_leaves_nothing_on_the_connection(service):
    def work(conn):
        enqueue(conn, "audit/begin_request", actor_id=1, address="a\0b")
        raise AssertionError("it has not begun")

    for _ in range(5):  # more than there are connections
        with pytest.raises(errors.Problem):
            service[0].db.transact(work)
        seen = service[0].db.transact(
            lambda conn: (len(conn.queued), conn.pgconn.transaction_status, system.get_shop(conn).currency)
        )
        assert seen == (1, psycopg.pq.TransactionStatus.IDLE, "USD")  # its own BEGIN


def test_a_transaction_of_psycopg_is_a_savepoint_of_the_one_that_waits(alone):
    alone.queue_command(BEGIN)
    with alone.transaction():
        system.get_shop(alone)
    assert alone.pgconn.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert alone.end("ROLLBACK") == "ROLLBACK"


def test_the_same_query_twice_in_one_round_trip_is_prepared_once(alone):
    alone.queue_command(BEGIN)
    for _ in range(2):
        audit.begin_request(alone, actor_id=None, address=None)
    system.get_shop(alone)
    assert alone.end("COMMIT") == "COMMIT"


def test_a_value_that_cannot_be_sent_leaves_nothing_behind(alone):
    alone.queue_command(BEGIN)
    system.get_shop(alone)
    with pytest.raises(psycopg.DataError):
        users.get_credentials(alone, email="a\0b")
    assert alone.queued == []
    assert alone.end("ROLLBACK") == "ROLLBACK"


def test_the_server_ends_the_connection_and_says_why(alone, cluster, database):
    sleep = parse_query("shop/sleep", "-- Sleeps.\nSELECT pg_sleep(10)")
    with db.connect(cluster.url("postgres", database)) as superuser, ThreadPoolExecutor(1) as thread:
        asleep = thread.submit(alone.run, sleep, {}, as_values)
        running = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
        eventually(lambda: superuser.execute(running, (alone.pgconn.backend_pid,)).fetchone() == (1,))
        superuser.execute("SELECT pg_terminate_backend(%s::integer, 5000)", (alone.pgconn.backend_pid,))
        with pytest.raises(psycopg.errors.AdminShutdown):
            asleep.result()
    assert alone.closed
    with pytest.raises(psycopg.OperationalError):
        system.get_shop(alone)


def test_parameters_and_rows_of_every_size_go_through(alone):
    echo = parse_query("shop/echo", "-- Echo.\n--\n--   text  text  any\nSELECT :'text'::text, length(:'text'::text)")
    for text in ("", "x", "ñ" * 3_000_000):
        assert alone.run(echo, {"text": text}, as_values) == [(text, len(text))]


def test_rows_that_a_query_touched_are_counted(alone):
    assert idempotency.purge_keys(alone) == 0


def test_a_tools_connection_waits_for_as_long_as_it_takes(cluster, database, monkeypatch):
    monkeypatch.setattr("petstore.db.connection.REPLY_SECONDS", 0.05)
    with db.connect(cluster.url("petstore_app", database)) as conn:
        conn.execute("SELECT pg_sleep(0.2)")
