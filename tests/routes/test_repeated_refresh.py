"""A refresh token that is shown again: an answer was lost, two tabs refresh at once, or somebody has stolen it."""

from __future__ import annotations

import shutil

import pytest

from petstore.auth import key_rotation, signing_keys
from petstore.auth.refresh_tokens import Login
from tests.client import Client
from tests.routes.logins import age, ends, is_dead, lives, login, me, refresh, sha256, sid

WRONG, JUST_USED = "/problems/wrong-refresh-token", "/problems/refresh-token-just-used"


def refused(answer, slug):
    assert answer["WWW-Authenticate"] == 'Bearer realm="petstore"'
    assert answer["Cache-Control"] == "no-store"
    return (answer.status, answer.json()["type"]) == (401, slug)


def live(make, tokens):
    return make.scalar("SELECT ended_at IS NULL FROM sessions WHERE id = %s", sid(tokens))


def stored(make):
    return make.rows(
        "SELECT token_hash, used_at, s.expires_at FROM refresh_tokens JOIN sessions AS s ON s.id = session_id ORDER BY 1"
    )


@pytest.mark.parametrize("seconds", [0, 9])
def test_whose_answer_was_lost_gets_the_same_refresh_token_again_from_every_worker(make, ana, both, seconds):
    first = login(both[0])
    lost = refresh(both[0], first).json()
    age(make, first, seconds)
    before = stored(make)
    for client in (*both, *both):
        again = refresh(client, first)
        assert (again.status, again["Cache-Control"]) == (200, "no-store")
        assert again.json()["refresh_token"] == lost["refresh_token"]
        assert again.json()["access_token"] != lost["access_token"]
        assert {me(one, again.json()).status for one in both} == {200}
    assert stored(make) == before  # nothing is written, so it can be asked as often as one likes
    assert lives(both, lost)


def test_of_two_tabs_with_one_token_neither_loses(make, ana, both):
    tokens = login(both[0])
    for _ in range(3):  # each tab goes on with what it got
        one, other = (refresh(client, tokens).json() for client in both)
        assert one["refresh_token"] == other["refresh_token"]
        tokens = other
    assert live(make, tokens)


def test_while_the_next_token_is_used_the_one_before_it_is_refused_and_nothing_else(make, ana, both):
    first = login(both[0])
    second = refresh(both[0], first).json()
    third = refresh(both[0], second).json()
    for client in both:
        assert refused(refresh(client, first), JUST_USED)
    assert [end for _, *end in ends(make)] == [[False, None]] * 2
    assert refresh(both[1], second).json()["refresh_token"] == third["refresh_token"]
    assert lives(both, third)


def test_a_token_shown_after_ten_seconds_ends_the_login_though_the_next_one_is_unused(make, ana, both):
    first, other = login(both[0]), login(both[0])
    lost = refresh(both[0], first).json()
    age(make, first, 11)
    assert refused(refresh(both[1], first), WRONG)
    assert is_dead(both, lost)
    assert lives(both, other)


@pytest.mark.parametrize(
    "over", ["ended_at = now(), end_reason = 'logout'", "expires_at = created_at + interval '1 microsecond'"]
)
def test_a_token_of_a_login_that_is_over_is_not_given_again(make, ana, both, over):
    first = login(both[0])
    refresh(both[0], first)
    make.conn.execute(f"UPDATE sessions SET {over} WHERE id = %s", (sid(first),))
    assert refused(refresh(both[0], first), WRONG)


def forget(make, tokens):
    """As if the row of a used token had gone, since it is older than the limit of refreshes looks back."""
    return make.conn.execute(
        "DELETE FROM refresh_tokens WHERE used_at IS NOT NULL AND token_hash = %s", (sha256(tokens),)
    ).rowcount


def test_a_stolen_token_of_long_ago_ends_the_login_though_no_row_tells_of_it(make, ana, both):
    first, other = login(both[0]), login(both[0])
    second = refresh(both[0], first).json()
    newest = refresh(both[0], second).json()
    assert (forget(make, first), forget(make, second)) == (1, 1)
    assert lives(both[:1], other)
    assert refused(refresh(both[1], second), WRONG)
    assert is_dead(both, newest)
    assert [end for end in ends(make) if end[1]] == [(sid(first), True, "reuse")]


def test_who_changes_what_a_token_tells_ends_no_login(make, ana, both):
    first, mine = login(both[0]), login(both[0])
    newest = refresh(both[0], first).json()
    forget(make, first)
    text, own = first["refresh_token"], mine["refresh_token"]
    for forged in (
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        text[:32] + own[32:],
        own[:32] + text[32:],
        "A" * 96,
        text[:43],
    ):
        assert refused(refresh(both[0], forged), WRONG)
        assert both[0].post("/logout", {"refresh_token": forged}).status == 204
    assert live(make, newest)
    assert live(make, mine)


def test_an_id_that_was_given_again_after_rows_were_lost_is_another_login(make, ana, both):
    first = login(both[0])
    forget(make, refresh(both[0], first).json())
    make.conn.execute("DELETE FROM refresh_tokens")
    make.conn.execute("UPDATE sessions SET session_uuid = gen_random_uuid() WHERE id = %s", (sid(first),))
    assert refused(refresh(both[0], first), WRONG)
    assert live(make, first)


@pytest.fixture
def from_before(make, ana):
    """A refresh token of a release that issued random text."""

    def issue(text="Zm9yIGV4YW1wbGUgb25seSwgMzIgcmFuZG9tIGJ5dGVz"):
        token = {"refresh_token": text}
        make.conn.execute("INSERT INTO refresh_tokens (token_hash, session_id) VALUES (%s, %s)", (sha256(token), ana.session_id))
        return token

    return issue


def test_a_token_from_before_the_upgrade_is_good_and_given_again_like_any_other(make, ana, both, from_before):
    old = from_before()
    tokens = refresh(both[0], old).json()
    assert sid(tokens) == ana.session_id
    assert refresh(both[1], old).json()["refresh_token"] == tokens["refresh_token"]
    assert lives(both, tokens)
    assert refused(refresh(both[0], old), JUST_USED)
    age(make, old, 11)
    assert refused(refresh(both[0], old), WRONG)
    assert not live(make, tokens)


def test_a_token_from_before_logins_had_a_uuid_is_followed_by_one_that_tells_its_login(make, ana, both, service, from_before):
    """On a schema version before 11 a token has none; once the database has it, the next token does."""
    old = from_before(service[0].refresh_tokens.first(Login(ana.session_id, None)))
    second = refresh(both[0], old).json()
    assert refresh(both[1], old).json()["refresh_token"] == second["refresh_token"]
    newest = refresh(both[0], second).json()
    assert (forget(make, old), forget(make, second)) == (1, 1)
    assert refused(refresh(both[1], second), WRONG)
    assert not live(make, newest)


def test_a_token_that_another_release_gave_is_the_next_one_and_ours_is_not_given_beside_it(make, ana, both):
    """During an upgrade, the node that used the token may have been one that issues random text."""
    first = login(both[0])
    lost = refresh(both[0], first).json()
    make.conn.execute("UPDATE refresh_tokens SET token_hash = sha256('random') WHERE token_hash = %s", (sha256(lost),))
    assert refused(refresh(both[0], first), JUST_USED)
    assert live(make, first)


def test_the_next_token_is_the_same_on_a_node_with_a_copy_of_the_keys_and_after_a_rotation(make, ana, with_settings, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    key_rotation.generate_key(first)
    shutil.copytree(first, second)
    with with_settings(keys=first) as (_, server), Client(server.address) as client:
        token = login(client)
        lost = refresh(client, token).json()
    key_rotation.generate_key(second, name=signing_keys.NEXT_FILE)
    key_rotation.switch(second)
    with with_settings(keys=second) as (_, server), Client(server.address) as client:
        assert refresh(client, token).json()["refresh_token"] == lost["refresh_token"]
    (second / signing_keys.REFRESH_FILE).unlink()  # of a node with another key
    with with_settings(keys=second) as (_, server), Client(server.address) as client:
        assert refused(refresh(client, token), JUST_USED)
        assert refresh(client, lost).status == 200  # what is stored is good everywhere
    assert live(make, token)


def test_a_folder_of_keys_from_before_the_upgrade_gives_the_same_key_to_every_copy_of_it(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    key_rotation.generate_key(first)
    (first / signing_keys.REFRESH_FILE).unlink()
    shutil.copytree(first, second)
    before, copy = (signing_keys.load_keys(folder) for folder in (first, second))
    assert before.refresh == copy.refresh
    key_rotation.generate_key(first, name=signing_keys.NEXT_FILE)
    key_rotation.switch(first)
    after = signing_keys.load_keys(first)
    assert (after.refresh, after.kid != before.kid) == (before.refresh, True)


@pytest.mark.parametrize("from_before", [False, True])
def test_who_has_a_signing_key_that_was_replaced_does_not_know_the_refresh_key(make, ana, with_settings, tmp_path, from_before):
    key_rotation.generate_key(tmp_path)
    if from_before:
        (tmp_path / signing_keys.REFRESH_FILE).unlink()
    leaked = signing_keys.load_keys(tmp_path)
    with with_settings(keys=tmp_path) as (_, server), Client(server.address) as client:
        token = login(client)
        key_rotation.replace_key(tmp_path, 2048)
        known = {leaked.refresh, signing_keys.load_refresh_key(tmp_path / "nothing", leaked.signing)}
        assert signing_keys.load_keys(tmp_path).refresh not in known
    with with_settings(keys=tmp_path) as (_, server), Client(server.address) as client:
        assert refresh(client, token).status == 200  # no login ends
