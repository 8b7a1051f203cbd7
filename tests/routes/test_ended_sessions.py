"""What ends logins: a password, a role, an admin, a race; what is kept of them, and for how long."""

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from petstore.auth.passwords import hash_password
from petstore.auth.tokens import Caller
from petstore.repository import sessions
from tests.client import Client
from tests.factories import PASSWORD
from tests.routes.logins import ANA, BOB, NEW_PASSWORD, age, held, in_order, is_dead, lives, login, logout, me, refresh, sid
from tests.table_search import tables_with

# ── what ends every login of an account ──────────────────────────────────────────────────────────────────────────────────


def test_a_new_password_ends_every_older_token_on_every_worker(make, ana, both):
    make.user(BOB)
    anyone = both[0]
    one, two, bobs = login(anyone), login(both[1]), login(anyone, BOB)
    refreshed = refresh(anyone, two).json()
    changed = anyone.post(
        "/me/password",
        {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
        headers={"Authorization": f"Bearer {one['access_token']}"},
    )
    assert (changed.status, changed.body) == (204, b"")
    for tokens in (one, two, refreshed):
        assert is_dead(both, tokens)
    assert make.rows("SELECT token_version FROM users ORDER BY id") == [(2,), (1,)]
    assert anyone.post("/login", {"email": ANA, "password": PASSWORD}).status == 401
    assert lives(both, login(anyone, password=NEW_PASSWORD))
    assert lives(both, bobs)


def test_a_disabled_account_is_out_at_once_and_its_old_tokens_stay_dead(make, ana, boss, admin, both):
    make.user(BOB)
    anyone = both[0]
    tokens, bobs = login(anyone), login(anyone, BOB)
    assert {me(client, tokens).status for client in both} == {200}
    assert admin.patch(f"/admin/users/{ana.id}", {"active": False}).status == 200
    assert is_dead(both, tokens)
    disabled = anyone.post("/login", {"email": ANA, "password": PASSWORD})
    wrong = anyone.post("/login", {"email": BOB, "password": "not this one"})
    assert disabled.status == wrong.status == 401
    assert disabled.json() | {"request_id": ""} == wrong.json() | {"request_id": ""}
    assert disabled["WWW-Authenticate"] == wrong["WWW-Authenticate"]
    assert admin.patch(f"/admin/users/{ana.id}", {"active": True}).status == 200
    assert is_dead(both, tokens)
    assert lives(both, login(anyone))
    assert lives(both, bobs)


def test_an_account_that_is_disabled_in_sql_is_out_too(make, ana, both):
    bob = make.user(BOB)
    tokens, bobs = login(both[0]), login(both[0], BOB)
    make.conn.execute("UPDATE users SET active = false WHERE id = %s", (ana.id,))
    assert is_dead(both, tokens)
    assert both[0].post("/login", {"email": ANA, "password": PASSWORD}).status == 401
    assert lives(both, bobs)
    assert make.rows("SELECT id FROM users WHERE active") == [(bob.id,)]


def test_a_changed_role_counts_from_the_next_request_on(make, ana, admin, both):
    bob = make.user(BOB)
    tokens, bobs = login(both[0]), login(both[0], BOB)
    for role, status in (("admin", 200), ("user", 403)):
        assert admin.patch(f"/admin/users/{ana.id}", {"role": role}).status == 200
        for client in both:  # with the very token that was there before
            assert me(client, tokens, "/admin/users").status == status
            assert me(client, tokens).json()["role"] == role
            assert me(client, bobs, "/admin/users").status == 403
    assert make.scalar("SELECT role FROM users WHERE id = %s", bob.id) == "user"


def test_an_access_token_counts_only_with_its_own_login(make, ana, service, anyone):
    """Signed by us or not: user, login and version have to fit together."""
    bob = make.user(BOB)
    ok = Caller(ana.id, "user", ana.session_id, 1)
    wrong = [
        Caller(ana.id, "user", bob.session_id, 1),
        Caller(bob.id, "user", ana.session_id, 1),
        Caller(ana.id, "user", 999, 1),
        Caller(ana.id, "user", ana.session_id, 2),
        Caller(999, "user", ana.session_id, 1),
    ]
    statuses = [me(anyone, {"access_token": service[0].tokens.issue(user)}).status for user in (ok, *wrong)]
    assert statuses == [200] + [401] * len(wrong)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_refresh_tokens_and_passwords_are_nowhere_in_the_database(make, ana, anyone):
    first = login(anyone)
    second = refresh(anyone, first).json()
    age(make, first, 11)
    refresh(anyone, first)
    ended, living = login(anyone), login(anyone)
    logout(anyone, ended)
    # What is there is found: the search itself works.
    assert tables_with(make.conn, "ANA@example.com") == ["users"]
    assert tables_with(make.conn, hashlib.sha256(living["refresh_token"].encode()).hexdigest()) == ["refresh_tokens"]
    for tokens in (first, second, ended, living):
        assert tables_with(make.conn, tokens["refresh_token"]) == []
        assert tables_with(make.conn, tokens["access_token"]) == []
        assert tables_with(make.conn, base64.urlsafe_b64decode(tokens["refresh_token"] + "=").hex()) == []
    assert tables_with(make.conn, PASSWORD) == []


# ── races ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", ["login", "change"])
@pytest.mark.parametrize("change", ["password", "disabling", "erasing"])
def test_a_login_that_races_with_the_end_of_all_logins_leaves_none(make, ana, admin, both, clients, change, first):
    bob = make.user(BOB)
    own, boss_client = clients(ana), admin

    def end_all():
        if change == "password":
            return own.post("/me/password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}).status
        if change == "disabling":
            return boss_client.patch(f"/admin/users/{ana.id}", {"active": False}).status
        return own.post("/me/delete", {"current_password": PASSWORD}).status

    def log_in():
        return both[0].post("/login", {"email": ANA, "password": PASSWORD})

    requests = [log_in, end_all] if first == "login" else [end_all, log_in]
    # It lets them begin, with KEY SHARE, and each has checked the old password before either changes the account.
    with held(make, "SELECT FROM users WHERE id = %s FOR NO KEY UPDATE", ana.id):
        futures = in_order(make, requests)
    results = dict(zip(requests, (future.result() for future in futures), strict=True))
    assert results[end_all] in (200, 204)
    answer = results[log_in]
    assert answer.status in (200, 401)  # PostgreSQL lets either of them be first
    if answer.status == 200:
        assert is_dead(both, answer.json())
    living = make.rows(
        "SELECT s.user_id FROM sessions AS s JOIN users AS u ON s.user_id = u.id AND s.token_version = u.token_version"
        " WHERE s.ended_at IS NULL AND u.active ORDER BY s.id"
    )
    assert ana.id not in {user_id for (user_id,) in living}
    assert bob.id in {user_id for (user_id,) in living}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET password = %s, token_version = token_version + 1 WHERE id = %s",
        "UPDATE users SET active = password = %s WHERE id = %s",
    ],
    ids=["password", "disabling"],
)
def test_a_login_with_a_password_that_was_right_when_it_was_checked_is_refused(make, ana, both, clients, change):
    bob = make.user(BOB)
    other = hash_password(NEW_PASSWORD)
    with held(make, change, other, ana.id):
        (answer,) = in_order(make, [lambda: clients().post("/login", {"email": ANA, "password": PASSWORD})])
        bobs = login(both[0], BOB)  # who does not wait for her
    assert (answer.result().status, answer.result().json()["type"]) == (401, "/problems/wrong-credentials")
    assert make.rows("SELECT user_id FROM sessions ORDER BY id") == [(ana.id,), (bob.id,), (bob.id,)]
    assert lives(both, bobs)


@pytest.mark.parametrize("first", ["refresh", "logout"])
def test_a_refresh_that_races_with_a_logout_leaves_no_login(make, ana, both, clients, first):
    tokens, other = login(both[0]), login(both[0])
    requests = [lambda: refresh(clients(), tokens), lambda: logout(clients(), tokens)]
    if first == "logout":
        requests.reverse()
    with held(make, "SELECT FROM sessions WHERE id = %s FOR UPDATE", sid(tokens)):
        futures = in_order(make, requests)
    answers = [future.result() for future in futures]
    if first == "logout":
        answers.reverse()
    refreshed, ended = answers
    assert ended.status == 204
    assert refreshed.status == (200 if first == "refresh" else 401)  # tokens that are dead already are given to nobody
    if refreshed.status == 200:
        assert is_dead(both, refreshed.json())
    assert is_dead(both, tokens)
    assert lives(both, other)


def test_a_refresh_while_the_password_changes_gives_no_living_tokens(make, ana, both):
    tokens = login(both[0])
    with held(make, "UPDATE users SET token_version = token_version + 1 WHERE id = %s", ana.id):
        answer = refresh(both[0], tokens)  # does not wait for it
    assert answer.status in (200, 401)
    if answer.status == 200:
        assert is_dead(both, answer.json())


# ── what is long over ────────────────────────────────────────────────────────────────────────────────────────────────────


def old_logins(make, ana):
    """A login that expired 31 days ago, one 29 days ago, one that lives; each with a used and an unused token. Their ids."""
    ids = []
    for number, days in enumerate((-31, -29, 30)):
        ids.append(
            make.scalar(
                "INSERT INTO sessions (user_id, token_version, created_at, expires_at)"
                " VALUES (%s, 1, now() - interval '300 days', now() + make_interval(secs => %s * 86400.0)) RETURNING id",
                *(ana.id, days),
            )
        )
        for used, digit in ((None, 0), (31, 1), (29, 2)):
            make.conn.execute(
                "INSERT INTO refresh_tokens (token_hash, session_id, used_at)"
                " VALUES (%s, %s, now() - make_interval(secs => %s * 86400.0))",
                (bytes([number, digit] * 16), ids[-1], used),
            )
    return ids


def test_logins_are_removed_a_month_after_they_expired(make, ana, conn):
    long_ago, lately, living = old_logins(make, ana)
    assert sessions.purge_sessions(conn) == 1
    assert conn.execute("SELECT id FROM sessions ORDER BY id").fetchall() == [(ana.session_id,), (lately,), (living,)]
    # Its refresh tokens went with it, used or not.
    left = conn.execute("SELECT session_id, count(*) FROM refresh_tokens GROUP BY 1 ORDER BY 1").fetchall()
    assert left == [(lately, 3), (living, 3)]
    assert long_ago not in {session_id for session_id, _ in left}


def test_used_refresh_tokens_are_removed_after_a_month_and_unused_ones_stay(make, ana, conn):
    old_logins(make, ana)
    assert sessions.purge_refresh_tokens(conn) == 3
    left = conn.execute("SELECT count(*) FILTER (WHERE used_at IS NULL), count(*) FROM refresh_tokens").fetchone()
    assert left == (3, 6)


def test_a_purge_removes_a_thousand_rows_at_most_and_does_not_wait_for_anybody(make, ana, conn):
    conn.execute("SET LOCAL lock_timeout = '500ms'")  # who waits fails
    make.conn.execute(
        "WITH s AS (INSERT INTO sessions (user_id, token_version, created_at, expires_at)"
        " SELECT %s, 1, now() - interval '99 days', now() - interval '60 days' FROM generate_series(1, 1002) RETURNING id)"
        " INSERT INTO refresh_tokens (token_hash, session_id, used_at)"
        " SELECT sha256(id::text::bytea), id, now() - interval '70 days' FROM s",
        (ana.id,),
    )
    locked = make.scalar("SELECT max(id) FROM sessions")
    with held(make, "SELECT FROM refresh_tokens WHERE session_id = %s FOR UPDATE", locked):
        assert sessions.purge_refresh_tokens(conn) == 1000
        assert sessions.purge_refresh_tokens(conn) == 1
    with held(make, "SELECT FROM sessions WHERE id = %s FOR UPDATE", locked):
        assert sessions.purge_sessions(conn) == 1000
        assert sessions.purge_sessions(conn) == 1
    assert [row[0] for row in conn.execute("SELECT id FROM sessions ORDER BY id").fetchall()] == [ana.session_id, locked]


# ── without the database ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_without_the_database_every_request_of_a_login_is_a_503(make, ana, with_settings):
    nobody_there = "postgresql://petstore_app@127.0.0.1:1/pet_ecommerce"
    with with_settings(database_url=nobody_there) as (services, server):

        def ask(path):
            token = services.tokens.issue(ana) if path == "/me" else None
            body = {"refresh_token": "x"} if path != "/login" else {"email": ANA, "password": PASSWORD}
            with Client(server.address, token) as client:
                return client.get(path) if path == "/me" else client.post(path, body)

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, ("/login", "/refresh", "/logout", "/me")))
    assert [answer.status for answer in answers] == [503] * 4
    assert all(int(answer["Retry-After"]) >= 1 for answer in answers)
