"""Whoever has a whole IPv6 network is not sixty strangers: an owner elsewhere gets in, and the neighbours in the network do, too."""

from __future__ import annotations

import pytest

from petstore.limits.policies import ADDRESSES, REGISTERS
from tests.factories import PASSWORD
from tests.routes.street import ANA, WRONG

pytestmark = pytest.mark.usefixtures("still_clock")

BOB = "bob@example.com"
# Sixty /64 of one /56, and sixty /56 of one /48.
OF_A_56 = [f"2001:db8:0:{number:x}::1" for number in range(60)]
OF_A_48 = [f"2001:db8:0:{number:x}00::1" for number in range(60)]


@pytest.fixture
def street(make, behind_proxy):
    behind_proxy.services.failed_attempts.clear()
    make.user(BOB)
    make.user(ANA)
    return behind_proxy


def attack(street, addresses, seconds, email=lambda number: ANA):
    """Guess for so long as early as one may, always from the next address; how many guesses were looked at."""
    looked_at, passed, number = 0, 0, 0
    while True:
        answer = street.guess(email(number), addresses[number % len(addresses)])
        number += 1
        if answer.status == 401:
            looked_at += 1
            assert looked_at <= 150
            continue
        assert answer.status == 429
        wait = int(answer["Retry-After"])
        if passed + wait > seconds:
            return looked_at
        street.pass_time(wait)
        passed += wait


@pytest.mark.parametrize("seconds", [0, 40])
@pytest.mark.parametrize(("addresses", "most"), [(OF_A_56, 14), (OF_A_48, 24)])
def test_nobody_with_one_network_keeps_an_owner_elsewhere_waiting(street, addresses, most, seconds):
    assert most <= attack(street, addresses, seconds) <= most + 6
    attack(street, ["192.0.2.66"], seconds)  # the same one has an IPv4 address as well
    owner = "203.0.113.9"  # where she has never been, and she mistypes twice
    assert [street.login(password=one, address=owner).status for one in (WRONG, WRONG, PASSWORD)] == [401, 401, 200]


@pytest.mark.parametrize(
    ("addresses", "neighbour"),
    [
        (["2001:db8:0:7::1"], "2001:db8:0:8::1"),  # of a phone, whose provider gives each a /64
        (OF_A_56, "2001:db8:0:100::1"),  # of a house, whose provider gives each a /56
        (OF_A_48, "2001:db8:1::1"),
    ],
)
def test_nobody_keeps_a_neighbour_waiting_who_has_not_been_there(street, addresses, neighbour):
    attack(street, addresses, 40)
    assert [street.login(password=one, address=neighbour).status for one in (WRONG, WRONG, PASSWORD)] == [401, 401, 200]


def test_who_has_been_there_gets_in_however_much_is_guessed_in_the_same_network(make, street):
    known = "2001:db8:0:2a::5"
    make.conn.execute("UPDATE sessions SET address = %s WHERE user_id = (SELECT id FROM users WHERE email = %s)", (known, ANA))
    attack(street, OF_A_56, 0)
    attack(street, OF_A_48, 0)
    attack(street, OF_A_56, 0, lambda number: f"user{number}@example.com")  # the network itself has to wait, too
    assert street.login(address="2001:db8:0:2b::5").status == 429
    assert street.login(address=known).status == 200


@pytest.mark.parametrize(
    ("addresses", "most", "elsewhere"), [(OF_A_56, 40, "2001:db8:0:100::1"), (OF_A_48, 100, "2001:db8:1::1")]
)
def test_a_network_gets_a_few_times_the_guesses_of_an_address_at_all_accounts(street, addresses, most, elsewhere):
    policy, network = (ADDRESSES[1], "2001:db8::/56") if addresses is OF_A_56 else (ADDRESSES[2], "2001:db8::/48")
    street.charge(policy, network, most - 10)
    assert attack(street, addresses, 0, lambda number: f"user{number}@example.com") == 10
    assert street.login(BOB, address=elsewhere).status == 200


def test_asking_which_emails_are_known_is_limited_for_a_network_as_well(street):
    for policy, network, address, neighbour in (
        (REGISTERS[1], "2001:db8::/56", "2001:db8:0:7::1", "2001:db8:0:100::1"),
        (REGISTERS[2], "2001:db8:7::/48", "2001:db8:7:200::1", "2001:db8:8::1"),
    ):
        street.charge(policy, network, policy.free - 1)
        assert street.register(ANA, address).status == 409
        answer = street.register("new@example.com", address)
        assert (answer.status, answer["Retry-After"]) == (429, "1")
        assert f'"{policy.name}";r=0;t=1' in answer["RateLimit"]
        assert street.register(ANA, neighbour).status == 409


def test_the_fields_name_the_networks_of_an_ipv6_address_and_not_those_of_others(street):
    answer = street.guess(address="2001:db8::1")
    assert answer["RateLimit-Policy"] == (
        '"account";q=44;w=2640, "account-here";q=5;w=1500, "account-56";q=14;w=1680, "account-48";q=24;w=2880, '
        '"address";q=20;w=1200, "address-56";q=40;w=1200, "address-48";q=100;w=1200'
    )
    assert street.guess(address="192.0.2.7")["RateLimit-Policy"] == (
        '"account";q=44;w=2640, "account-here";q=5;w=1500, "address";q=20;w=1200'
    )
