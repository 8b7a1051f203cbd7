"""The queries of accounts, logins and the audit log, each beside a row that must not match."""

import json
from datetime import datetime, timedelta, timezone
from hashlib import sha256

import pytest

from petstore.auth.tokens import Caller
from petstore.repository import audit, sessions, users
from petstore.repository.sessions import Refreshed

LATEST = 2**63 - 1
PHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"
FIRST, SECOND, THIRD, NEW, OTHER = (sha256(text).digest() for text in (b"1", b"2", b"3", b"new", b"other"))


def two(conn):
    """Ana and Bob."""
    return [users.create_user(conn, email=email, password=PHC) for email in ("Ana@example.com", "bob@example.com")]


def row(conn, user, columns):
    """What a user's row has in these columns."""
    return conn.execute(f"SELECT {columns} FROM users WHERE id = %s", (user.id,)).fetchone()


def login(conn, user, token_hash=FIRST, **changes):
    facts = {"password": PHC, "address": "192.0.2.7", "seconds": 60} | changes
    return sessions.create_session(conn, user_id=user.id, token_hash=token_hash, **facts)


def tokens(conn):
    return conn.execute(
        "SELECT token_hash, session_id, used_at IS NOT NULL FROM refresh_tokens ORDER BY session_id, 3"
    ).fetchall()


# ── users ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_password_replaces_the_hash_that_was_read_and_ends_every_login(conn):
    ana, bob = two(conn)
    assert users.change_password(conn, user_id=ana.id, old_password=PHC + "x", password=PHC + "2") is None
    assert users.change_password(conn, user_id=LATEST, old_password=PHC, password=PHC + "2") is None
    assert row(conn, ana, "password, token_version") == (PHC, 1)
    assert users.change_password(conn, user_id=ana.id, old_password=PHC, password=PHC + "2") == ana.id
    assert row(conn, ana, "password, token_version") == (PHC + "2", 2)
    assert row(conn, bob, "password, token_version") == (PHC, 1)


def test_the_same_password_under_a_stronger_hash_ends_no_login(conn):
    ana, _ = two(conn)
    assert users.rehash_password(conn, user_id=ana.id, old_password=PHC, password=PHC + "2") == ana.id
    assert row(conn, ana, "password, token_version") == (PHC + "2", 1)


def test_who_is_made_an_admin_is_active_and_logged_in_nowhere(conn):
    ana, bob = two(conn)
    users.update_user(conn, user_id=ana.id, role=None, active=False)
    users.save_admin(conn, email="ana@EXAMPLE.com", password=PHC + "2")
    assert row(conn, ana, "email, password, role, active, token_version") == ("Ana@example.com", PHC + "2", "admin", True, 3)
    assert row(conn, bob, "email, password, role, active, token_version") == ("bob@example.com", PHC, "user", True, 1)


def test_an_erased_account_is_found_by_nothing_and_its_email_is_free(conn):
    ana, bob = two(conn)
    assert users.get_own_credentials(conn, user_id=ana.id) == users.Credentials(ana.id, "Ana@example.com", PHC)
    assert users.get_own_credentials(conn, user_id=LATEST) is None
    users.update_user(conn, user_id=ana.id, role="admin", active=None)
    assert users.erase_user(conn, user_id=ana.id, old_password=PHC + "x") is None
    assert row(conn, ana, "email, active, erased_at") == ("Ana@example.com", True, None)
    assert users.erase_user(conn, user_id=ana.id, old_password=PHC) == ana.id
    kept = (None, None, "user", False, 2, True)  # dated when it ran, not when the transaction began
    assert row(conn, ana, "email, password, role, active, token_version, erased_at > now()") == kept
    assert conn.execute(
        "SELECT l.created_at = u.erased_at FROM audit_log AS l JOIN users AS u ON u.id = l.subject_id WHERE l.action = 'user.erase'"
    ).fetchone() == (True,)
    assert row(conn, bob, "email, password, role, active, token_version, erased_at") == (
        "bob@example.com",
        PHC,
        "user",
        True,
        1,
        None,
    )
    assert users.erase_user(conn, user_id=ana.id, old_password=PHC) is None
    assert users.get_user(conn, user_id=ana.id) is None
    assert users.get_own_credentials(conn, user_id=ana.id) is None
    assert users.get_credentials(conn, email="ana@example.com") is None
    assert users.find_user(conn, email="ana@example.com") is None
    assert users.update_user(conn, user_id=ana.id, role="admin", active=True) is None
    assert [account.id for account in users.list_users(conn, after=0, limit=9)] == [bob.id]
    assert users.create_user(conn, email="ana@example.com", password=PHC).id not in (ana.id, bob.id)


def test_the_admins_that_are_locked_are_the_active_ones(conn):
    two(conn)
    assert users.lock_admins(conn) == []
    bosses = [users.save_admin(conn, email=f"boss{n}@example.com", password=PHC).id for n in range(3)]
    users.update_user(conn, user_id=bosses[0], role=None, active=True)  # its row moves behind the others
    users.update_user(conn, user_id=bosses[1], role=None, active=False)
    assert users.lock_admins(conn) == [bosses[0], bosses[2]]


def test_role_and_activity_change_where_they_are_named_and_disabling_ends_every_login(conn):
    ana, bob = two(conn)

    def change(role=None, active=None):
        account = users.update_user(conn, user_id=ana.id, role=role, active=active)
        assert account == users.Account(ana.id, "Ana@example.com", account.role, account.active, ana.created_at)
        return account.role, account.active, row(conn, ana, "token_version")[0]

    assert change(role="admin") == ("admin", True, 1)
    assert change(active=True) == ("admin", True, 1)
    assert change(active=False) == ("admin", False, 2)
    assert change(active=False) == ("admin", False, 2)
    assert change(role="user", active=True) == ("user", True, 2)
    assert change() == ("user", True, 2)
    assert users.update_user(conn, user_id=LATEST, role="admin", active=True) is None
    assert row(conn, bob, "role, active, token_version") == ("user", True, 1)


def test_accounts_are_listed_in_id_order_and_found_by_email_in_any_case(conn):
    ana, bob = two(conn)
    users.update_user(conn, user_id=ana.id, role=None, active=False)
    listed = [
        users.Account(ana.id, "Ana@example.com", "user", False, ana.created_at),
        users.Account(bob.id, "bob@example.com", "user", True, bob.created_at),
    ]
    assert users.list_users(conn, after=0, limit=9) == listed
    assert users.list_users(conn, after=ana.id, limit=9) == listed[1:]
    assert users.list_users(conn, after=0, limit=1) == listed[:1]
    assert users.find_user(conn, email="aNA@Example.com") == listed[0]
    for unknown in ("ana", "an_@example.com", "%", ""):
        assert users.find_user(conn, email=unknown) is None


def test_the_key_of_an_email_is_what_the_index_compares(conn):
    assert users.get_email_key(conn, email="ZOE\u0308\u03a9@Example.COM") == "zo\u00eb\u03c9@example.com"
    assert users.get_email_key(conn, email="Ana@example.com") != users.get_email_key(conn, email="Ana@example.org")


def test_an_account_that_is_locked_lets_nobody_refer_to_it(conn, make):
    ana, bob = make.user(), make.user()
    assert users.lock_user(conn, user_id=LATEST) is None
    assert users.lock_user(conn, user_id=ana.id) == ana.id
    assert make.rows("SELECT id FROM users FOR KEY SHARE SKIP LOCKED") == [(bob.id,)]


@pytest.mark.parametrize("find", [users.find_user, users.get_credentials])
def test_an_email_is_the_same_however_its_letters_are_composed(conn, find):
    zoe = users.create_user(conn, email="zo\u00eb@example.com", password=PHC)
    users.create_user(conn, email="zoe@example.com", password=PHC)
    assert find(conn, email="ZOE\u0308@example.com").id == zoe.id


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
    assert sessions.end_session(conn, token_hash=FIRST) == ana.id
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


@pytest.mark.parametrize(
    "over",
    [
        "UPDATE sessions SET ended_at = now(), end_reason = 'reuse' WHERE id = {session_id}",
        "UPDATE sessions SET created_at = now() - interval '2 d', expires_at = now() - interval '1 s' WHERE id = {session_id}",
        "UPDATE users SET active = false WHERE id = {user_id}",
        "UPDATE users SET token_version = 2 WHERE id = {user_id}",
    ],
)
def test_a_login_that_is_over_lets_nobody_in_and_is_shown_as_over(conn, make, logins, over):
    ana, session_id = logins[FIRST]
    make.conn.execute(over.format(user_id=ana.id, session_id=session_id))

    def role(token_hash):
        user, of_token = logins[token_hash]
        return sessions.get_caller(conn, user_id=user.id, session_id=of_token, token_version=1, session_uuid=None)

    both = over.startswith("UPDATE users")
    assert [role(token_hash) for token_hash in (FIRST, SECOND, THIRD)] == [None, None if both else "user", "user"]
    assert [one.live for one in sessions.list_sessions(conn, user_id=ana.id)] == [False, not both]
    assert [one.live for one in sessions.list_sessions(conn, user_id=logins[THIRD][0].id)] == [True]


def test_a_login_is_prolonged_to_a_year_after_it_at_most(conn, make, logins):
    make.conn.execute("UPDATE sessions SET created_at = now() - interval '364 days' WHERE id = %s", (logins[FIRST][1],))
    year = 366 * 86_400
    trade(conn, FIRST, NEW, year)
    trade(conn, SECOND, OTHER, year)
    ended, other = sessions.list_sessions(conn, user_id=logins[FIRST][0].id)
    assert ended.expires_at == ended.created_at + timedelta(days=365)
    assert other.expires_at == other.created_at + timedelta(days=365)


@pytest.mark.parametrize(
    "over",
    [
        "UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE id = {session_id}",
        "UPDATE sessions SET created_at = now() - interval '2 d', expires_at = now() - interval '1 s' WHERE id = {session_id}",
        "UPDATE users SET active = false WHERE id = {user_id}",
        "UPDATE users SET token_version = 2 WHERE id = {user_id}",
    ],
)
def test_a_refresh_token_of_a_login_that_is_over_is_not_traded(conn, make, logins, over):
    ana, session_id = logins[FIRST]
    make.conn.execute(over.format(user_id=ana.id, session_id=session_id))
    assert trade(conn, FIRST) is None
    assert trade(conn, THIRD, OTHER) is not None
    assert (trade(conn, SECOND) is None) is over.startswith("UPDATE users")
    assert (FIRST, session_id, False) in tokens(conn)


def test_a_token_that_was_used_more_than_ten_seconds_ago_ends_its_login(conn, logins):
    ana, session_id = logins[FIRST]
    assert sessions.end_reused_session(conn, token_hash=FIRST) is None  # it was not used
    trade(conn, FIRST)
    for seconds in ("9.9", "10"):
        conn.execute("UPDATE refresh_tokens SET used_at = now() - %s::interval WHERE token_hash = %s", (f"{seconds} s", FIRST))
        assert sessions.end_reused_session(conn, token_hash=FIRST) is None
    conn.execute("UPDATE refresh_tokens SET used_at = now() - interval '10.1 s' WHERE token_hash = %s", (FIRST,))
    assert sessions.end_reused_session(conn, token_hash=NEW) is None
    assert sessions.end_reused_session(conn, token_hash=FIRST) == ana.id
    assert sessions.end_reused_session(conn, token_hash=FIRST) is None
    ended, other = list(sessions.list_sessions(conn, user_id=ana.id))
    assert (ended.id, ended.end_reason, ended.ended_at) == (session_id, "reuse", conn.execute("SELECT now()").fetchone()[0])
    assert (other.end_reason, other.ended_at) == (None, None)


@pytest.mark.parametrize("used", [False, True])
def test_logging_out_ends_the_login_of_the_token_used_or_not(conn, logins, used):
    ana, session_id = logins[FIRST]
    if used:
        trade(conn, FIRST)
    assert sessions.end_session(conn, token_hash=OTHER) is None
    assert sessions.end_session(conn, token_hash=FIRST) == ana.id
    assert sessions.end_session(conn, token_hash=FIRST) == ana.id  # it had ended, and stays as it is
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


# ── audit ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(conn, user, address):
    """What the service says of a request before its transaction changes anything."""
    said = json.dumps({"actor_id": user and user.id, "address": address})
    conn.execute("SELECT set_config('petstore.request', %s, true)", (said,))


@pytest.fixture
def told(conn, make):
    """Ana and Bob, and what the log tells of them: five entries of Ana's, one of Bob's, one of nobody's."""
    ana, bob = make.user("ana@example.com"), make.user("bob@example.com")
    ask(conn, ana, "192.0.2.7")
    users.update_user(conn, user_id=ana.id, role="admin", active=None)
    users.update_user(conn, user_id=bob.id, role="admin", active=False)
    users.update_user(conn, user_id=bob.id, role="admin", active=False)  # changes nothing
    ask(conn, bob, "2001:db8::7")
    users.change_password(
        conn, user_id=bob.id, old_password=users.get_own_credentials(conn, user_id=bob.id).password, password=PHC
    )
    conn.execute("SELECT set_config('petstore.request', '', true)")
    users.update_user(conn, user_id=bob.id, role=None, active=True)  # in SQL
    ask(conn, ana, None)
    login(conn, ana, password=users.get_own_credentials(conn, user_id=ana.id).password)
    sessions.end_session(conn, token_hash=FIRST)
    assert bob.session_id == bob.id  # an entry about the one is none about the other
    conn.execute("UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE id = %s", (bob.session_id,))
    return ana, bob


def entries(conn, **filters):
    given = {"since": None, "until": None, "before": 0, "limit": 99} | filters
    if "actor_id" in given:
        return audit.list_entries_by_actor(conn, **{"action": None} | given)
    return (audit.list_entries_by_action if "action" in given else audit.list_entries)(conn, **given)


def test_the_log_is_told_newest_first_by_actor_action_and_time(conn, told):
    ana, bob = told
    session_id = list(sessions.list_sessions(conn, user_id=ana.id))[-1].id
    every = entries(conn)
    assert [(one.actor_id, one.action, one.subject_id, one.fields) for one in reversed(every)] == [
        (ana.id, "user.update", ana.id, ["role"]),
        (ana.id, "user.update", bob.id, ["active", "role"]),
        (bob.id, "user.update", bob.id, ["password"]),
        (None, "user.update", bob.id, ["active"]),
        (ana.id, "session.start", session_id, []),
        (ana.id, "session.end", session_id, ["end_reason", "ended_at"]),
        (ana.id, "session.end", bob.session_id, ["end_reason", "ended_at"]),
    ]
    assert entries(conn, actor_id=bob.id) == every[4:5]
    assert entries(conn, actor_id=LATEST) == []
    assert entries(conn, actor_id=ana.id, action="session.end") == every[:2]
    assert entries(conn, action="session.end") == every[:2]
    assert entries(conn, action="session") == []
    assert entries(conn, before=every[1].id, limit=2) == every[2:4]
    now = every[0].created_at
    earlier, later = now - timedelta(microseconds=1), now + timedelta(microseconds=1)
    assert entries(conn, since=now) == entries(conn, until=later) == every
    assert entries(conn, until=now) == entries(conn, since=later) == entries(conn, since=earlier, until=now) == []
    assert entries(conn, since=datetime(2020, 1, 1, tzinfo=timezone.utc), until=later, actor_id=bob.id) == every[4:5]


def test_what_one_user_did_is_told_with_the_addresses_until_they_are_erased(conn, told):
    ana, bob = told
    before = entries(conn)
    facts = ("id", "created_at", "actor_id", "action", "subject_id", "fields")

    def of(user):
        told_of = [
            one for one in reversed(before) if user.id in (one.actor_id, one.subject_id if "user." in one.action else None)
        ]
        own = list(audit.list_own_entries(conn, user_id=user.id))
        assert [[getattr(one, fact) for fact in facts] for one in own] == [
            [getattr(one, fact) for fact in facts] for one in told_of
        ]
        return [(one.actor_id, one.address) for one in own]

    # From where Ana changed Bob's account is hers alone to know.
    assert of(ana) == [(ana.id, "192.0.2.7"), (ana.id, "192.0.2.7"), *[(ana.id, None)] * 3]
    assert of(bob) == [(ana.id, None), (bob.id, "2001:db8::7"), (None, None)]
    assert audit.erase_addresses(conn, actor_id=ana.id) == 2
    assert of(ana) == [(ana.id, None)] * 5
    assert of(bob) == [(ana.id, None), (bob.id, "2001:db8::7"), (None, None)]
    assert audit.erase_addresses(conn, actor_id=ana.id) == 0
    assert entries(conn) == before


def test_addresses_are_purged_after_ninety_days_and_the_log_stays(conn, make):
    ids = [
        make.scalar("INSERT INTO audit_log (action, subject_id, fields) VALUES ('x.y', 1, '{}') RETURNING id") for _ in range(2)
    ]
    for audit_id, age in zip(ids, ("90 days 1 s", "89 days 23:59"), strict=True):
        make.conn.execute("INSERT INTO audit_addresses VALUES (%s, now() - %s::interval, '192.0.2.7')", (audit_id, age))
    assert audit.purge_addresses(conn) == 1
    assert conn.execute("SELECT audit_id FROM audit_addresses").fetchall() == [(ids[1],)]
    assert [entry.id for entry in entries(conn)] == ids[::-1]
