"""The queries of accounts and the audit log, each beside a row that must not match."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from petstore.repository import audit, sessions, users

LATEST = 2**63 - 1
PHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"


def two(conn):
    """Ana and Bob."""
    return [users.create_user(conn, email=email, password=PHC) for email in ("Ana@example.com", "bob@example.com")]


def row(conn, user, columns):
    """What a user's row has in these columns."""
    return conn.execute(f"SELECT {columns} FROM users WHERE id = %s", (user.id,)).fetchone()


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
    assert users.get_account(conn, user_id=ana.id) is None
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
    assert users.find_user(conn, email="aNA@Example.com") == users.get_account(conn, user_id=ana.id) == listed[0]
    assert users.get_account(conn, user_id=LATEST) is None
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
    password = users.get_own_credentials(conn, user_id=ana.id).password
    login = sessions.create_session(conn, user_id=ana.id, password=password, address="192.0.2.7", seconds=60)
    sessions.end_session(conn, token_hash=b"?" * 32, session_id=login.session_id, session_uuid=login.session_uuid)
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
