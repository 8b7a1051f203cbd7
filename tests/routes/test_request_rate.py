"""How often one address and one user may ask, whatever for."""

from __future__ import annotations

import time

from tests.routes.street import opened


def until_refused(get, burst, per_second=1):
    """The first refusal of one that asks and asks, after as many answers as there may be."""
    started, count = time.monotonic(), 0
    while (answer := get()).status == 200:
        count += 1
        assert count <= burst + (time.monotonic() - started) * per_second
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


def test_a_network_may_ask_a_few_times_as_often_as_an_address_and_no_more(settings):
    with opened(settings, rate_limit=1) as street:
        for step, share, beside in ((1, 2, "2001:db8:2:100::1"), (256, 5, "2001:db8:6::1")):
            numbers = iter(range(0, 256 * step, step))

            def get(share=share, numbers=numbers):
                return street.client.get("/livez", headers={"X-Forwarded-For": f"2001:db8:{share}:{next(numbers):x}::1"})

            answer = until_refused(get, share * 10, share)
            assert answer["RateLimit-Policy"] == f'"requests";q={share * 10};w=10'
            assert street.client.get("/livez", headers={"X-Forwarded-For": beside}).status == 200


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
