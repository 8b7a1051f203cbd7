import pytest

from petstore.limits.clients import client_address, client_networks
from petstore.settings import networks

PROXIES = networks("127.0.0.1, 10.0.0.0/8, 2001:db8:aaaa::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("2001:db8:aaaa::1", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.1.2.3", "203.0.113.9", "203.0.113.9"),
        # Strangers, whatever they say.
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("2001:db8:bbbb::1", "203.0.113.9", "2001:db8:bbbb::1"),
        ("::ffff:192.0.2.1", None, "192.0.2.1"),
        # The last hop that is no proxy of ours: what stands before it was sent by the client.
        ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1,203.0.113.9,10.0.0.1,10.9.9.9", "203.0.113.9"),
        ("127.0.0.1", "10.0.0.7, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "10.0.0.7, 10.0.0.8", "10.0.0.7"),
        # What is no address ends the chain: the hop that passed it on is the last that is known.
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9, ", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9, unknown, 10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "garbage, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.256", "127.0.0.1"),
        ("127.0.0.1", "1" * 5000, "127.0.0.1"),
        ("127.0.0.1", "٢٠٣.0.113.9", "127.0.0.1"),
        # One address in any spelling is one.
        ("127.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", " 2001:DB8:0:0::0001 ", "2001:db8::1"),
        ("127.0.0.1", "fe80::1%eth0", "fe80::1"),
        ("127.0.0.1", "::1", "::1"),
        # A server behind a unix socket knows no peer: nobody is trusted.
        ("", "203.0.113.9", ""),
        ("localhost", "203.0.113.9", ""),
        # A port is no part of it.
        ("127.0.0.1", "1.2.3.4:5678", "1.2.3.4"),
        ("127.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("127.0.0.1", "1.2.3.4:", "127.0.0.1"),
        ("127.0.0.1", "[]:1", "127.0.0.1"),
        ("127.0.0.1", "[", "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_proxy_of_ours(peer, forwarded, address):
    environ = {"REMOTE_ADDR": peer} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    assert client_address(environ, PROXIES) == address


def test_who_is_no_proxy_and_says_whom_it_speaks_for_is_named_in_the_log_once(caplog):
    for _ in range(3):
        client_address({"REMOTE_ADDR": "198.51.100.9", "HTTP_X_FORWARDED_FOR": "1.2.3.4"}, PROXIES)
    assert [record.message for record in caplog.records if "PETSTORE_TRUSTED_PROXIES" in record.message] == [
        "198.51.100.9 sends X-Forwarded-For and is not in PETSTORE_TRUSTED_PROXIES: all its requests count as one client's"
    ]


def test_an_ipv6_client_is_its_64_and_the_networks_around_it_and_an_ipv4_client_its_address():
    assert client_networks("2001:db8:1:2:3:4:5:6") == ("2001:db8:1:2::/64", "2001:db8:1::/56", "2001:db8:1::/48")
    assert client_networks("2001:db8::1") == client_networks("2001:db8::ffff:1")
    assert client_networks("2001:db8::1")[1:] == client_networks("2001:db8:0:ff::1")[1:]
    assert client_networks("2001:db8::1")[2:] == client_networks("2001:db8:0:ffff::1")[2:]
    assert client_networks("2001:db8::1")[1] != client_networks("2001:db8:0:100::1")[1]
    assert client_networks("2001:db8::1")[2] != client_networks("2001:db8:1::1")[2]
    assert client_networks("192.0.2.7") == ("192.0.2.7",)
    assert client_networks("") == ("",)
