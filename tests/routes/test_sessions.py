import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import jwt
import pytest

from petstore.auth.passwords import hash_password
from petstore.auth.tokens import Caller
from petstore.repository import sessions
from tests.client import Client
from tests.factories import PASSWORD
from tests.services import running
from tests.table_search import tables_with
from tests.waiting import eventually

ANA, BOB = "Ana@example.com", "bob@example.com"
NEW_PASSWORD = "a staple of another make"


@pytest.fixture(scope="module")
def second(settings):
    """Another worker of the same service: same database, Redis and keys, and a memory of its own."""
    with running(settings) as (_, server):
        yield server.address


@pytest.fixture
def both(anyone, second):
    """A client of each worker."""
    with Client(second) as other:
        yield [anyone, other]


def login(client, email=ANA, password=PASSWORD):
    answer = client.post("/login", {"email": email, "password": password})
    assert answer.status == 200
    return answer.json()


def refresh(client, tokens):
    return client.post("/refresh", {"refresh_token": tokens if isinstance(tokens, str) else tokens["refresh_token"]})


def logout(client, tokens):
    return client.post("/logout", {"refresh_token": tokens if isinstance(tokens, str) else tokens["refresh_token"]})


def me(client, tokens, path="/me"):
    return client.get(path, headers={"Authorization": f"Bearer {tokens['access_token']}"})


def is_dead(clients, tokens):
    """Neither token of a login is good for anything, on any worker."""
    answers = [me(client, tokens) for client in clients]
    assert {answer["WWW-Authenticate"] for answer in answers} == {'Bearer realm="petstore", error="invalid_token"'}
    return {answer.status for answer in answers + [refresh(client, tokens) for client in clients]} == {401}


def lives(clients, tokens):
    """Its tokens are good on every worker; the refresh token is used up by this."""
    return {me(client, tokens).status for client in clients} == {200} and refresh(clients[0], tokens).status == 200


def age(make, tokens, seconds):
    """Let a used refresh token have been used that much longer ago."""
    assert make.conn.execute(
        "UPDATE refresh_tokens SET used_at = used_at - make_interval(secs => %s) WHERE token_hash = %s",
        (seconds, sha256(tokens)),
    ).rowcount


def sha256(tokens):
    return hashlib.sha256(tokens["refresh_token"].encode()).digest()


def sid(tokens):
    return int(jwt.decode(tokens["access_token"], options={"verify_signature": False})["sid"])


def ends(make):
    """Of each login: whether and why it ended."""
    return make.rows("SELECT id, ended_at IS NOT NULL, end_reason FROM sessions ORDER BY id")


def waiting(make):
    """How many wait for a lock."""
    return make.scalar("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")


@contextmanager
def held(make, sql, *parameters):
    """Rows that somebody else has locked, for the block."""
    with make.conn.transaction():
        make.conn.execute(sql, parameters)
        yield


def in_order(make, requests):
    """Send requests of which each comes to wait for the lock that the test holds before the next is sent; their futures."""
    pool, futures = ThreadPoolExecutor(len(requests)), []
    for number, request in enumerate(requests, 1):
        futures.append(pool.submit(request))
        eventually(lambda number=number: waiting(make) == number, seconds=5)
    pool.shutdown(wait=False)
    return futures


# ── login and refresh ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_login_gives_an_access_token_and_a_refresh_token_of_256_random_bits(make, ana, anyone):
    make.user(BOB)
    answer = anyone.post("/login", {"email": ANA, "password": PASSWORD})
    assert (answer.status, answer["Cache-Control"]) == (200, "no-store")
    tokens = answer.json()
    assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
    assert len(base64.urlsafe_b64decode(tokens["refresh_token"] + "=")) == 32
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["role"], claims["token_version"]) == (str(ana.id), "user", 1)
    assert claims["exp"] - claims["iat"] == 900
    made = make.rows(
        "SELECT s.user_id, s.token_version, host(s.address), s.expires_at - s.created_at, s.ended_at, t.token_hash, t.used_at"
        " FROM sessions AS s JOIN refresh_tokens AS t ON s.id = t.session_id WHERE s.id = %s",
        int(claims["sid"]),
    )
    assert made == [(ana.id, 1, "127.0.0.1", timedelta(days=30), None, sha256(tokens), None)]


def test_each_login_has_tokens_of_its_own(make, ana, anyone):
    one, two = login(anyone), login(anyone)
    assert one["refresh_token"] != two["refresh_token"]
    assert sid(one) != sid(two)


def test_a_refresh_token_is_traded_for_the_next_tokens_of_the_same_login(make, ana, both):
    make.user(BOB)
    anyone = both[0]
    first, other = login(anyone), login(anyone)
    answer = refresh(anyone, first)
    assert (answer.status, answer["Cache-Control"]) == (200, "no-store")
    next_ones = answer.json()
    assert set(next_ones) == set(first)
    assert next_ones["refresh_token"] != first["refresh_token"]
    assert sid(next_ones) == sid(first)
    # The access token before is good for the rest of its time: the login lives.
    assert [me(anyone, tokens).json()["id"] for tokens in (first, next_ones)] == [ana.id, ana.id]
    rows = make.rows("SELECT token_hash, used_at IS NOT NULL FROM refresh_tokens WHERE session_id = %s ORDER BY 2", sid(first))
    assert rows == [(sha256(next_ones), False), (sha256(first), True)]
    assert make.rows("SELECT token_hash, used_at FROM refresh_tokens WHERE session_id = %s", sid(other)) == [
        (sha256(other), None)
    ]
    assert lives(both, next_ones)


def test_refreshed_tokens_carry_the_role_of_this_moment(make, ana, anyone):
    tokens = login(anyone)
    make.conn.execute("UPDATE users SET role = 'admin' WHERE id = %s", (ana.id,))
    claims = jwt.decode(refresh(anyone, tokens).json()["access_token"], options={"verify_signature": False})
    assert claims["role"] == "admin"


def test_of_ten_who_refresh_with_one_token_at_once_one_succeeds_and_no_login_ends(make, ana, both, second, clients):
    tokens, other = login(both[0]), login(both[0])
    with ExitStack() as stack:
        # Of both workers; and all are on their way before the first gets through.
        askers = [clients() for _ in range(5)] + [stack.enter_context(Client(second)) for _ in range(5)]
        pool = stack.enter_context(ThreadPoolExecutor(len(askers)))
        with held(make, "SELECT FROM refresh_tokens WHERE token_hash = %s FOR UPDATE", sha256(tokens)):
            asked = [pool.submit(refresh, client, tokens) for client in askers]
            eventually(lambda: waiting(make) == len(askers))
        answers = [future.result() for future in asked]
    assert sorted(answer.status for answer in answers) == [200] + [401] * 9
    assert make.scalar("SELECT count(*) FROM refresh_tokens WHERE session_id = %s", sid(tokens)) == 2
    assert [end for _, *end in ends(make)] == [[False, None]] * 3  # with the one that ana had before
    (winner,) = (answer.json() for answer in answers if answer.status == 200)
    assert lives(both, winner)
    assert lives(both, other)


@pytest.mark.parametrize("seconds", [0, 9])
def test_a_refresh_token_shown_again_within_ten_seconds_is_refused_and_nothing_else(make, ana, both, seconds):
    first = login(both[0])
    tokens = refresh(both[0], first).json()
    age(make, first, seconds)
    for client in both:
        answer = refresh(client, first)
        assert (answer.status, answer.json()["type"]) == (401, "/problems/wrong-refresh-token")
        assert answer["WWW-Authenticate"] == 'Bearer realm="petstore"'
    assert not any(ended for _, ended, _ in ends(make))
    assert make.scalar("SELECT count(*) FROM refresh_tokens") == 2
    assert lives(both, tokens)


def test_a_used_refresh_token_ends_its_login_after_ten_seconds(make, ana, both):
    bob = make.user(BOB)
    anyone = both[0]
    first, other, bobs = login(anyone), login(anyone), login(anyone, BOB)
    tokens = refresh(anyone, first).json()
    age(make, first, 11)
    answer = refresh(anyone, first)
    assert (answer.status, answer.json()["type"]) == (401, "/problems/wrong-refresh-token")
    assert is_dead(both, tokens)
    assert is_dead(both, first)
    assert [end for end in ends(make) if end[1]] == [(sid(first), True, "reuse")]
    assert lives(both, other)
    assert lives(both, bobs)
    assert bob.id == me(anyone, bobs).json()["id"]


def test_a_token_used_long_ago_ends_the_login_that_went_on_without_it(make, ana, both):
    first = login(both[0])
    tokens = refresh(both[0], first).json()
    newest = refresh(both[0], tokens).json()
    age(make, first, 29 * 86_400)
    assert refresh(both[1], first).status == 401
    assert is_dead(both, newest)


def test_a_login_that_ended_for_reuse_keeps_the_time_of_the_first_one(make, ana, anyone):
    first = login(anyone)
    refresh(anyone, first)
    age(make, first, 11)
    refresh(anyone, first)
    ended = make.rows("SELECT ended_at FROM sessions ORDER BY id")
    assert refresh(anyone, first).status == 401
    assert logout(anyone, first).status == 204
    assert make.rows("SELECT ended_at FROM sessions ORDER BY id") == ended
    assert ends(make)[-1][2] == "reuse"


@pytest.mark.parametrize("text", ["", "x", "é" * 1024, "%", "\\x00", "' OR true --", "{hex}", "{hash}", "{access}", "{almost}"])
def test_what_is_no_refresh_token_is_refused_and_ends_nothing(make, ana, both, text):
    tokens = login(both[0])
    digest = sha256(tokens)
    known = {
        "hex": f"\\x{digest.hex()}",  # what lies in the database does not open it
        "hash": base64.urlsafe_b64encode(digest).decode(),
        "access": tokens["access_token"],
        "almost": tokens["refresh_token"] + " ",
    }
    shown = text.format(**known) if text.startswith("{") else text
    answer = refresh(both[0], shown)
    assert (answer.status, answer.json()["type"]) == (401, "/problems/wrong-refresh-token")
    assert logout(both[0], shown).status == 204
    assert lives(both, tokens)


@pytest.mark.parametrize("path", ["/refresh", "/logout"])
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/refresh_token"),
        ({"refresh_token": None}, "/refresh_token"),
        ({"refresh_token": ["x"]}, "/refresh_token"),
        ({"refresh_token": "x" * 1025}, "/refresh_token"),
        ({"refresh_token": "\0"}, "/refresh_token"),
        ({"refresh_token": "x", "user_id": 1}, "/user_id"),
    ],
)
def test_a_body_without_a_refresh_token_is_invalid(anyone, path, body, pointer):
    answer = anyone.post(path, body)
    assert (answer.status, answer.pointers()) == (422, [pointer])


def test_a_refresh_token_opens_nothing_by_itself(make, ana, anyone):
    tokens = login(anyone)
    assert me(anyone, {"access_token": tokens["refresh_token"]}).status == 401


# ── the end of their time ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_expired_login_cannot_be_refreshed(make, ana, both):
    anyone = both[0]
    expired, other = login(anyone), login(anyone)
    make.conn.execute(
        "UPDATE sessions SET created_at = created_at - interval '30 days', expires_at = expires_at - interval '30 days'"
        " WHERE id = %s",
        (sid(expired),),
    )
    answer = refresh(anyone, expired)
    assert (answer.status, answer.json()["type"]) == (401, "/problems/wrong-refresh-token")
    assert make.scalar("SELECT count(*) FROM refresh_tokens WHERE used_at IS NOT NULL") == 0
    assert lives(both, other)


def test_an_access_token_ends_with_its_login_however_young_it_is(make, ana, both):
    tokens, other = login(both[0]), login(both[0])
    make.conn.execute(
        "UPDATE sessions SET created_at = created_at - interval '365 days', expires_at = now() - interval '1 second' WHERE id = %s",
        (sid(tokens),),
    )
    assert is_dead(both, tokens)
    assert lives(both, other)


def test_each_refresh_prolongs_the_login_by_thirty_days(make, ana, anyone):
    tokens, other = login(anyone), login(anyone)
    before = make.scalar("SELECT expires_at FROM sessions WHERE id = %s", sid(other))
    make.conn.execute("UPDATE sessions SET expires_at = now() + interval '1 minute' WHERE id = %s", (sid(tokens),))
    assert refresh(anyone, tokens).status == 200
    prolonged = make.scalar(
        "SELECT s.expires_at - t.used_at FROM sessions AS s JOIN refresh_tokens AS t ON s.id = t.session_id"
        " WHERE s.id = %s AND t.used_at IS NOT NULL",
        sid(tokens),
    )
    assert prolonged == timedelta(days=30)
    assert make.scalar("SELECT expires_at FROM sessions WHERE id = %s", sid(other)) == before


def test_a_login_lasts_a_year_at_most_however_often_it_is_refreshed(make, ana, anyone):
    tokens = login(anyone)
    make.conn.execute("UPDATE sessions SET created_at = now() - interval '350 days' WHERE id = %s", (sid(tokens),))
    tokens = refresh(anyone, tokens).json()
    assert make.scalar("SELECT expires_at - created_at FROM sessions WHERE id = %s", sid(tokens)) == timedelta(days=365)
    make.conn.execute(
        "UPDATE sessions SET created_at = created_at - interval '15 days', expires_at = expires_at - interval '15 days'"
        " WHERE id = %s",
        (sid(tokens),),
    )
    assert refresh(anyone, tokens).status == 401


def test_the_lives_of_both_tokens_are_settings(make, ana, with_settings):
    with with_settings(token_seconds=30, refresh_seconds=60) as (_, server), Client(server.address) as client:
        tokens = login(client)
        assert tokens["expires_in"] == 30
        life = "SELECT expires_at - created_at FROM sessions WHERE id = %s"
        assert make.scalar(life, sid(tokens)) == timedelta(seconds=60)
        make.conn.execute("UPDATE sessions SET expires_at = now() + interval '1 second' WHERE id = %s", (sid(tokens),))
        tokens = refresh(client, tokens).json()
        assert tokens["expires_in"] == 30
        assert timedelta(seconds=59) < make.scalar("SELECT expires_at - now() FROM sessions WHERE id = %s", sid(tokens))


# ── logout ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_logout_ends_this_login_at_once_and_no_other(make, ana, both):
    make.user(BOB)
    anyone = both[0]
    tokens, other, bobs = login(anyone), login(anyone), login(anyone, BOB)
    assert {me(client, tokens).status for client in both} == {200}
    answer = logout(anyone, tokens)
    assert (answer.status, answer["Cache-Control"]) == (204, "no-store")
    assert is_dead(both, tokens)
    assert [end for end in ends(make) if end[1]] == [(sid(tokens), True, "logout")]
    assert lives(both, other)
    assert lives(both, bobs)


def test_logout_of_an_unknown_or_ended_login_is_the_same_204(make, ana, anyone):
    tokens, other = login(anyone), login(anyone)
    answers = [logout(anyone, tokens), logout(anyone, tokens), logout(anyone, "nobody has ever seen this one")]
    assert [(answer.status, answer.body) for answer in answers] == [(204, b"")] * 3
    assert [end for end in ends(make) if end[1]] == [(sid(tokens), True, "logout")]
    assert lives([anyone], other)


@pytest.mark.parametrize("seconds", [0, 11])
def test_logout_with_a_used_token_ends_its_login_too(make, ana, both, seconds):
    first, other = login(both[0]), login(both[0])
    tokens = refresh(both[0], first).json()
    age(make, first, seconds)
    assert logout(both[1], first).status == 204
    assert is_dead(both, tokens)
    assert [end for end in ends(make) if end[1]] == [(sid(first), True, "logout")]
    assert lives(both, other)


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
