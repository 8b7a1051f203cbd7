"""The service's edge: what is HTTP and what is not, how much of it, how slow, and how the service stops."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from petstore.app import create_app, create_router
from petstore.server.waitress import Server
from petstore.server.waitress_channel import Channel
from petstore.settings import Settings
from petstore.web.plugin import MAX_BODY
from tests.client import Client

HOST = b"Host: shop\r\n"
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: shop\r\nX-Request-ID: smuggled\r\n\r\n"


PATIENCE = 20  # seconds

# ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_all(connection):
    """Everything until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            received += part
    return received


def answers(received):
    """The (status, headers, body) of each answer in a stream; they must be whole, to the last byte."""
    found = []
    at = 0
    while at < len(received):
        end = received.index(b"\r\n\r\n", at)
        lines = received[at:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        at = end + 4 + int(headers.get("content-length", 0))
        found.append((int(lines[0].split()[1]), headers, received[end + 4 : at]))
    assert at == len(received), "the last answer is cut short"
    return found


def talk(address, *parts, pause=0.05):
    """Send the parts on one connection; the answers until the server closes, which it must do by itself."""
    with socket.create_connection(address, timeout=15) as connection:
        for part in parts:
            with contextlib.suppress(ConnectionError):
                connection.sendall(part)
            time.sleep(pause if len(parts) > 1 else 0)
        return answers(read_all(connection))


def refused(address, *parts):
    """Send something that must get one error answer and a closed connection; its status."""
    found = talk(address, *parts)
    assert len(found) == 1, found
    status, headers, body = found[0]
    problem = json.loads(body)
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/problem+json"
    assert headers["cache-control"] == "no-store"
    assert not headers.get("server")
    assert headers["x-request-id"] == problem["request_id"] != "smuggled"
    assert problem["status"] == status
    assert problem["type"].startswith("/problems/")
    return status


def status_of(address, head):
    """The status of one request on a connection of its own."""
    return talk(address, head + b"Connection: close\r\n\r\n")[0][0]


@contextlib.contextmanager
def serving(app, **settings):
    """A server with an application of the test's own."""
    server = Server(app, Settings(**{"listen": ("127.0.0.1", 0), "read_seconds": 2, **settings}))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(15)
        assert not thread.is_alive()


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def slow(environ, start_response):
    """Answers with what it was sent, and the path, after 0.3 s."""
    time.sleep(0.3)
    body = environ["PATH_INFO"].encode() + environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def get(path=b"/livez", more=b""):
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + more + b"\r\n"


@pytest.fixture
def address(service):
    return service[1].address


@pytest.fixture
def complaints(caplog):
    """What has been logged as wrong so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ── how much ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def body_of(size):
    return b'{"email":"ana@example.com","password":"' + b"x" * (size - 41) + b'"}'


def chunked(body, size=50_000):
    return (body[at : at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY, 422), (MAX_BODY + 1, 413), (2 * MAX_BODY - 1, 413)])
def test_a_body_of_256_kib_is_read_and_one_byte_more_is_not(anyone, size, status):
    assert len(body_of(size)) == size
    assert anyone.post("/register", raw=body_of(size)).status == status
    assert anyone.post("/register", raw=chunked(body_of(size))).status == status
    assert anyone.get("/livez").status == 200


@pytest.mark.parametrize("size", [2 * MAX_BODY, 10_000_000, 10**18])
def test_a_far_larger_body_is_refused_before_it_is_sent(address, size):
    assert refused(address, b"POST /register HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n{" % size) == 413


def test_a_client_that_sends_ten_megabytes_all_the_same_gets_to_read_why_not(anyone, address):
    assert anyone.post("/register", raw=b"x" * 10_000_000).status == 413
    with Client(address) as client:
        assert client.post("/register", raw=chunked(b"x" * 10_000_000)).status == 413


def test_headers_over_16_kib_are_refused(address):
    assert status_of(address, b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 16_000 + b"\r\n") == 200
    assert refused(address, b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 32_768 + b"\r\n\r\n") == 431
    assert refused(address, b"GET /livez HTTP/1.1\r\n" + HOST + b"X: x\r\n" * 100_000) == 431
    assert refused(address, b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n") == 431


def test_a_client_that_waits_for_100_continue_is_told_to_go_on_or_why_not(address):
    head = b"POST /login HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: "
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(head + b"2\r\nConnection: close\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert answers(read_all(connection))[0][0] == 422
    assert refused(address, head + b"999999999\r\n\r\n") == 413


def test_a_client_that_waits_for_100_continue_is_told_what_cannot_be_read(address):
    head = b"POST /login HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: "
    assert refused(address, head + b"+5\r\n\r\n") == 400


def test_a_request_without_a_body_that_expects_100_continue_is_answered_and_its_headers_are_forgotten(address):
    expecting = get(more=b"Expect: 100-continue\r\nX-Request-ID: first\r\n")
    found = talk(address, expecting, get(more=b"X-Request-ID: second\r\nConnection: close\r\n"))
    assert [headers["x-request-id"] for _, headers, _ in found] == ["first", "second"]


# ── where a request ends ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("extra", [b"", b"Content-Length: 5\r\n"])
def test_http_1_0_with_chunked_is_refused_and_its_body_never_becomes_a_request(address, extra):
    head = b"POST /livez HTTP/1.0\r\nHost: shop\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n" + extra + b"\r\n"
    assert refused(address, head + SMUGGLED) == 400
    assert refused(address, head, SMUGGLED) == 400


FRAMING = {
    "two readings of the length": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", 400),
    "the other way round": (b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n", 400),
    "two lengths": (b"Content-Length: 0\r\nContent-Length: 90", b"", 400),
    "one length twice": (b"Content-Length: 0\r\nContent-Length: 0", b"", 400),
    "a list of lengths": (b"Content-Length: 0, 0", b"", 400),
    "a negative length": (b"Content-Length: -1", b"", 400),
    "a signed length": (b"Content-Length: +5", b"", 400),
    "a hexadecimal length": (b"Content-Length: 0x5", b"", 400),
    "an underscored length": (b"Content-Length: 1_0", b"", 400),
    "an Arabic length": ("Content-Length: ٥".encode(), b"", 400),
    "an empty length": (b"Content-Length:", b"", 400),
    "a length of 5,000 digits": (b"Content-Length: " + b"9" * 5000, b"", 400),
    "gzip": (b"Transfer-Encoding: gzip", b"", 501),
    "gzip, then chunked": (b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n", 501),
    "chunked, then gzip": (b"Transfer-Encoding: chunked, gzip", b"0\r\n\r\n", 501),
    "something like chunked": (b"Transfer-Encoding: xchunked", b"0\r\n\r\n", 501),
    "chunked behind a control": (b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n", 400),
    "identity": (b"Transfer-Encoding: identity", b"", 501),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n", 400),
    "chunked in two headers": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", 400),
    "no coding at all": (b"Transfer-Encoding:\r\nContent-Length: 0", b"", 400),
    "only a comma": (b"Transfer-Encoding: ,", b"", 400),
    "a folded header": (b"X: a\r\n b", b"", 400),
    "a folded coding": (b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n", 400),
    "a first line that is folded": (b" X: a", b"", 400),
    "a bare LF": (b"X: a\nContent-Length: 90", b"", 400),
    "a bare CR": (b"X: a\rContent-Length: 90", b"", 400),
    "a NUL": (b"X: a\x00b", b"", 400),
    "a space before the colon": (b"Content-Length : 90", b"", 400),
    "a tab before the colon": (b"Transfer-Encoding\t: chunked", b"", 400),
    "a header without a name": (b": 5", b"", 400),
    "a header without a colon": (b"Content-Length 5", b"", 400),
    "a chunk size that is no number": (b"Transfer-Encoding: chunked", b"x\r\n\r\n", 400),
    "a negative chunk size": (b"Transfer-Encoding: chunked", b"-1\r\n\r\n", 400),
    "a signed chunk size": (b"Transfer-Encoding: chunked", b"+0\r\n\r\n", 400),
    "a chunk size with 0x": (b"Transfer-Encoding: chunked", b"0x0\r\n\r\n", 400),
    "a chunk size with a space": (b"Transfer-Encoding: chunked", b"0 \r\n\r\n", 400),
    "a chunk size that ends in LF": (b"Transfer-Encoding: chunked", b"5\n\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk extension that ends in LF": (b"Transfer-Encoding: chunked", b"5;a\n\r\nhello\r\n0\r\n\r\n", 400),
    "a bad chunk extension": (b"Transfer-Encoding: chunked", b"5;\x00\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk longer than its size": (b"Transfer-Encoding: chunked", b"2\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk that ends in LF": (b"Transfer-Encoding: chunked", b"5\r\nhello\n0\r\n\r\n", 400),
    "a chunk of 16 exabytes": (b"Transfer-Encoding: chunked", b"f" * 16 + b"\r\n" + b"x" * 2 * MAX_BODY, 413),
}


@pytest.mark.parametrize("case", FRAMING)
def test_a_request_whose_end_is_unclear_gets_one_refusal_and_takes_no_other_with_it(address, complaints, case):
    headers, body, status = FRAMING[case]
    head = b"POST /livez HTTP/1.1\r\n" + headers + b"\r\n" + HOST + b"\r\n"
    assert refused(address, head + body + SMUGGLED) == status
    assert refused(address, head, body + SMUGGLED) == status
    assert complaints() == []


@pytest.mark.parametrize(
    "line",
    [
        b"GET /livez", b"GET /livez HTTP/0.9", b"GET /livez HTTP/1.2", b"GET /livez HTTP/2.0", b"GET /livez HTTP/11",
        b"GET /livez http/1.1", b"get /livez HTTP/1.1", b"GET  /livez HTTP/1.1", b"GET /li vez HTTP/1.1", b"GET",
        b"GET /livez HTTP/1.1\n", b"GET /liv\tez HTTP/1.1", b"GET /livez\x00 HTTP/1.1", b"GET /\xc3\xbc HTTP/1.1",
        b"GET //\xff HTTP/1.1", b"GET http://[shop/livez HTTP/1.1", b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)  # fmt: skip
def test_a_request_line_that_is_none_is_refused(address, complaints, line):
    assert refused(address, line + b"\r\n" + HOST + b"\r\n" + SMUGGLED) == 400
    assert complaints() == []


def test_blank_lines_before_a_request_and_half_closed_connections_are_fine(address):
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(b"\r\n\r\n\r\n" + get())
        connection.shutdown(socket.SHUT_WR)
        assert [status for status, _, _ in answers(read_all(connection))] == [200]


def test_pipelined_requests_are_answered_in_their_order(address):
    wanted = [f"number-{number}" for number in range(20)]
    stream = b"".join(get(more=f"X-Request-ID: {name}\r\n".encode()) for name in wanted)
    found = talk(address, stream + get(more=b"Connection: close\r\n"))
    assert [headers["x-request-id"] for _, headers, _ in found[:20]] == wanted
    assert [status for status, _, _ in found] == [200] * 21


# ── to whom and for what ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "headers",
    [
        b"", b"Host:\r\n", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nHost: b\r\n", b"Host: a, b\r\n", b"Host: a b\r\n", b"Host: a/b\r\n",
        b"Host: a@b\r\n", b"Host: a:\r\n", b"Host: a:http\r\n", b"Host: a:123456\r\n", b"Host: <script>\r\n", b"Host: [::1\r\n",
        b"Host: \xff\r\n",
    ],
)  # fmt: skip
def test_what_is_not_one_host_is_refused(address, headers):
    ((status, received, body),) = talk(address, b"GET /livez HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n")
    assert status == json.loads(body)["status"] == 400
    assert received["content-type"] == "application/problem+json"
    assert received["x-request-id"] == json.loads(body)["request_id"]


@pytest.mark.parametrize("host", [b"shop", b"shop:8080", b"127.0.0.1", b"[::1]:8080", b"my_shop.example.com"])
def test_a_name_or_an_address_is_a_host(address, host):
    assert status_of(address, b"GET /livez HTTP/1.1\r\nHost: " + host + b"\r\n") == 200


def test_http_1_0_needs_no_host_and_may_keep_its_connection(address):
    assert talk(address, b"GET /livez HTTP/1.0\r\n\r\n")[0][0] == 200
    kept = b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert [status for status, _, _ in talk(address, kept + kept + b"GET /livez HTTP/1.0\r\n\r\n")] == [200, 200, 200]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/%6civez", 200), ("http://shop/livez", 200), ("http://elsewhere:81/livez?", 200), ("/livez#x", 200),
        ("//livez", 404), ("///livez", 404), ("/%2Flivez", 404), ("/livez/", 404), ("/livez%00", 404), ("/livez%0A", 404),
        ("/livez%20", 404), ("/LIVEZ", 404), ("/./livez", 404), ("/x/../livez", 404), ("/livez;x", 404), ("*", 404), ("livez", 404),
        ("http://shop//livez", 404), ("/%25", 404), ("/%zz", 404), ("/%C3%BC", 404), ("/" + "x" * 15_000, 404),
        ("/invoices/1%2F2", 404), ("/invoices/", 404), ("/livez%FF", 400), ("/%C3", 400), ("/%ED%A0%80", 400), ("/invoices/%FF", 400),
    ],
)  # fmt: skip
def test_a_path_means_one_thing_only(address, target, status):
    ((found, headers, body),) = talk(address, b"GET " + target.encode() + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    assert found == status, body
    assert headers["content-type"] == ("application/json" if status == 200 else "application/problem+json")
    assert json.loads(body)["status"] == ("ok" if status == 200 else status)


@pytest.mark.parametrize(
    "path", ["/invoices/%00", "/invoices/x%0A", "/invoices/" + "9" * 5000, "/invoices/%D9%A4", "/invoices/-1"]
)
def test_a_path_with_an_odd_id_is_refused(buyer, path):
    assert buyer.get(path).status == 400


@pytest.mark.parametrize(
    "request_line", ["OPTIONS * HTTP/1.1", "CONNECT shop:443 HTTP/1.1", "TRACE /livez HTTP/1.1", "BREW /livez HTTP/1.1"]
)
def test_an_odd_method_is_refused(address, request_line):
    assert status_of(address, request_line.encode() + b"\r\n" + HOST) in (404, 405)


def routes(services):
    """Every path of the service, with its methods and the value 1 for each wildcard."""
    found: dict[str, set[str]] = {}
    for route in create_router(services).routes:
        found.setdefault(re.sub("<[^>]+>", "1", route.rule), set()).add(route.method)
    assert "/livez" in found
    return found


def test_every_path_refuses_other_methods_and_says_which_it_takes(anyone, service):
    for path, methods in routes(service[0]).items():
        allowed = sorted(methods | {"HEAD"} if "GET" in methods else methods)
        for method in ("OPTIONS", "TRACE", "PUT", "BREW"):
            answer = anyone.request(method, path)
            assert (answer.status, answer["Allow"]) == (405, ", ".join(allowed)), (method, path)


def test_an_unknown_path_is_not_found(anyone):
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        assert anyone.request(method, "/nothing/here").status == 404


def test_head_is_get_without_the_body(admin, make, service, address):
    make.product()
    for path in [path for path, methods in routes(service[0]).items() if "GET" in methods] + ["/nothing", "/products?limit=x"]:
        admin.get(path)  # so that the cache is in the same state for both
        got, head = admin.get(path), admin.request("HEAD", path)
        one, other = (
            {k: v for k, v in answer.headers.items() if k.lower() not in ("date", "x-request-id")} for answer in (got, head)
        )
        assert (head.status, other) == (got.status, one), path
        assert int(head["Content-Length"]) == len(got.body), path
        assert head.body == b""


@pytest.mark.parametrize(
    "fault", [b"Host: a b\r\n", HOST + b"Content-Length: 999999999\r\n", HOST + b"Transfer-Encoding: gzip\r\n"]
)
def test_a_refused_head_has_no_body_either(address, fault):
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(b"HEAD /livez HTTP/1.1\r\nConnection: close\r\n" + fault + b"\r\n")
        received = read_all(connection)
    assert received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 501"))
    assert received.endswith(b"\r\n\r\n")
    assert received.count(b"\r\n\r\n") == 1


def test_checks_come_in_the_order_of_the_contract(anyone, buyer, admin):
    large, text, broken = b"x" * (MAX_BODY + 1), {"Content-Type": "text/plain"}, b"{"
    assert anyone.post("/nothing", raw=large, headers=text).status == 404
    assert anyone.request("PUT", "/create_product", raw=large, headers=text).status == 405
    assert anyone.post("/create_product", raw=large, headers=text).status == 413
    assert anyone.post("/create_product", raw=broken, headers=text).status == 415
    assert anyone.post("/create_product", raw=broken).status == 401
    assert buyer.post("/create_product", raw=broken).status == 403
    assert buyer.post("/create_product?x=1", {}).status == 403
    assert admin.post("/create_product", raw=broken).status == 400
    assert admin.post("/create_product?x=1", {}).status == 400
    assert admin.post("/create_product", {}).status == 422


# ── its id, and its line in the log ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wanted", ["a", "Ab-1_2.3", "x" * 64])
def test_a_request_keeps_the_id_it_came_with(anyone, wanted):
    for path in ("/livez", "/nothing", "/products?x=1", "/%FF"):
        assert anyone.get(path, headers={"X-Request-ID": wanted})["X-Request-ID"] == wanted


@pytest.mark.parametrize("wanted", ["a", "Ab-1_2.3", "x" * 64])
def test_a_request_that_cannot_be_read_keeps_the_id_it_came_with(address, wanted):
    refusal = b"POST / HTTP/1.1\r\nX-Request-ID: " + wanted.encode() + b"\r\nTransfer-Encoding: gzip\r\n\r\n"
    assert talk(address, refusal)[0][1]["x-request-id"] == wanted


@pytest.mark.parametrize("wanted", ["", "x" * 65, "a b", "a,b", "ü", "a/b", "<script>", "%0d%0aX: y", "a;b", "'--"])
def test_an_id_that_is_not_fit_for_a_log_is_replaced(anyone, wanted):
    got = [anyone.get("/livez", headers={"X-Request-ID": wanted.encode("latin-1")})["X-Request-ID"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in got)
    assert got[0] != got[1]


def test_two_ids_are_none(address):
    ((_, headers, _),) = talk(address, get(more=b"X-Request-ID: a\r\nX-Request-ID: b\r\nConnection: close\r\n"))
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])


def test_an_application_that_fails_still_answers_in_the_form_of_all_errors(caplog):
    def broken(environ, start_response):
        raise RuntimeError("secret")

    with serving(broken) as server:
        assert refused(server.address, get(more=b"Connection: close\r\n")) == 500
    assert "secret" in caplog.text


def test_every_request_has_one_line_in_the_log_without_its_query_and_its_control_characters(address, caplog):
    caplog.set_level(logging.INFO, "petstore.access")
    talk(address, get(b"/a%0Ab%1B%C3%BC?secret=1", b"X-Request-ID: one\r\nConnection: close\r\n"))
    talk(address, b"POST /b HTTP/1.1\r\nX-Request-ID: two\r\nContent-Length: 99999999\r\n\r\n")
    talk(address, b"rubbish\r\n\r\n")
    lines = [re.sub(r"[0-9.]+ms", "N ms", record.getMessage()) for record in caplog.records if record.name == "petstore.access"]
    assert lines[:2] == [r"GET /a\nb\x1b\xc3\xbc 404 N ms one", "POST /b 413 N ms two"]
    assert lines[2].startswith("- - 400 N ms ")
    assert len(lines) == 3


# ── slow, silent and rude clients ────────────────────────────────────────────────────────────────────────────────────────


class Trickle:
    """Many connections that send a byte now and then, in the background; a closed one is opened again."""

    STARTS = (
        b"GET /livez HTTP/1.1\r\nHost: shop\r\nX: ",
        b"POST /login HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5a\r\n",
        b"\r\n",
    )

    def __init__(self, address, count, pause):
        self._address, self._pause, self._done = address, pause, threading.Event()
        self.connections = [self._open(number) for number in range(count)]
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object):
        self._done.set()
        self._thread.join()
        for connection in self.connections:
            connection.close()

    def _open(self, number):
        connection = socket.create_connection(self._address, timeout=10)
        connection.sendall(self.STARTS[number % len(self.STARTS)])
        return connection

    def _run(self):
        while not self._done.wait(self._pause):
            for number, connection in enumerate(self.connections):
                try:
                    connection.sendall(b"\r\n" if number % len(self.STARTS) == 3 else b"x")
                except ConnectionError:
                    connection.close()
                    self.connections[number] = self._open(number)


def median_of_50(client, path):
    times = []
    for _ in range(50):
        started = time.perf_counter()
        assert client.get(path).status == 200
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@pytest.mark.slow
def test_three_hundred_trickling_clients_take_nothing_from_the_others(anyone, address, make):
    make.product()
    quiet = {path: median_of_50(anyone, path) for path in ("/livez", "/products")}
    with Trickle(address, 300, pause=0.5):
        for _ in range(8):
            for path in quiet:
                assert median_of_50(anyone, path) < max(5 * quiet[path], 0.05)
            time.sleep(0.5)
        with Client(address) as another:
            assert another.get("/livez").status == 200


TRICKLES = {
    "nothing": (b"", b""),
    "headers": (Trickle.STARTS[0], b"x"),
    "a body": (Trickle.STARTS[1], b"x"),
    "a chunk": (Trickle.STARTS[2], b"x"),
    "blank lines": (b"\r\n", b"\r\n"),
    "blank lines after a request": (get() + b"\r\n", b"\r\n"),
    "a second request": (get() + b"GET /", b"x"),
}


def seconds_until_closed(connection, more, at_most):
    """Read, and send a little now and then, until the server closes."""
    started = time.monotonic()
    connection.settimeout(0.4)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - started < at_most:
            try:
                if not connection.recv(10_000):
                    break
            except TimeoutError:
                connection.sendall(more)
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("case", TRICKLES)
def test_who_does_not_send_a_whole_request_in_time_is_hung_up_on(address, case):
    start, more = TRICKLES[case]
    with socket.create_connection(address) as connection:
        connection.sendall(start)
        assert 1.9 < seconds_until_closed(connection, more, at_most=8) < 5


@pytest.mark.slow
def test_who_is_idle_after_an_answer_may_ask_again_and_has_the_whole_time_for_it(address):
    with socket.create_connection(address) as connection:
        connection.sendall(get())
        assert seconds_until_closed(connection, b"", at_most=4) > 4
        for part in (b"GET /livez HTTP/1.1\r\n", HOST, b"Connection: close\r\n\r\n"):
            connection.sendall(part)
            time.sleep(0.7)
        connection.settimeout(10)
        assert [status for status, _, _ in answers(read_all(connection))] == [200]


@pytest.mark.slow
def test_clients_that_ask_and_never_read_hold_no_thread_and_are_hung_up_on(complaints):
    large = b"x" * 200_000

    def app(environ, start_response):
        body = large if environ["PATH_INFO"] == "/large" else b"small"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with serving(app, threads=2) as server, contextlib.ExitStack() as stack:
        readers = [stack.enter_context(socket.create_connection(server.address, timeout=10)) for _ in range(8)]
        for reader in readers:
            reader.sendall(get(b"/large") * 190)
        time.sleep(0.5)
        started = time.monotonic()
        for _ in range(20):
            assert talk(server.address, get(b"/small", b"Connection: close\r\n"))[0][2] == b"small"
        assert time.monotonic() - started < 1
        time.sleep(5)
        for reader in readers:
            with pytest.raises(ConnectionError):  # the first byte brings the news, the second meets it
                [(reader.sendall(b"x"), time.sleep(0.05)) for _ in range(2)]
    assert complaints() == []


def test_a_client_that_asks_much_at_once_and_reads_late_gets_it_all():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "100000")])
        return [b"x" * 100_000]

    with serving(app) as server, socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(get() * 150 + get(more=b"Connection: close\r\n"))
        time.sleep(1)
        assert [len(body) for _, _, body in answers(read_all(connection))] == [100_000] * 151


def reset(connection):
    """Go away without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_a_client_that_goes_away_leaves_no_error(complaints, leave):
    def app(environ, start_response):
        time.sleep(0.05)
        start_response("200 OK", [("Content-Length", "1000000")])
        return (b"x" * 100_000 for _ in range(10))

    with serving(app) as server:
        for start in (
            b"",
            b"GET",
            get()[:-2],
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
            get(),
            get() * 5,
            b"\x00\r\n\r\n",
        ):
            for pause in (0, 0.02, 0.1):
                connection = socket.create_connection(server.address, timeout=10)
                connection.sendall(start)
                time.sleep(pause)
                leave(connection)
        assert talk(server.address, get(more=b"Connection: close\r\n"))[0][0] == 200
    assert complaints() == []


@pytest.mark.slow
@pytest.mark.parametrize("start", [b"", b"GET", get()])
def test_when_every_connection_is_taken_the_idle_ones_make_room(start):
    with serving(hello, connections=16) as server, contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(server.address, timeout=10)).sendall(start)
        started = time.monotonic()
        assert talk(server.address, get(more=b"Connection: close\r\n"))[0][2] == b"hello"
        assert time.monotonic() - started < 10  # three times the 2 s, in turn


LIMITED = """
import logging, resource, signal, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))
from petstore.server.setup import setup
from petstore.server.waitress import Server
from petstore.settings import Settings
from tests.server.test_http_edge import hello
setup()
logging.basicConfig()
server = Server(hello, Settings(listen=("127.0.0.1", 0), read_seconds=1, connections=1000))
signal.signal(signal.SIGTERM, lambda *_: server.stop())
print(server.address[1], flush=True)
server.run()
"""


@contextlib.contextmanager
def process(code):
    """A Python process that begins by printing its port; it must end well on SIGTERM. Yields the port and a list for its last words."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield int(child.stdout.readline()), said
        finally:
            child.terminate()
            said.append(child.communicate(timeout=15)[1])
    assert child.returncode == 0, said


@pytest.mark.slow
def test_the_limit_of_open_files_is_respected():
    with process(LIMITED) as (port, said), contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        assert talk(("127.0.0.1", port), get(more=b"Connection: close\r\n"))[0][2] == b"hello"
    assert "the limit of 150 open files leaves room for 78 connections, not 1000" in said[0]
    assert "Too many open files" not in said[0]
    assert "Traceback" not in said[0]


# ── the stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stop_answers_all_that_was_sent_before_it_and_closes_each_connection():
    with serving(slow, threads=2) as server, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(server.address, timeout=10)) for _ in range(12)]
        for number, connection in enumerate(connections):
            connection.sendall(get(f"/{number}".encode()))
        server.stop()
        found = [answers(read_all(connection)) for connection in connections]
    assert [[body for _, _, body in each] for each in found] == [[f"/{number}".encode()] for number in range(12)]
    assert all(headers["connection"] == "close" for each in found for _, headers, _ in each)


def test_a_stop_takes_in_whoever_has_connected_already():
    server = Server(slow, Settings(listen=("127.0.0.1", 0), threads=4))
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(server.address, timeout=10)) for _ in range(8)]
        for connection in connections:
            connection.sendall(get())
        server.stop()
        server.run()
        assert [len(answers(read_all(connection))) for connection in connections] == [1] * 8


@pytest.mark.parametrize("pause", [0, 0.1])
def test_a_stop_answers_pipelined_requests_too(pause):
    with serving(slow, threads=2) as server, socket.create_connection(server.address, timeout=10) as connection:
        for path in (b"/1", b"/2", b"/3"):
            connection.sendall(get(path))
            time.sleep(pause)
        server.stop()
        found = answers(read_all(connection))
    assert [body for _, _, body in found] == [b"/1", b"/2", b"/3"]
    assert ["connection" in headers for _, headers, _ in found] == [False, False, True]


def test_a_stop_waits_for_a_large_body_and_a_large_answer_that_are_on_their_way():
    body = b"x" * (2 * MAX_BODY - 100)
    with serving(slow) as server, socket.create_connection(server.address, timeout=10) as connection:
        head = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n" % len(body)
        threading.Timer(0.05, server.stop).start()
        connection.sendall(head + body[:1000])
        time.sleep(0.3)
        connection.sendall(body[1000:])
        time.sleep(1)
        assert answers(read_all(connection))[0][2] == b"/" + body


def test_a_stopping_service_takes_no_new_connections():
    asked, leave = threading.Event(), threading.Event()

    def app(environ, start_response):
        asked.set()
        leave.wait(10)
        return hello(environ, start_response)

    with serving(app) as server, socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(get())
        assert asked.wait(10)
        server.stop()
        time.sleep(0.5)
        with pytest.raises(ConnectionError):
            socket.create_connection(server.address, timeout=10)
        leave.set()
        assert answers(read_all(connection))[0][2] == b"hello"


@pytest.mark.parametrize("start", [b"", get(), b"GET"])
def test_a_stop_is_prompt_whoever_is_connected(start):
    with serving(hello) as server, contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(socket.create_connection(server.address, timeout=10)).sendall(start)
        time.sleep(0.2)
        started = time.monotonic()
        server.stop()
        thread = next(thread for thread in threading.enumerate() if getattr(thread, "_target", None) == server.run)
        thread.join(5)
        # What has begun may be on its way: it is given a second.
        assert time.monotonic() - started < (2 if start == b"GET" else 0.9)


def test_a_stop_leaves_neither_threads_nor_open_files_behind():
    def held():
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("waitress")], len(os.listdir("/dev/fd"))

    with serving(hello):  # whatever is opened once and kept
        pass
    before = held()
    with serving(hello) as server:
        idle = socket.create_connection(server.address, timeout=10)
        talk(server.address, get(more=b"Connection: close\r\n"))
        talk(server.address, b"rubbish\r\n\r\n")
    idle.close()
    deadline = time.monotonic() + 2
    while held() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert held() == before


def test_a_taken_address_is_an_error_that_leaves_nothing_behind():
    with serving(hello) as server:
        before = threading.active_count(), len(os.listdir("/dev/fd"))
        with pytest.raises(OSError, match="in use"):
            Server(hello, Settings(listen=server.address))
        # Files of the tests before may still be closed meanwhile, by threads of the server's own.
        assert threading.active_count() == before[0]
        assert len(os.listdir("/dev/fd")) <= before[1]


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::1"])
def test_it_listens_by_name_and_on_either_kind_of_address(host):
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    with serving(hello, listen=(host, 0)) as server:
        assert talk(server.address, get(more=b"Connection: close\r\n"))[0][2] == b"hello"


QUIET = """
import signal
from petstore.server.setup import setup
from petstore.server.waitress import Server
from petstore.settings import Settings
from tests.server.test_http_edge import slow
setup()
server = Server(slow, Settings(listen=("127.0.0.1", 0)))
signal.signal(signal.SIGTERM, lambda *_: server.stop())
print(server.address[1], flush=True)
server.run()
"""


def test_sigterm_in_the_middle_of_a_request_lets_it_finish_and_warns_of_nothing():
    with socket.socket() as connection:
        with process(QUIET) as (port, said):
            connection.connect(("127.0.0.1", port))
            connection.sendall(get(b"/whole"))
            time.sleep(0.1)
        assert answers(read_all(connection))[0][2] == b"/whole"
    assert said == [""]


def test_a_client_of_the_standard_library_sees_a_stop_as_a_whole_answer():
    with serving(slow) as server:
        client = http.client.HTTPConnection(*server.address, timeout=10)
        client.request("GET", "/whole")
        time.sleep(0.1)
        server.stop()
        answer: Any = client.getresponse()
        assert (answer.status, answer.read(), answer.will_close) == (200, b"/whole", True)
        client.close()


def test_a_server_that_does_not_tell_when_a_request_came_is_fine_too(service):
    environ, started = {"PATH_INFO": "/livez"}, []
    setup_testing_defaults(environ)
    body = create_app(service[0])(environ, lambda status, headers, *_: started.append(status))
    assert (b"".join(body), started) == (b'{"status":"ok"}\n', ["200 OK"])


def test_a_connection_on_which_a_thread_is_sending_is_not_polled_in_vain(monkeypatch):
    """Each vain attempt would take the interpreter lock from the thread that sends."""
    attempts = []
    send, handle_write = Channel.send, Channel.handle_write

    def send_slowly(channel, data, **options):
        time.sleep(0.1)
        return send(channel, data, **options)

    monkeypatch.setattr(Channel, "send", send_slowly)
    monkeypatch.setattr(Channel, "handle_write", lambda channel: (attempts.append(channel), handle_write(channel)))
    with serving(hello) as server:
        assert talk(server.address, get(more=b"Connection: close\r\n"))[0][2] == b"hello"
    assert len(attempts) < 10
