import pytest

from petstore.auth import key_rotation
from petstore.cli.housekeep import Housekeeping
from petstore.db.migrations import OLDEST_VERSION, newest_version
from tests.aged import LIMITS, age
from tests.client import Client

SCHEMA = {"version": newest_version(), "oldest": OLDEST_VERSION, "newest": newest_version()}


def test_livez_and_readyz_say_yes(anyone):
    assert (anyone.get("/livez").status, anyone.get("/livez").json()) == (200, {"status": "ok"})
    ready = anyone.get("/readyz")
    assert (ready.status, ready.json()) == (
        200,
        {"status": "ready", "database": "ok", "schema": SCHEMA, "drift": [], "cache": "ok", "housekeeping": "ok", "keys": "ok"},
    )


def test_another_schema_version_is_not_ready_until_it_is_back(make, anyone):
    make.conn.execute("INSERT INTO schema_version (version) VALUES (999)")
    try:
        answer = anyone.get("/readyz")
        assert (answer.status, answer.json()["database"], answer["Retry-After"]) == (503, "wrong", "1")
        assert answer.json()["schema"] == SCHEMA | {"version": 999}
        assert anyone.get("/products").status == 503
        assert anyone.get("/livez").status == 200
    finally:
        make.conn.execute("DELETE FROM schema_version WHERE version = 999")
    assert anyone.get("/readyz").status == 200
    assert anyone.get("/products").status == 200


@pytest.mark.parametrize("kind", LIMITS)
def test_readyz_says_degraded_when_housekeeping_is_more_than_an_hour_late(make, ana, anyone, settings, kind):
    age(make, ana.id, kind, LIMITS[kind] + 0.98)
    expected = {
        "status": "ready",
        "database": "ok",
        "schema": SCHEMA,
        "drift": [],
        "cache": "ok",
        "housekeeping": "ok",
        "keys": "ok",
    }
    assert anyone.get("/readyz").json() == expected
    age(make, ana.id, kind, LIMITS[kind] + 1.02)
    late = anyone.get("/readyz")
    assert (late.status, late.json()) == (200, expected | {"status": "degraded", "housekeeping": "late"})
    assert Housekeeping(settings.database_url).run()
    assert anyone.get("/readyz").json() == expected


def test_what_is_kept_for_ever_makes_no_housekeeping_late(make, ana, anyone):
    make.conn.execute("INSERT INTO refresh_tokens (token_hash, session_id, created_at) VALUES (sha256(''), 1, '2020-01-01')")
    make.conn.execute(
        "INSERT INTO audit_log (action, subject_id, fields, created_at) VALUES ('user.update', 1, '{}', '2020-01-01')"
    )
    assert anyone.get("/readyz").json()["housekeeping"] == "ok"


def test_without_redis_and_late_readyz_says_both(make, ana, own_redis, with_settings):
    age(make, ana.id, "idempotency keys", 26)
    with with_settings(redis_url=own_redis.url) as (services, server), Client(server.address) as client:
        services.db.check()
        own_redis.stop()
        expected = {
            "status": "degraded",
            "database": "ok",
            "schema": SCHEMA,
            "drift": [],
            "cache": "down",
            "housekeeping": "late",
            "keys": "unknown",
        }
        assert client.get("/readyz").json() == expected


def test_readyz_says_degraded_while_another_node_has_another_signing_key(make, anyone, with_settings, tmp_path):
    keys = key_rotation.generate_key(tmp_path / "other").parent
    with with_settings(keys=keys) as (_, server), Client(server.address) as client:
        assert anyone.get("/readyz").json()["keys"] == "ok"
        answers = [client.get("/readyz"), anyone.get("/readyz")]
        assert [(answer.status, answer.json()["status"], answer.json()["keys"]) for answer in answers] == [
            (200, "degraded", "differ")
        ] * 2
