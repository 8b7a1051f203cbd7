import pytest

from petstore.addresses import client_address, household, networks

PROXIES = networks("127.0.0.1, 10.0.0.0/8, 2001:db8:ffff::/48")


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),  # the first is what the client itself has said
        ("1.2.3.4, 10.1.2.3", "1.2.3.4"),
        (" 1.2.3.4 ,10.1.2.3 , 127.0.0.1", "1.2.3.4"),
        ("10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("1.2.3.4, 2001:db8:ffff::7", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("fe80::1%eth0", "fe80::1"),
        ("1.2.3.4, unknown", "127.0.0.1"),
        ("1.2.3.4, unknown, 10.1.2.3", "10.1.2.3"),
        ("", "127.0.0.1"),
        (",", "127.0.0.1"),
        ("[]:1", "127.0.0.1"),
        ("[", "127.0.0.1"),
        ("1.2.3.4:", "127.0.0.1"),
        ("1.2.3", "127.0.0.1"),
        ("٤.2.3.4", "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_proxy_of_ours(forwarded, client):
    assert client_address({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": forwarded}, PROXIES) == client
    assert client_address({"REMOTE_ADDR": "::ffff:127.0.0.1", "HTTP_X_FORWARDED_FOR": forwarded}, PROXIES) == client
    assert client_address({"REMOTE_ADDR": "192.0.2.7", "HTTP_X_FORWARDED_FOR": forwarded}, PROXIES) == "192.0.2.7"
    assert client_address({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": forwarded}, ()) == "127.0.0.1"


def test_who_is_no_proxy_and_says_whom_it_speaks_for_is_named_in_the_log_once(caplog):
    for _ in range(3):
        client_address({"REMOTE_ADDR": "198.51.100.9", "HTTP_X_FORWARDED_FOR": "1.2.3.4"}, PROXIES)
    assert [record.message for record in caplog.records if "PETSTORE_TRUSTED_PROXIES" in record.message] == [
        "198.51.100.9 sends X-Forwarded-For and is not in PETSTORE_TRUSTED_PROXIES: it counts as one client"
    ]


def test_an_ipv6_subscriber_counts_as_one_client():
    assert household("2001:db8::1") == household("2001:db8::ffff:1") != household("2001:db8:0:1::1")
    assert household("192.0.2.7") == "192.0.2.7"
    assert household("") == ""
