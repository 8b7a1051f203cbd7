"""Nodes on one database and Redis, each with a folder of keys of its own."""

import shutil
import time
from contextlib import ExitStack

import pytest

from petstore.auth import key_agreement, key_rotation, signing_keys
from petstore.auth.key_agreement import DIFFER, OK, UNKNOWN


@pytest.fixture(autouse=True)
def always_looking(monkeypatch):
    monkeypatch.setattr(signing_keys, "RELOAD_SECONDS", -1.0)


@pytest.fixture
def nodes(make, with_settings, own_redis, tmp_path):
    """Services of two nodes; the second one's keys are a copy of the first one's."""
    first, second = tmp_path / "first", tmp_path / "second"
    key_rotation.generate_key(first)
    shutil.copytree(first, second)
    with ExitStack() as stack:
        found = [stack.enter_context(with_settings(keys=keys, redis_url=own_redis.url))[0] for keys in (first, second)]
        for services in found:
            services.db.check()
        yield found


def checked(nodes):
    """What each node says, when each has announced its keys."""
    for services in nodes:
        services.key_agreement.check()
    return [services.key_agreement.check() for services in nodes]


def folders(nodes):
    return [services.settings.keys for services in nodes]


def copied(nodes):
    """The second folder becomes as the first one is."""
    first, second = folders(nodes)
    for path in second.glob("*.pem"):
        path.unlink()
    for path in first.glob("*.pem"):
        shutil.copy2(path, second)


def test_nodes_with_the_same_keys_agree(nodes):
    assert checked(nodes) == [OK, OK]


def test_a_node_with_another_key_is_noticed_by_both_and_logged_once(nodes, caplog):
    key_rotation.replace_key(folders(nodes)[1], 2048)
    assert checked(nodes) == [DIFFER, DIFFER]
    assert checked(nodes) == [DIFFER, DIFFER]
    said = [record.getMessage() for record in caplog.records if "same signing keys" in record.getMessage()]
    kids = [services.tokens.keyring.now().kid for services in nodes]
    assert [kid in message for kid, message in zip(kids, said, strict=True)] == [True, True]  # each names the other's
    copied(nodes)
    assert checked(nodes) == [OK, OK]


def test_a_node_with_another_refresh_key_is_noticed_by_both(nodes, caplog):
    pem = signing_keys.refresh_pem(b"k" * 32)
    (folders(nodes)[1] / signing_keys.REFRESH_FILE).write_bytes(pem)
    assert checked(nodes) == [DIFFER, DIFFER]
    assert [record.getMessage().count("another refresh key") for record in caplog.records if "same" in record.getMessage()] == [
        1,
        1,
    ]
    assert "a2tra2tr" not in caplog.text
    copied(nodes)
    assert checked(nodes) == [OK, OK]


def test_a_node_of_a_release_that_announces_no_refresh_key_agrees(nodes, monkeypatch):
    monkeypatch.setattr(key_agreement, "_refresh_word", lambda keys: "")
    nodes[0].key_agreement.check()
    monkeypatch.undo()
    monkeypatch.setattr(signing_keys, "RELOAD_SECONDS", -1.0)
    assert nodes[1].key_agreement.check() == OK


def test_a_rotation_with_a_copy_after_each_step_is_never_called_a_difference(nodes):
    first = folders(nodes)[0]
    key_rotation.generate_key(first, name=signing_keys.NEXT_FILE)
    assert checked(nodes) == [OK, OK]  # also before the copy: nobody signs with it yet
    copied(nodes)
    assert checked(nodes) == [OK, OK]
    key_rotation.switch(first)
    assert checked(nodes) == [OK, OK]  # one signs with the new key, the other still with the old one, and each has both
    assert len({services.tokens.keyring.now().kid for services in nodes}) == 2
    copied(nodes)
    assert checked(nodes) == [OK, OK]
    for path in signing_keys.retired(first):
        path.unlink()
    assert checked(nodes) == [OK, OK]
    copied(nodes)
    assert checked(nodes) == [OK, OK]


@pytest.mark.parametrize("forgotten", ["next", "switch"])
def test_a_copy_that_was_forgotten_in_a_rotation_is_noticed_when_tokens_are_refused(nodes, forgotten):
    first = folders(nodes)[0]
    key_rotation.generate_key(first, name=signing_keys.NEXT_FILE)
    if forgotten == "switch":
        copied(nodes)
    key_rotation.switch(first)
    assert checked(nodes) == ([DIFFER, DIFFER] if forgotten == "next" else [OK, OK])
    for path in signing_keys.retired(first):
        path.unlink()
    assert checked(nodes) == [DIFFER, DIFFER]


def test_processes_that_read_the_same_folder_are_one_node(nodes, with_settings):
    """So what one of them said before a change does not count against the others."""
    key_rotation.replace_key(folders(nodes)[1], 2048)
    assert checked(nodes[:1]) == [OK]
    assert checked(nodes) == [DIFFER, DIFFER]
    with with_settings(keys=folders(nodes)[1], redis_url=nodes[0].settings.redis_url) as (third, _):
        third.db.check()
        copied(nodes)
        assert third.key_agreement.check() == OK
        assert nodes[0].key_agreement.check() == OK


def test_a_node_that_says_nothing_any_more_does_not_count(nodes, monkeypatch):
    key_rotation.replace_key(folders(nodes)[1], 2048)
    monkeypatch.setattr(key_agreement, "ANNOUNCED_SECONDS", 1)
    assert checked(nodes) == [DIFFER, DIFFER]
    time.sleep(2.1)
    assert nodes[0].key_agreement.check() == OK


def test_another_database_on_the_same_redis_is_no_node_of_this_one(nodes, with_settings, cluster, template, tmp_path):
    keys = key_rotation.generate_key(tmp_path / "third").parent
    with (
        cluster.database("other", template) as name,
        with_settings(keys=keys, redis_url=nodes[0].settings.redis_url, database_url=cluster.url("petstore_app", name)) as (
            third,
            _,
        ),
    ):
        third.db.check()
        assert checked([*nodes, third]) == [OK, OK, OK]


def test_without_redis_nothing_is_known(nodes, own_redis, with_settings):
    own_redis.stop()
    assert checked(nodes) == [UNKNOWN, UNKNOWN]
    with with_settings(redis_url=None) as (alone, _):
        assert alone.key_agreement.check() == UNKNOWN
