"""The queries of logins and refresh tokens, each beside a row that must not match."""

from datetime import timedelta
from hashlib import sha256

import pytest

from petstore.auth.tokens import Caller
from petstore.repository import sessions, users
from petstore.repository.sessions import Refreshed, RepeatedRefresh
from tests.repository.test_accounts import LATEST, PHC, two

FIRST, SECOND, THIRD, NEW, OTHER = (sha256(text).digest() for text in (b"1", b"2", b"3", b"new", b"other"))
OVER = [  # how a login ends
    "UPDATE sessions SET ended_at = now(), end_reason = '{end_reason}' WHERE id = {session_id}",
    "UPDATE sessions SET created_at = now() - interval '2 d', expires_at = now() - interval '1 s' WHERE id = {session_id}",
    "UPDATE users SET active = false WHERE id = {user_id}",
    "UPDATE users SET token_version = 2 WHERE id = {user_id}",
]


def login(conn, user, token_hash=FIRST, **changes):
    facts = {"password": PHC, "address": "192.0.2.7", "seconds": 60} | changes
    caller = sessions.create_session(conn, user_id=user.id, **facts)
    if caller:
        sessions.create_refresh_token(conn, token_hash=token_hash, session_id=caller.session_id)
    return caller


def end_session(conn, token_hash, session_id=None, session_uuid=None):
    return sessions.end_session(conn, token_hash=token_hash, session_id=session_id, session_uuid=session_uuid)


def end_reused_session(conn, token_hash, session_id=None, session_uuid=None):
    return sessions.end_reused_session(conn, token_hash=token_hash, session_id=session_id, session_uuid=session_uuid)


def tokens(conn):
    return conn.execute(
        "SELECT token_hash, session_id, used_at IS NOT NULL FROM refresh_tokens ORDER BY session_id, 3"
    ).fetchall()


def uuid_of(conn, session_id):
    return conn.execute("SELECT session_uuid::text FROM sessions WHERE id = %s", (session_id,)).fetchone()[0]


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_login_begins_for_an_active_account_whose_hash_is_the_one_that_was_checked(conn):
    ana, bob = two(conn)
    users.update_user(conn, user_id=bob.id, role=None, active=False)
    assert (login(conn, ana, password=PHC + "2"), login(conn, bob)) == (None, None)
    assert tokens(conn) == []
    first, second = login(conn, ana), login(conn, ana, SECOND, address=None, seconds=7)
    assert first == Caller(ana.id, "user", first.session_id, 1, uuid_of(conn, first.session_id))
    assert second.session_uuid == uuid_of(conn, second.session_id) != first.session_uuid
    assert tokens(conn) == [(FIRST, first.session_id, False), (SECOND, second.session_id, False)]
    shown = list(sessions.list_sessions(conn, user_id=ana.id))
    assert [(one.id, one.address, one.expires_at - one.created_at, one.ended_at, one.end_reason, one.live) for one in shown] == [
        (first.session_id, "192.0.2.7", timedelta(seconds=60), None, None, True),
        (second.session_id, None, timedelta(seconds=7), None, None, True),
    ]
    assert list(sessions.list_sessions(conn, user_id=bob.id)) == []


def test_a_caller_has_the_role_of_this_moment_while_the_login_lives(conn):
    ana, bob = two(conn)
    mine, other, bobs = login(conn, ana), login(conn, ana, SECOND), login(conn, bob, THIRD)

    def role(user=ana, session=mine, version=1, uuid=None):
        ids = {"user_id": user.id, "session_id": session.session_id}
        return sessions.get_caller(conn, **ids, token_version=version, session_uuid=uuid)

    assert (role(), role(session=other), role(bob, bobs)) == ("user", "user", "user")
    assert (role(uuid=mine.session_uuid), role(session=other, uuid=other.session_uuid)) == ("user", "user")
    assert (role(uuid=other.session_uuid), role(uuid=bobs.session_uuid)) == (None, None)
    assert (role(user=bob), role(session=bobs), role(version=2)) == (None, None, None)
    users.update_user(conn, user_id=ana.id, role="admin", active=None)
    assert (role(), role(bob, bobs)) == ("admin", "user")
    assert end_session(conn, FIRST) == ana.id
    assert (role(), role(session=other)) == (None, "admin")
    users.update_user(conn, user_id=ana.id, role=None, active=False)
    assert (role(session=other), role(session=other, version=2)) == (None, None)
    users.update_user(conn, user_id=ana.id, role=None, active=True)
    assert (role(session=other), role(bob, bobs)) == (None, "user")


@pytest.fixture
def logins(make):
    """Two logins of Ana's and one of Bob's, with the refresh tokens FIRST, SECOND and THIRD."""
    ana, bob = make.user("ana@example.com"), make.user("bob@example.com")
    version = "INSERT INTO sessions (user_id, token_version, expires_at) VALUES (%s, 1, now() + interval '30 days') RETURNING id"
    found = [(FIRST, ana, ana.session_id), (SECOND, ana, make.scalar(version, ana.id)), (THIRD, bob, bob.session_id)]
    for token_hash, _, session_id in found:
        make.conn.execute("INSERT INTO refresh_tokens (token_hash, session_id) VALUES (%s, %s)", (token_hash, session_id))
    return {token_hash: (user, session_id) for token_hash, user, session_id in found}


def trade(conn, token_hash, new_hash=NEW, seconds=60):
    limit = {"most": 100, "window_seconds": 600}
    return sessions.refresh_session(conn, token_hash=token_hash, new_hash=new_hash, seconds=seconds, **limit)


def test_a_refresh_token_is_traded_once_for_the_next_one_of_its_login(conn, make, logins):
    ana, session_id = logins[FIRST]
    make.conn.execute("UPDATE users SET role = 'admin' WHERE id = %s", (ana.id,))
    before = list(sessions.list_sessions(conn, user_id=ana.id))
    assert trade(conn, FIRST) == Refreshed(ana.id, "admin", session_id, 1, uuid_of(conn, session_id), 0)
    assert trade(conn, FIRST, OTHER) is None
    assert trade(conn, OTHER) is None
    waiting, (bobs,) = [(SECOND, logins[SECOND][1], False)], [(THIRD, logins[THIRD][1], False)]
    assert sorted(tokens(conn)) == sorted([(FIRST, session_id, True), (NEW, session_id, False), *waiting, bobs])
    now = conn.execute("SELECT now()").fetchone()[0]
    after = list(sessions.list_sessions(conn, user_id=ana.id))
    assert (after[0].expires_at, after[1]) == (now + timedelta(seconds=60), before[1])
    assert trade(conn, NEW, OTHER).session_id == session_id


@pytest.mark.parametrize("over", OVER)
def test_a_login_that_is_over_lets_nobody_in_and_is_shown_as_over(conn, make, logins, over):
    ana, session_id = logins[FIRST]
    make.conn.execute(over.format(user_id=ana.id, session_id=session_id, end_reason="reuse"))

    def role(token_hash):
        user, of_token = logins[token_hash]
        return sessions.get_caller(conn, user_id=user.id, session_id=of_token, token_version=1, session_uuid=None)

    both = over.startswith("UPDATE users")
    assert [role(token_hash) for token_hash in (FIRST, SECOND, THIRD)] == [None, None if both else "user", "user"]
    assert [one.live for one in sessions.list_sessions(conn, user_id=ana.id)] == [False, not both]
    assert [one.live for one in sessions.list_sessions(conn, user_id=logins[THIRD][0].id)] == [True]


@pytest.mark.parametrize("ends", [end_session, end_reused_session])
def test_a_token_that_is_no_longer_stored_ends_the_login_that_it_names(conn, logins, ends):
    ana, session_id = logins[FIRST]
    named, others = uuid_of(conn, session_id), uuid_of(conn, logins[SECOND][1])
    assert ends(conn, OTHER, session_id, others) is None  # an id that was given again
    assert ends(conn, OTHER, LATEST, named) is None
    assert ends(conn, OTHER) is None
    assert ends(conn, OTHER, session_id, named) == ana.id
    assert conn.execute("SELECT id FROM sessions WHERE ended_at IS NOT NULL").fetchall() == [(session_id,)]


def test_a_stored_token_that_was_not_used_or_just_now_ends_no_login_by_what_it_names(conn, logins):
    _, session_id = logins[FIRST]
    named = (session_id, uuid_of(conn, session_id))
    assert end_reused_session(conn, FIRST, *named) is None
    trade(conn, FIRST)
    assert end_reused_session(conn, FIRST, *named) is None
    assert end_reused_session(conn, NEW, *named) is None


def repeated(conn, token_hash=FIRST, next_hash=NEW):
    return sessions.get_repeated_refresh(conn, token_hash=token_hash, next_hash=next_hash)


def test_a_token_that_was_used_within_ten_seconds_is_known_with_what_became_of_the_next_one(conn, logins):
    ana, session_id = logins[FIRST]
    assert repeated(conn) is None  # it was not used
    trade(conn, FIRST)
    of_ana = (ana.id, "user", session_id, 1, uuid_of(conn, session_id))
    assert repeated(conn) == RepeatedRefresh(*of_ana, True)
    assert repeated(conn, next_hash=SECOND) == RepeatedRefresh(*of_ana, False)  # unused, of another login
    assert repeated(conn, next_hash=OTHER) == RepeatedRefresh(*of_ana, False)  # unknown
    trade(conn, NEW, OTHER)
    assert repeated(conn) == RepeatedRefresh(*of_ana, False)
    for seconds, known in (("10", True), ("10.1", False)):
        conn.execute("UPDATE refresh_tokens SET used_at = now() - %s::interval WHERE token_hash = %s", (f"{seconds} s", FIRST))
        assert (repeated(conn) is not None) is known


def test_a_login_keeps_its_token_the_one_before_and_those_of_the_last_minutes(conn, make, logins):
    (_, session_id), (_, other_id), (_, third_id) = (logins[token_hash] for token_hash in (FIRST, SECOND, THIRD))
    used = "INSERT INTO refresh_tokens (token_hash, session_id, used_at) VALUES (%s, %s, now() - make_interval(secs => %s))"
    for number, (login_id, seconds) in enumerate([(session_id, 590), (session_id, 601), (session_id, 9999), (other_id, 9999)]):
        make.conn.execute(used, (bytes([number]) * 32, login_id, seconds))
    trade(conn, FIRST)
    kept = [(bytes([0]) * 32, session_id, True), (FIRST, session_id, True), (NEW, session_id, False)]
    others = [(bytes([3]) * 32, other_id, True), (SECOND, other_id, False), (THIRD, third_id, False)]
    assert sorted(tokens(conn)) == sorted(kept + others)


def test_a_login_is_prolonged_to_a_year_after_it_at_most(conn, make, logins):
    make.conn.execute("UPDATE sessions SET created_at = now() - interval '364 days' WHERE id = %s", (logins[FIRST][1],))
    year = 366 * 86_400
    trade(conn, FIRST, NEW, year)
    trade(conn, SECOND, OTHER, year)
    ended, other = sessions.list_sessions(conn, user_id=logins[FIRST][0].id)
    assert ended.expires_at == ended.created_at + timedelta(days=365)
    assert other.expires_at == other.created_at + timedelta(days=365)


@pytest.mark.parametrize("over", OVER)
def test_a_refresh_token_of_a_login_that_is_over_is_not_traded(conn, make, logins, over):
    ana, session_id = logins[FIRST]
    make.conn.execute(over.format(user_id=ana.id, session_id=session_id, end_reason="logout"))
    assert trade(conn, FIRST) is None
    assert trade(conn, THIRD, OTHER) is not None
    assert (trade(conn, SECOND) is None) is over.startswith("UPDATE users")
    assert (FIRST, session_id, False) in tokens(conn)


def test_a_token_that_was_used_more_than_ten_seconds_ago_ends_its_login(conn, logins):
    ana, session_id = logins[FIRST]
    assert end_reused_session(conn, FIRST) is None  # it was not used
    trade(conn, FIRST)
    for seconds in ("9.9", "10"):
        conn.execute("UPDATE refresh_tokens SET used_at = now() - %s::interval WHERE token_hash = %s", (f"{seconds} s", FIRST))
        assert end_reused_session(conn, FIRST) is None
    conn.execute("UPDATE refresh_tokens SET used_at = now() - interval '10.1 s' WHERE token_hash = %s", (FIRST,))
    assert end_reused_session(conn, NEW) is None
    assert end_reused_session(conn, FIRST) == ana.id
    assert end_reused_session(conn, FIRST) is None
    ended, other = list(sessions.list_sessions(conn, user_id=ana.id))
    assert (ended.id, ended.end_reason, ended.ended_at) == (session_id, "reuse", conn.execute("SELECT now()").fetchone()[0])
    assert (other.end_reason, other.ended_at) == (None, None)


@pytest.mark.parametrize("used", [False, True])
def test_logging_out_ends_the_login_of_the_token_used_or_not(conn, logins, used):
    ana, session_id = logins[FIRST]
    if used:
        trade(conn, FIRST)
    assert end_session(conn, OTHER) is None
    assert end_session(conn, FIRST) == ana.id
    assert end_session(conn, FIRST) == ana.id  # it had ended, and stays as it is
    ended, other = list(sessions.list_sessions(conn, user_id=ana.id))
    assert (ended.id, ended.end_reason, other.end_reason) == (session_id, "logout", None)


def test_the_logins_of_one_account_are_removed_with_their_tokens(conn, logins):
    ana, bob = logins[FIRST][0], logins[THIRD][0]
    assert sessions.delete_sessions(conn, user_id=ana.id) == 2
    assert list(sessions.list_sessions(conn, user_id=ana.id)) == []
    assert len(list(sessions.list_sessions(conn, user_id=bob.id))) == 1
    assert tokens(conn) == [(THIRD, bob.session_id, False)]


def test_an_address_is_known_to_the_account_that_was_logged_in_from_it(conn):
    ana, bob = two(conn)
    login(conn, ana)
    login(conn, ana, SECOND, address="2001:db8::7")
    login(conn, bob, THIRD, address=None)

    def known(address, email="ana@EXAMPLE.com"):
        return sessions.is_known_address(conn, email=email, address=address)

    # Of IPv6, all that one household has counts as one.
    for address in ("192.0.2.7", "2001:0DB8:0::7", "2001:db8::ffff:0:0:8"):
        assert known(address)
    for address in ("192.0.2.70", "192.0.2.6", "2001:db8:0:1::7", "::7", "::ffff:192.0.2.7", None):
        assert not known(address)
    for email in ("bob@example.com", "ana", "%"):
        assert not known("192.0.2.7", email)
    assert not known(None, "bob@example.com")


def test_what_is_long_over_is_purged(conn, make, logins):
    old = "UPDATE sessions SET created_at = now() - interval '1 year', expires_at = now() - %s::interval WHERE id = %s"
    make.conn.execute(old, ("30 days 1 s", logins[FIRST][1]))
    make.conn.execute(old, ("29 days 23:59", logins[SECOND][1]))
    used = "UPDATE refresh_tokens SET used_at = now() - %s::interval WHERE token_hash = %s"
    make.conn.execute(used, ("30 days 1 s", SECOND))
    make.conn.execute(used, ("29 days 23:59", THIRD))
    assert sessions.purge_refresh_tokens(conn) == 1
    assert [token_hash for token_hash, *_ in tokens(conn)] == [FIRST, THIRD]
    assert sessions.purge_sessions(conn) == 1
    assert [token_hash for token_hash, *_ in tokens(conn)] == [THIRD]
    assert [one.id for one in sessions.list_sessions(conn, user_id=logins[SECOND][0].id)] == [logins[SECOND][1]]
