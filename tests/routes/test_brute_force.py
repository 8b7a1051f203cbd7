"""Guessing passwords: answered later and later, per account and per address; and nobody is kept out of the own account for good."""

from __future__ import annotations

import http.client
import json
import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from petstore.limits.policies import ACCOUNT, ADDRESS, NEWCOMERS, REGISTER
from tests.client import Client
from tests.factories import PASSWORD
from tests.proxy import Proxy
from tests.routes.street import ANA, BOB, HERE, WRONG, opened
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("still_clock")

BUSY = 503  # too many hashes at once, on a small machine with other things to do
POLICIES = '"account";q=44;w=2640, "account-here";q=5;w=1500, "address";q=20;w=1200'
NEW_HERE = '"newcomers";q=20;w=1200, "account-here";q=5;w=1500, "address";q=20;w=1200'


@pytest.fixture
def street(make, behind_proxy):
    behind_proxy.services.failed_attempts.clear()
    return behind_proxy


@pytest.fixture
def ana(make, street):
    """The owner of the account. Another one must not be touched by anything that is done to her."""
    make.user(BOB)
    return make.user(ANA)


@contextmanager
def at_once(count, addresses):
    """So many clients with open connections to services in turn: call(work) gives what work(client, number) gave to each."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        clients = [stack.enter_context(Client(addresses[number % len(addresses)])) for number in range(count)]
        for client in clients:
            client._connection.connect()
        yield lambda work: list(pool.map(work, clients, range(count)))


def could_be_tried(started, free=5):
    """Guesses that Redis may have let through since: the free ones, then one more after 1 s, 3 s, 7 s ..."""
    return free + int(math.log2(time.monotonic() - started + 1))


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_five_failures_with_an_account_make_their_address_wait_and_no_other(make, street, ana):
    for number in range(5):
        answer = street.guess()
        assert (answer.status, answer.json()["type"]) == (401, "/problems/wrong-credentials")
        assert answer["Retry-After"] is None
        assert answer["RateLimit-Policy"] == POLICIES
        here = f'"account-here";r={4 - number};t={300 if number < 4 else 1}'
        assert answer["RateLimit"] == f'"account";r={43 - number};t=60, {here}, "address";r={19 - number};t=60'
    for password in (WRONG, PASSWORD):
        answer = street.login(password=password)
        assert (answer.status, answer.json()["type"]) == (429, "/problems/too-many-attempts")
        assert (answer["Retry-After"], answer["RateLimit-Policy"]) == ("1", POLICIES)
        assert answer["RateLimit"] == '"account";r=39;t=60, "account-here";r=0;t=1, "address";r=15;t=60'
        assert answer["Cache-Control"] == "no-store"
    assert make.scalar("SELECT count(*) FROM sessions WHERE user_id = %s", ana.id) == 1  # the one she was made with
    assert street.login(BOB).status == 200
    assert street.login(address="192.0.2.8").status == 200


def test_44_failures_with_an_account_from_wherever_make_all_wait_who_have_failed_with_it(make, street, ana):
    street.charge(ACCOUNT, ANA, ACCOUNT.free - 2)
    for number in (1, 0):
        answer = street.guess(address=f"198.51.100.{number}")
        account = f'"account";r={number};t={60 if number else 1}'
        assert (answer.status, answer["RateLimit"]) == (401, f'{account}, "account-here";r=4;t=300, "address";r=19;t=60')
    for number in (1, 0):
        answer = street.login(address=f"198.51.100.{number}")
        assert (answer.status, answer["Retry-After"], answer["RateLimit-Policy"]) == (429, "1", POLICIES)
        assert answer["RateLimit"] == '"account";r=0;t=1, "account-here";r=4;t=300, "address";r=19;t=60'
    assert make.scalar("SELECT count(*) FROM sessions WHERE user_id = %s", ana.id) == 1
    assert street.login(BOB, address="198.51.100.1").status == 200


def test_while_an_account_waits_who_has_not_failed_with_it_may_try_once(street, ana):
    street.block()
    answer = street.guess(address="203.0.113.1")
    assert (answer.status, answer["RateLimit-Policy"]) == (401, NEW_HERE)
    assert answer["RateLimit"] == '"newcomers";r=19;t=60, "account-here";r=4;t=300, "address";r=19;t=60'
    assert street.login(address="203.0.113.1").status == 429
    assert street.login(address="203.0.113.2").status == 200


def test_also_those_who_may_try_once_are_counted(street, ana):
    street.block()
    street.charge(NEWCOMERS, ANA, NEWCOMERS.free - 1)
    answer = street.guess(address="203.0.113.1")
    assert (answer.status, answer["RateLimit"].partition(",")[0]) == (401, '"newcomers";r=0;t=1')
    answer = street.login(address="203.0.113.2")
    assert (answer.status, answer["Retry-After"], answer["RateLimit-Policy"]) == (429, "1", NEW_HERE)
    assert street.login(BOB, address="203.0.113.2").status == 200


def test_while_an_account_waits_one_may_try_once_at_every_service(street, ana, settings):
    """What one process has not seen, it hears from Redis; and that this is a first attempt holds for all of them."""
    street.block()
    with opened(settings) as other:
        assert other.guess(address="203.0.113.1").status == 401
        assert street.login(address="203.0.113.1").status == 429
        assert other.login(address="203.0.113.2").status == 200


def test_another_case_or_composition_of_the_email_is_the_same_account(make, street):
    make.user("zoë@example.com")
    for email in ("zoë@example.com", "ZOË@example.com", "zoe\u0308@example.com", "ZOE\u0308@EXAMPLE.COM", "Zoë@example.com"):
        assert street.guess(email).status == 401
    assert street.login("zoë@example.com").status == 429


def test_no_spelling_of_an_email_has_a_counter_of_its_own(make, street):
    """Whatever the database takes for the same email is the same account: İ is i to PostgreSQL, and something else to Python."""
    make.user("iris@example.com")
    for email in ("iris@example.com", "İris@example.com", "irİs@example.com", "İrİs@example.com", "IRIS@example.com"):
        same = make.scalar("SELECT lower(normalize(%s)) = 'iris@example.com'", email)
        assert street.guess(email if same else "iris@example.com").status == 401
    assert street.login("iris@example.com").status == 429


def test_an_unknown_email_is_treated_as_a_known_one(make, street, ana):
    def told(email, address):
        answers = [street.guess(email, address) for _ in range(7)]
        kept = [
            sorted((name, value) for name, value in a.headers.items() if name.lower() not in ("date", "x-request-id"))
            for a in answers
        ]
        return [(a.status, headers, a.json() | {"request_id": ""}) for a, headers in zip(answers, kept, strict=True)]

    known, unknown = told(ANA, "203.0.113.1"), told("nobody@example.com", "203.0.113.2")
    assert [status for status, *_ in known] == [401] * 5 + [429] * 2
    assert known == unknown
    for email in (ANA, "nobody@example.com"):
        street.charge(ACCOUNT, email, ACCOUNT.free - 5)
    known, unknown = told(ANA, "203.0.113.3"), told("nobody@example.com", "203.0.113.4")
    assert [status for status, *_ in known] == [401] + [429] * 6
    assert known == unknown


def test_a_success_begins_the_account_anew_and_leaves_the_address_as_it_was(street, ana):
    for round in range(2):
        for _ in range(4):
            assert street.guess().status == 401
        answer = street.login()
        assert answer.status == 200
        assert answer["RateLimit-Policy"] == '"address";q=20;w=1200'
        assert answer["RateLimit"] == f'"address";r={16 - 4 * round};t=60'


def test_right_logins_are_never_made_to_wait(street, ana):
    street.charge(ADDRESS, HERE, 19)
    for _ in range(4):  # each would be the last that its address may fail
        assert street.login().status == 200
    assert street.guess("one@example.com").status == 401
    assert street.guess("two@example.com").status == 429


@pytest.mark.slow
def test_twenty_guesses_at_as_many_accounts_are_looked_at_and_no_more(street, ana):
    started = time.monotonic()
    statuses = [street.guess(f"user{number}@example.com").status for number in range(30)]
    assert statuses[:20] == [401] * 20
    assert statuses[20:].count(401) <= int(math.log2(time.monotonic() - started + 1))


@pytest.mark.slow
def test_a_hundred_right_logins_at_once_and_one_after_another_are_never_made_to_wait(street, ana):
    with at_once(10, [street.server.address]) as call:
        statuses = call(lambda client, _: {street.login(client=client).status for _ in range(10)})
    assert set().union(*statuses) <= {200, BUSY}


def test_what_is_no_attempt_is_not_counted(street, ana):
    for _ in range(8):
        assert street.post("/login", {"email": ANA, "password": 1}).status == 422
        assert street.post("/login", {"email": ANA}).status == 422
    assert street.guess()["RateLimit"] == '"account";r=43;t=60, "account-here";r=4;t=300, "address";r=19;t=60'


def test_a_right_password_with_another_refusal_is_not_counted(make, street):
    boss = make.user("boss@example.com", role="admin")
    token = {"Authorization": f"Bearer {street.services.tokens.issue(boss)}"}
    answer = street.post("/me/delete", {"current_password": PASSWORD}, **token)
    assert (answer.status, answer.json()["type"]) == (409, "/problems/last-admin")
    answer = street.guess("boss@example.com")
    assert answer["RateLimit"] == '"account";r=43;t=60, "account-here";r=4;t=300, "address";r=19;t=60'


def test_a_wrong_current_password_counts_for_the_login_it_is_tried_with(make, street, ana):
    def own(access_token):
        return {"Authorization": f"Bearer {access_token}"}

    token, change = own(street.services.tokens.issue(ana)), {"current_password": WRONG, "new_password": "another horse battery"}
    for number in range(5):
        body, path = (change, "/me/password") if number % 2 else ({"current_password": WRONG}, "/me/delete")
        answer = street.post(path, body, address=f"198.51.100.{number}", **token)
        assert (answer.status, answer["RateLimit-Policy"]) == (422, '"account-here";q=5;w=1500')
        assert answer["RateLimit"] == f'"account-here";r={4 - number};t={300 if number < 4 else 1}'
    right = {"current_password": PASSWORD}
    for answer in (
        street.post("/me/password", change | right, **token),
        street.post("/me/delete", right, **token),
    ):
        assert (answer.status, answer["Retry-After"], answer["RateLimit"]) == (429, "1", '"account-here";r=0;t=1')
    assert make.rows("SELECT token_version, erased_at FROM users WHERE id = %s", ana.id) == [(1, None)]
    # It is no stranger's way to keep her out, and no other login of hers pays for it.
    other = street.login()
    assert other.status == 200
    answer = street.post("/me/password", change, **own(other.json()["access_token"]))
    assert (answer.status, answer["RateLimit"]) == (422, '"account-here";r=4;t=300')
    street.pass_time(1.1)
    assert street.post("/me/password", change | right, **token).status == 204


def test_strangers_at_the_login_do_not_keep_the_owner_from_a_new_password(street, ana):
    street.block()
    street.charge(NEWCOMERS, ANA, NEWCOMERS.free)
    street.charge(ADDRESS, HERE, 20)
    token = {"Authorization": f"Bearer {street.services.tokens.issue(ana)}"}
    change = {"current_password": PASSWORD, "new_password": "another horse battery"}
    assert street.post("/me/password", change, **token).status == 204


@pytest.mark.parametrize("services", [1, 2])
def test_fifty_guesses_at_once_are_five(street, ana, settings, services):
    with ExitStack() as stack:
        others = [stack.enter_context(opened(settings)).server.address for _ in range(services - 1)]
        with at_once(50, [street.server.address, *others]) as call:
            started = time.monotonic()
            answers = call(lambda client, _: street.guess(client=client))
            most = could_be_tried(started)
    statuses = [answer.status for answer in answers]
    assert set(statuses) - {BUSY} == {401, 429}
    assert statuses.count(401) <= most


def test_fifty_guesses_at_once_from_fifty_addresses_are_no_more_than_there_may_be(street, ana):
    street.charge(ACCOUNT, ANA, ACCOUNT.free - 5)
    street.charge(NEWCOMERS, ANA, NEWCOMERS.free - 10)
    with at_once(50, [street.server.address]) as call:
        started = time.monotonic()
        answers = call(lambda client, number: street.guess(address=f"203.0.113.{number}", client=client))
        most = could_be_tried(started) + could_be_tried(started, 10)
    statuses = [answer.status for answer in answers]
    assert set(statuses) - {BUSY} == {401, 429}
    assert statuses.count(401) <= most


def test_a_password_that_is_guessed_among_fifty_at_once_does_not_open_the_door_to_the_others(street, ana):
    """A success begins the account anew: of those that were under way, none may count as one that came after it."""
    with at_once(50, [street.server.address]) as call:
        started = time.monotonic()

        def login(client, number):
            return street.login(password=PASSWORD if number == 3 else WRONG, client=client)

        statuses = [answer.status for answer in call(login)]
        most = could_be_tried(started)
    assert set(statuses) <= {200, 401, 429, BUSY}
    assert statuses.count(401) <= most + 5


# ── owners ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_strangers_cannot_keep_an_owner_out_of_where_they_were_logged_in_before(make, street, ana):
    make.conn.execute("UPDATE sessions SET address = '192.0.2.7' WHERE user_id = %s", (ana.id,))
    make.conn.execute("UPDATE sessions SET address = '203.0.113.5' WHERE user_id <> %s", (ana.id,))
    street.block()
    street.charge(NEWCOMERS, ANA, NEWCOMERS.free)
    street.charge(ADDRESS, HERE, 20)  # in the same house others fail with other accounts
    answer = street.login(address=HERE)
    assert (answer.status, answer["RateLimit"] or "") == (200, "")
    # It remains closed to others: the owner's success is no stranger's. Where only Bob was logged in, Ana is a stranger.
    for address in ("198.51.100.9", "203.0.113.5"):
        assert street.login(address=address).status == 429
    assert street.guess(BOB, address=HERE).status == 429
    for _ in range(5):
        assert street.guess(address=HERE).status == 401  # may be someone else in the same house
    assert street.login(address=HERE).status == 429


@pytest.mark.parametrize(
    ("known", "here", "status"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:abcd::9", 200),  # addresses within a house change daily (RFC 8981)
        ("2001:db8:1:2::1", "2001:db8:1:3::1", 429),
        ("192.0.2.7", "192.0.2.8", 429),
        (None, "192.0.2.8", 429),
    ],
)
def test_an_owner_is_known_in_the_house_and_not_beside_it(make, street, ana, known, here, status):
    make.conn.execute("UPDATE sessions SET address = %s WHERE user_id = %s", (known, ana.id))
    street.block()
    street.charge(NEWCOMERS, ANA, NEWCOMERS.free)
    assert street.login(address=here).status == status


def test_an_owner_at_a_new_address_gets_in_when_the_time_is_over(make, street, ana):
    assert street.guess().status == 401  # mistyped, and no newcomer any more
    street.charge(ACCOUNT, ANA, ACCOUNT.free - 1)
    for seconds in (1, 2, 4):
        answer = street.login()
        assert (answer.status, int(answer["Retry-After"])) == (429, seconds)
        street.pass_time(seconds)
        street.charge(ACCOUNT, ANA, 1)  # a stranger was first
    street.pass_time(int(street.login()["Retry-After"]))
    assert street.login().status == 200
    assert make.scalar("SELECT count(*) FROM sessions WHERE user_id = %s AND address = %s", ana.id, HERE) == 1
    assert street.guess(address="198.51.100.9")["RateLimit"].startswith('"account";r=43;t=60,')  # all begins anew


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_twenty_failures_of_one_address_over_many_accounts_make_it_wait(street, ana):
    street.charge(ADDRESS, HERE, 17)
    for number in range(3):
        assert street.guess(f"user{number}@example.com").status == 401
    answer = street.guess("one-more@example.com")
    assert (answer.status, answer["Retry-After"]) == (429, "1")
    assert answer["RateLimit"] == '"account";r=44;t=0, "account-here";r=5;t=0, "address";r=0;t=1'
    assert street.login().status == 429
    assert street.login(address="192.0.2.8").status == 200


def test_a_subscriber_of_ipv6_is_one_client_however_many_addresses_it_has(street, ana):
    street.charge(ADDRESS, "2001:db8::/64", 19)
    assert street.guess("one@example.com", "2001:db8::1").status == 401
    assert street.guess("two@example.com", "2001:db8::ffff:1:2").status == 429
    assert street.guess("two@example.com", "2001:db8:0:1::1").status == 401


def test_from_the_101st_on_who_asks_which_emails_are_known_waits(make, street, ana):
    for number in range(99):
        answer = street.register(ANA.upper())
        assert answer.status == 409
        assert answer["RateLimit-Policy"] == '"register";q=100;w=6000'
        assert answer["RateLimit"] == f'"register";r={99 - number};t=60'
    for number in range(3):  # they tell nothing, and are not counted
        answer = street.register(f"new{number}@example.com")
        assert (answer.status, answer["RateLimit"]) == (201, '"register";r=1;t=60')
    assert street.register(ANA).status == 409
    for email in (ANA, "new@example.com"):
        answer = street.register(email)
        assert (answer.status, answer["Retry-After"], answer["RateLimit"]) == (429, "1", '"register";r=0;t=1')
    assert make.scalar("SELECT count(*) FROM users") == 5
    # Elsewhere, and for who logs in, nothing has changed.
    assert street.register("new@example.com", "192.0.2.8").status == 201
    assert street.login().status == 200


@pytest.mark.slow
def test_registering_is_not_limited_by_its_successes(make, street):
    for number in range(110):
        assert street.register(f"user{number}@example.com").status == 201
    assert make.scalar("SELECT count(*) FROM users") == 110


def test_fifty_who_ask_at_once_for_a_known_email_get_no_more_answers(street, ana):
    street.charge(REGISTER, HERE, 90)
    with at_once(50, [street.server.address]) as call:
        started = time.monotonic()
        body = {"email": ANA, "password": PASSWORD}
        statuses = [answer.status for answer in call(lambda client, _: street.post("/register", body, client=client))]
        most = could_be_tried(started) + 5
    assert set(statuses) == {409, 429}
    assert 10 <= statuses.count(409) <= most


# ── without Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────


def five_then_none(street, already=0):
    for _ in range(5 - already):
        assert street.guess().status == 401
    assert street.guess().status == 429
    assert street.guess(BOB).status == 401


def test_there_is_a_limit_without_redis(ana, settings):
    with opened(settings, redis_url=None) as street:
        five_then_none(street)


@pytest.fixture
def fragile(ana, settings, own_redis, tmp_path):
    """A service with a Redis of its own, behind a proxy."""
    with (
        Proxy(tmp_path / "proxied.sock", own_redis.url.removeprefix("unix://")) as proxy,
        opened(settings, redis_url=f"unix://{proxy.address}") as street,
    ):
        street.proxy, street.redis = proxy, own_redis
        yield street


def test_there_is_a_limit_when_redis_was_killed(fragile):
    os.kill(fragile.redis.pid, signal.SIGKILL)
    five_then_none(fragile)


def test_failures_are_remembered_when_redis_freezes_and_thaws(fragile):
    for fault in (None, signal.SIGSTOP, signal.SIGCONT):
        if fault is not None:
            os.kill(fragile.redis.pid, fault)
            eventually(lambda: (fragile.services.cache.check() == "ok") is (fault == signal.SIGCONT))  # noqa: B023
        if fault != signal.SIGCONT:
            assert [fragile.guess().status for _ in range(2)] == [401, 401]
    five_then_none(fragile, already=4)


def test_failures_are_remembered_when_redis_is_another_one(fragile):
    for _ in range(3):
        assert fragile.guess().status == 401
    fragile.redis.stop()
    assert fragile.guess().status == 401
    fragile.redis.start()
    fragile.proxy.upstream = fragile.redis.url.removeprefix("unix://")
    eventually(lambda: fragile.services.cache.check() == "ok")
    five_then_none(fragile, already=4)


# ── where a request comes from ───────────────────────────────────────────────────────────────────────────────────────────


def test_who_is_no_trusted_proxy_has_one_address_whatever_it_says(make, service, clients):
    services, _ = service
    make.user(ANA)
    stranger = clients()
    for _ in range(18):
        services.failed_attempts.attempt({ADDRESS: "127.0.0.1"})
    for number, status in enumerate((401, 401, 429, 429)):
        body = {"email": f"user{number}@example.com", "password": WRONG}
        assert stranger.post("/login", body, headers={"X-Forwarded-For": f"203.0.113.{number}"}).status == status


@pytest.mark.parametrize(
    ("hops", "address"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["198.51.100.1", "203.0.113.9"], "203.0.113.9"),  # two fields are one list
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["2001:db8::1"], "2001:db8::1"),
        (["none of your business"], "127.0.0.1"),
        ([""], "127.0.0.1"),
    ],
)
def test_a_login_is_kept_with_the_address_it_came_from(make, street, ana, hops, address):
    body = json.dumps({"email": ANA, "password": PASSWORD}).encode()
    connection = http.client.HTTPConnection(*street.server.address, timeout=30)
    connection.putrequest("POST", "/login")
    for hop in hops:
        connection.putheader("X-Forwarded-For", hop)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    assert connection.getresponse().status == 200
    connection.close()
    (found,) = make.rows("SELECT host(address) FROM sessions WHERE user_id = %s ORDER BY id DESC LIMIT 1", ana.id)
    assert found == (address,)
