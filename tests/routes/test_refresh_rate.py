"""How often a login may refresh its tokens: more than any client needs, and not so often that it fills a disk."""

from __future__ import annotations

from petstore.domain.logins import REFRESH_WINDOW_SECONDS, REFRESHES
from tests.client import Client
from tests.routes.logins import ANA, BOB, age, ends, is_dead, lives, login, logout, me, refresh, sid


def refresh_often(both, tokens, times):
    """Refresh so many times, with both workers in turn; the newest tokens."""
    for number in range(times):
        answer = refresh(both[number % 2], tokens)
        assert answer.status == 200
        tokens = answer.json()
    return tokens


def older(make, tokens, seconds):
    """As if all tokens of the login had been given and used so much earlier."""
    make.conn.execute(
        "UPDATE refresh_tokens SET created_at = created_at - make_interval(secs => %(seconds)s),"
        " used_at = used_at - make_interval(secs => %(seconds)s) WHERE session_id = %(login)s",
        {"seconds": seconds, "login": sid(tokens)},
    )


def stored(make, tokens):
    return make.rows(
        "SELECT token_hash, used_at, s.expires_at FROM refresh_tokens JOIN sessions AS s ON s.id = session_id"
        " WHERE s.id = %s ORDER BY 1",
        sid(tokens),
    )


def test_a_login_that_refreshes_too_often_waits_at_every_worker_and_keeps_its_token(make, ana, both):
    make.user(BOB)
    other, bobs = login(both[0]), login(both[0], BOB)
    tokens = refresh_often(both, login(both[0]), REFRESHES - 1)  # the login itself gave the first token
    before = stored(make, tokens)
    for client in (*both, *both):
        answer = refresh(client, tokens)
        assert (answer.status, answer.json()["type"]) == (429, "/problems/too-many-requests")
        wait = int(answer["Retry-After"])
        assert REFRESH_WINDOW_SECONDS - 60 < wait <= REFRESH_WINDOW_SECONDS
        assert answer["RateLimit-Policy"] == f'"refresh";q={REFRESHES};w={REFRESH_WINDOW_SECONDS}'
        assert answer["RateLimit"] == f'"refresh";r=0;t={wait}'
        assert answer["Cache-Control"] == "no-store"
    assert stored(make, tokens) == before
    assert not any(ended for _, ended, _ in ends(make))
    assert {me(client, tokens).status for client in both} == {200}
    assert lives(both, other)
    assert lives(both, bobs)
    assert refresh(both[0], login(both[0])).status == 200  # of the same account
    older(make, tokens, wait)
    assert lives(both, tokens)


def test_an_app_that_refreshes_at_every_page_it_loads_never_waits(make, ana, both):
    tokens = login(both[0])
    for _ in range(5):
        tokens = refresh_often(both, tokens, 60)
        older(make, tokens, REFRESH_WINDOW_SECONDS)
    # The 60 that were used in the last 10 minutes, and the one that is good.
    assert make.scalar("SELECT count(*) FROM refresh_tokens WHERE session_id = %s", sid(tokens)) == 61


def test_a_used_token_ends_a_login_that_waits_and_logout_still_works(make, ana, both):
    first, other = login(both[0]), login(both[0])
    tokens, others = refresh_often(both, first, REFRESHES - 1), refresh_often(both, other, REFRESHES - 1)
    assert refresh(both[0], first).status == 401  # the one after it is used
    assert refresh(both[0], tokens).status == 429
    age(make, first, 11)
    assert refresh(both[1], first).status == 401
    assert is_dead(both, tokens)
    assert logout(both[0], others).status == 204
    assert is_dead(both, others)
    assert [end for _, *end in ends(make)] == [[False, None], [True, "reuse"], [True, "logout"]]
    assert login(both[0], ANA)


def test_without_redis_the_limit_is_the_same(make, ana, with_settings):
    with with_settings(redis_url=None) as (_, server), Client(server.address) as client:
        tokens = refresh_often([client, client], login(client), REFRESHES - 1)
        assert refresh(client, tokens).status == 429
