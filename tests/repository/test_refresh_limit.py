"""How many refresh tokens a login may get: counted back from the newest, and only as far as the window reaches."""

from __future__ import annotations

import pytest

from petstore.repository import sessions

MOST, WINDOW = 100, 600
NEWEST, NEW = b"n" * 32, b"m" * 32


@pytest.fixture
def chain(make):
    """chain(user, count, seconds): so many tokens of the user's login, one every so many seconds; the newest is NEWEST, made now."""
    at = make.scalar("SELECT now()")  # the same for all: those of several logins have the very same times

    def build(user, count, seconds, newest=NEWEST):
        make.conn.execute(
            "INSERT INTO refresh_tokens (token_hash, session_id, created_at, used_at)"
            " SELECT CASE WHEN ago = 0 THEN %s ELSE sha256(convert_to(%s::text || ago, 'UTF8')) END, %s,"
            " %s - ago * make_interval(secs => %s), CASE WHEN ago > 0 THEN %s - (ago - 1) * make_interval(secs => %s) END"
            " FROM generate_series(0, %s) AS ago",
            (newest, user.session_id, user.session_id, at, seconds, at, seconds, count - 1),
        )

    return build


@pytest.fixture
def ana(make):
    return make.user("ana@example.com")


def trade(conn, token_hash=NEWEST):
    given = {"token_hash": token_hash, "new_hash": NEW, "seconds": 2_592_000}
    return sessions.refresh_session(conn, **given, most=MOST, window_seconds=WINDOW)


def stored(conn):
    return conn.execute(
        "SELECT token_hash, used_at, s.expires_at FROM refresh_tokens JOIN sessions AS s ON s.id = session_id ORDER BY 1"
    ).fetchall()


def test_the_hundredth_token_is_given_and_no_further_one(conn, make, ana, chain):
    chain(ana, MOST - 1, 1)
    assert trade(conn).wait_seconds == 0
    assert trade(conn) is None  # it is used
    assert [used is None for token, used, _ in stored(conn) if token in (NEWEST, NEW)] == [True, False]


def test_who_got_the_most_waits_until_the_oldest_leaves_the_window_and_nothing_is_changed(conn, make, ana, chain):
    chain(ana, MOST, 2)
    before = stored(conn)
    refused = trade(conn)
    assert (refused.id, refused.session_id) == (ana.id, ana.session_id)
    assert refused.wait_seconds - (WINDOW - 2 * (MOST - 1)) in (
        0,
        1,
    )  # the transaction began a moment before the tokens were made
    assert stored(conn) == before
    older = "UPDATE refresh_tokens SET created_at = created_at - interval '404 s', used_at = used_at - interval '404 s'"
    make.conn.execute(older)
    assert trade(conn).wait_seconds == 0


@pytest.mark.parametrize(
    ("count", "seconds", "refused"), [(1000, 6.1, False), (1000, 5.9, True), (99, 0.01, False), (1, 1, False)]
)
def test_only_the_tokens_of_the_window_count(conn, ana, chain, count, seconds, refused):
    chain(ana, count, seconds)
    assert (trade(conn).wait_seconds > 0) == refused


def test_the_tokens_of_other_logins_do_not_count(conn, make, ana, chain):
    for number in range(3):
        chain(make.user(f"user{number}@example.com"), MOST, 1, bytes([number]) * 32)
    chain(ana, 50, 1)
    assert trade(conn).wait_seconds == 0
    assert trade(conn, b"\0" * 32).wait_seconds - (WINDOW - MOST + 1) in (0, 1)
