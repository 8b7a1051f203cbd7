"""The second server answers as the first one: run with `scripts/test --server granian`."""

from __future__ import annotations

import socket

import pytest

from petstore.plugins import MAX_BODY
from tests import chosen
from tests.client import Client
from tests.factories import PASSWORD
from tests.test_front import FRAMING, HOST, SMUGGLED, talk
from tests.test_load import served

pytestmark = pytest.mark.skipif(chosen.name == "waitress", reason="scripts/test --server granian compares them")

CASES = {
    "a probe": b"GET /livez",
    "a head": b"HEAD /products",
    "a list": b"GET /products?limit=2",
    "a product": b"GET /products?id=1",
    "not modified": b"GET /products?id=1|If-None-Match: *",
    "a page": b"GET /",
    "a script": b"GET /assets/swagger-ui.css",
    "a preflight": b"OPTIONS /products|Origin: https://shop.example.com|Access-Control-Request-Method: GET",
    "another origin": b"GET /livez|Origin: https://shop.example.com",
    "no such path": b"GET /nothing",
    "no such method": b"PUT /login",
    "two slashes": b"GET //livez",
    "an encoded slash": b"GET /invoices/1%2F2",
    "no UTF-8": b"GET /%FF",
    "no path": b"GET livez",
    "a bad query": b"GET /products?limit=0&limit=1",
    "no token": b"GET /me",
    "a token of others": b"GET /me|Authorization: Bearer x",
    "two hosts": b"GET /livez|Host: b",
    "a host that is none": b"GET /livez|Host: a b",
    "no content": b'POST /logout|Content-Type: application/json~{"refresh_token":"x"}',
    "another type": b"POST /logout|Content-Type: text/plain~x",
    "a wrong token": b'POST /refresh|Content-Type: application/json~{"refresh_token":"x"}',
    "broken JSON": b"POST /login|Content-Type: application/json~{",
    "too large": b"POST /login|Content-Type: application/json~" + b"x" * (MAX_BODY + 1),
    "an id of its own": b"GET /livez|X-Request-ID: a b",
    "an underscore": b"GET /me|Authorization_: x|Authorization: Basic x",
}


def answer(address, case):
    """Status, headers without what differs each time, and body."""
    head, _, body = CASES[case].partition(b"~")
    line, *headers = head.split(b"|")
    length = [b"Content-Length: %d" % len(body)] if body else []
    known = [] if case == "an id of its own" else [b"X-Request-ID: known"]
    request = b"\r\n".join([line + b" HTTP/1.1", b"Host: a", *headers, *known, *length, b"Connection: close", b"", body])
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    assert "date" in dict(fields)
    changing = {"date", "etag"} if case == "a page" else {"date"}
    if case == "an id of its own":
        changing.add("x-request-id")
    return first.split()[1], sorted(field for field in fields if field[0] not in changing and field != ("server", "")), body


@pytest.fixture
def both(make, with_settings):
    """The addresses of either server, on the same shop."""
    for _ in range(3):
        make.product()
    make.user("ana@example.com")
    options = {"cors_origins": ("https://shop.example.com",)}
    with with_settings(**options) as (_, one), with_settings(**options, server="waitress") as (_, other):
        yield one.address, other.address


def test_every_answer_has_the_same_status_headers_and_bytes(both):
    for case in CASES:
        for address in (*both, *both):
            answer(address, case)  # so that the cache is in the same state for each
        ours, theirs = (answer(address, case) for address in both)
        assert ours == theirs, case


def test_a_header_that_is_not_ascii_is_refused_and_not_overlooked(buyer):
    assert buyer.get("/me", headers={"Authorization": b"Bearer \xc3\xbc"}).status == 401
    key = {"Idempotency-Key": b"\xc3\xbc"}
    assert buyer.post("/purchase_product", {"products": [{"product_id": 1, "quantity": 1}]}, headers=key).status == 400


def test_the_command_serves_with_it_and_ends_well(make, settings, tmp_path):
    with served(settings, tmp_path) as address, Client(address) as client:
        assert client.get("/readyz").status == 200
        assert client.post("/register", {"email": "ana@example.com", "password": PASSWORD}).status == 201
    assert "Traceback" not in (tmp_path / "petstore.log").read_text()
    assert "stopped" in (tmp_path / "petstore.log").read_text()


LENIENT = {
    "two readings of the length": "chunked counts (RFC 9112, 6.3)",
    "the other way round": "chunked counts",
    "one length twice": "it is one length",
    "a chunk size with a space": "the space is skipped",
    "a bad chunk extension": "it is skipped",
    "a chunk of 16 exabytes": "it is never whole",
}


@pytest.mark.parametrize("case", FRAMING.keys() - LENIENT.keys())
def test_a_request_whose_end_is_unclear_gets_one_refusal_here_too(service, case):
    headers, body, _ = FRAMING[case]
    head = b"POST /livez HTTP/1.1\r\n" + headers + b"\r\n" + HOST + b"\r\n"
    for parts in ((head + body + SMUGGLED,), (head, body + SMUGGLED)):
        ((status, headers_of_it, _),) = talk(service[1].address, *parts)
        assert status in (400, 405, 501)
        assert headers_of_it["connection"] == "close"
