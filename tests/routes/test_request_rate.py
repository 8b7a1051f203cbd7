"""How often one address and one user may ask, whatever for."""

from __future__ import annotations

import time

from tests.routes.street import opened


def until_refused(get, burst):
    """The first refusal of one that asks and asks, after as many answers as there may be."""
    started, count = time.monotonic(), 0
    while (answer := get()).status == 200:
        count += 1
        assert count <= burst + time.monotonic() - started
    assert count >= burst
    return answer


def assert_too_many(answer):
    assert (answer.status, answer.json()["type"]) == (429, "/problems/too-many-requests")
    assert answer["Retry-After"] == "1"
    assert answer["RateLimit-Policy"] == '"requests";q=10;w=10'
    assert answer["RateLimit"] == '"requests";r=0;t=1'


def test_an_address_that_asks_too_often_is_refused_and_others_are_not(make, settings):
    with opened(settings, rate_limit=1) as street:

        def get(address):
            return street.client.get("/livez", headers={"X-Forwarded-For": address})

        assert_too_many(until_refused(lambda: get("2001:db8::1"), 10))
        assert get("2001:db8::2").status == 429  # the same house
        assert get("2001:db8:0:1::1").status == 200
        assert get("192.0.2.7").status == 200
        assert get("none of your business").status == 200


def test_a_user_who_asks_too_often_is_refused_from_every_address_and_others_are_not(make, ana, settings):
    with opened(settings, rate_limit=1) as street:
        own, other = (street.services.tokens.issue(user) for user in (ana, make.user()))
        hosts = iter(range(1, 250))

        def get(token):
            headers = {"X-Forwarded-For": f"192.0.2.{next(hosts)}", "Authorization": f"Bearer {token}"}
            return street.client.get("/me", headers=headers)

        assert_too_many(until_refused(lambda: get(own), 10))
        assert get(other).status == 200


def test_there_may_be_no_general_limit(settings):
    with opened(settings, rate_limit=0) as street:
        assert {street.client.get("/livez").status for _ in range(60)} == {200}
