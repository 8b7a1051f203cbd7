"""A login: its tokens, how they are refreshed, and when their time is over."""

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import jwt
import pytest

from petstore.domain import logins
from tests.client import Client
from tests.factories import PASSWORD
from tests.routes.logins import ANA, BOB, age, ends, held, is_dead, lives, login, logout, me, refresh, sha256, sid, waiting
from tests.waiting import eventually

# ── login and refresh ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_login_gives_an_access_token_and_a_refresh_token_that_names_its_login(make, ana, anyone):
    make.user(BOB)
    answer = anyone.post("/login", {"email": ANA, "password": PASSWORD})
    assert (answer.status, answer["Cache-Control"]) == (200, "no-store")
    tokens = answer.json()
    assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["role"], claims["token_version"]) == (str(ana.id), "user", 1)
    assert claims["exp"] - claims["iat"] == 900
    data = base64.urlsafe_b64decode(tokens["refresh_token"])  # id and uuid of the login, 256 random bits, a seal
    assert (len(data), data[:8], data[8:24].hex()) == (
        72,
        sid(tokens).to_bytes(8, "big"),
        claims["session_uuid"].replace("-", ""),
    )
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


def test_ten_who_refresh_with_one_token_at_once_get_the_same_next_one(make, ana, both, second, clients):
    tokens, other = login(both[0]), login(both[0])
    with ExitStack() as stack:
        # Of both workers; and all are on their way before the first gets through.
        askers = [clients() for _ in range(5)] + [stack.enter_context(Client(second)) for _ in range(5)]
        pool = stack.enter_context(ThreadPoolExecutor(len(askers)))
        with held(make, "SELECT FROM refresh_tokens WHERE token_hash = %s FOR UPDATE", sha256(tokens)):
            asked = [pool.submit(refresh, client, tokens) for client in askers]
            eventually(lambda: waiting(make) == len(askers))
        answers = [future.result() for future in asked]
    assert [answer.status for answer in answers] == [200] * 10
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert len({answer.json()["access_token"] for answer in answers}) == 10
    assert make.scalar("SELECT count(*) FROM refresh_tokens WHERE session_id = %s", sid(tokens)) == 2
    assert [end for _, *end in ends(make)] == [[False, None]] * 3  # with the one that ana had before
    assert {me(client, answer.json()).status for client in both for answer in answers} == {200}
    assert lives(both, answers[0].json())
    assert lives(both, other)


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


def test_a_login_that_ends_for_reuse_is_forgotten_by_every_worker_before_the_answer(make, ana, both, monkeypatch):
    monkeypatch.setattr(logins, "CACHED_SECONDS", 60)
    first, other = login(both[0]), login(both[0])
    tokens = refresh(both[0], first).json()
    assert {me(client, tokens).status for client in both} == {200}  # each has it in its memory now
    age(make, first, 11)
    assert refresh(both[0], first).status == 401
    assert is_dead(both, tokens)
    assert lives(both, other)


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


@pytest.mark.parametrize("text", ["", "x", "é" * 1024, "%", "\\x00", "' OR true --", "{hex}", "{hash}", "{almost}"])
def test_what_is_no_refresh_token_is_refused_and_ends_nothing(make, ana, both, text):
    tokens = login(both[0])
    digest = sha256(tokens)
    known = {
        "hex": f"\\x{digest.hex()}",  # what lies in the database does not open it
        "hash": base64.urlsafe_b64encode(digest).decode(),
        "almost": tokens["refresh_token"] + " ",
    }
    shown = text.format(**known) if text.startswith("{") else text
    answer = refresh(both[0], shown)
    assert (answer.status, answer.json()["type"]) == (401, "/problems/wrong-refresh-token")
    assert logout(both[0], shown).status == 204
    assert lives(both, tokens)


@pytest.mark.parametrize("path", ["/refresh", "/logout"])
def test_an_access_token_in_place_of_a_refresh_token_is_told_so_and_ends_nothing(make, ana, both, path):
    tokens = login(both[0])
    answer = both[0].post(path, {"refresh_token": tokens["access_token"]})
    assert (answer.status, answer.pointers()) == (422, ["/refresh_token"])
    assert "must be the refresh_token of POST /login" in answer.json()["detail"]
    assert tokens["access_token"][-20:].encode() not in answer.body
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
