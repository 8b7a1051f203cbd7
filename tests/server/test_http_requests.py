"""What is an HTTP request and what is not, where it ends, how much of it is taken, and its line in the log."""

from __future__ import annotations

import json
import logging
import re
import socket

import pytest
from waitress.buffers import OverflowableBuffer

from petstore.app import create_router
from petstore.server.waitress_parser import ChunkedBody
from petstore.web.validation import MAX_BODY
from tests.client import Client
from tests.raw_http import HOST, PATIENCE, SMUGGLED, answers, get, read_all, refused, status_of, talk
from tests.server.serving import serving

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
    "a chunk of 16 exabytes": (b"Transfer-Encoding: chunked", b"f" * 16 + b"\r\n", 413),
    "a chunk size of 17 digits": (b"Transfer-Encoding: chunked", b"f" * 17, 400),
    "a chunk size of 17 zeros": (b"Transfer-Encoding: chunked", b"0" * 17 + b"\r\n\r\n", 400),
    "a blank line before a chunk size": (b"Transfer-Encoding: chunked", b"\r\n5\r\nhello\r\n0\r\n\r\n", 400),
    "a blank line between chunks": (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n\r\n0\r\n\r\n", 400),
    "a blank line before the last chunk": (b"Transfer-Encoding: chunked", b"\r\n0\r\n\r\n", 400),
    "a chunk size that ends in CR": (b"Transfer-Encoding: chunked", b"5\rhello\r\n0\r\n\r\n", 400),
    "a chunk without a size": (b"Transfer-Encoding: chunked", b";a=b\r\nhello\r\n0\r\n\r\n", 400),
    "an endless chunk extension": (b"Transfer-Encoding: chunked", b"5;" + b"a" * 2000, 400),
    "chunks of one byte": (b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * 5000, 400),
    "a trailer that ends in LF": (b"Transfer-Encoding: chunked", b"0\r\nX: a\nY: b\r\n\r\n", 400),
    "a trailer that is a request": (b"Transfer-Encoding: chunked", b"0\r\n", 400),
    "a trailer without a name": (b"Transfer-Encoding: chunked", b"0\r\n: a\r\n\r\n", 400),
    "a folded trailer": (b"Transfer-Encoding: chunked", b"0\r\nX: a\r\n b\r\n\r\n", 400),
    "an endless trailer": (b"Transfer-Encoding: chunked", b"0\r\n" + b"X: a\r\n" * 2000, 400),
}


@pytest.mark.parametrize("case", FRAMING)
def test_a_request_whose_end_is_unclear_gets_one_refusal_and_takes_no_other_with_it(address, complaints, case):
    headers, body, status = FRAMING[case]
    head = b"POST /login HTTP/1.1\r\n" + headers + b"\r\n" + HOST + b"\r\n"
    assert refused(address, head + body + SMUGGLED) == status
    assert refused(address, head, body + SMUGGLED) == status
    assert complaints() == []


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_post_without_a_length_has_an_empty_body_and_is_answered_at_once(address, version):
    with socket.create_connection(address, timeout=1) as connection:
        connection.sendall(b"POST /login HTTP/" + version + b"\r\nConnection: close\r\n" + HOST + b"\r\n")
        assert answers(read_all(connection))[0][0] == 400  # an empty body is no JSON


@pytest.mark.parametrize("line", [b"f" * 17, b"\r", b"5\n", b"x", b"1;" + b"a" * 1100])
def test_a_chunk_that_cannot_become_right_is_refused_before_its_line_has_ended(address, line):
    with socket.create_connection(address, timeout=2) as connection:
        connection.sendall(b"POST /login HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n" + line)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_body_of_small_chunks_is_read(anyone):
    body = body_of(100_000)
    assert anyone.post("/login", raw=chunked(body, 30)).status == 422
    assert anyone.post("/login", raw=chunked(body_of(1300), 1)).status == 422


CHUNKED = {
    b"5\r\nhello\r\n0\r\n\r\n": b"hello",
    b'0005;a=b;c="d e";f\r\nhello\r\n00\r\nX: trailer\r\n\r\n': b"hello",
    b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n": b"hello",
    b"A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n": b"0123456789" + b"\r\n" * 5,
    b"0\r\n\r\n": b"",
}


@pytest.mark.parametrize("coded", CHUNKED)
def test_a_chunked_body_is_the_same_wherever_it_is_cut_into_packets(coded):
    stream = coded + SMUGGLED
    for first in range(1, len(coded)):
        for second in range(first, len(coded) + 1):
            body, taken = ChunkedBody(OverflowableBuffer(10_000)), 0
            for end in (first, second, len(stream)):
                if not body.completed:
                    taken += body.received(stream[taken:end])
            assert (body.completed, body.error, taken) == (True, None, len(coded))
            assert body.getfile().read() == CHUNKED[coded]


@pytest.mark.parametrize("case", [case for case, (head, *_) in FRAMING.items() if head == b"Transfer-Encoding: chunked"])
def test_a_bad_chunked_body_is_refused_wherever_it_is_cut_into_packets(case):
    _, coded, status = FRAMING[case]
    for cut in range(1, len(coded)):
        body = ChunkedBody(OverflowableBuffer(10_000))
        assert body.received(coded[:cut]) == cut
        assert body.error or body.received(coded[cut:] + SMUGGLED) == len(coded) - cut + len(SMUGGLED)
        assert body.error.code == status


@pytest.mark.parametrize(
    "line",
    [
        b"GET /livez", b"GET /livez HTTP/0.9", b"GET /livez HTTP/1.2", b"GET /livez HTTP/2.0", b"GET /livez HTTP/11",
        b"GET /livez http/1.1", b"get /livez HTTP/1.1", b"GET  /livez HTTP/1.1", b"GET /li vez HTTP/1.1", b"GET",
        b"GET /livez HTTP/1.1\n", b"GET /liv\tez HTTP/1.1", b"GET /livez\x00 HTTP/1.1", b"GET /\xc3\xbc HTTP/1.1",
        b"GET /livez# HTTP/1.1", b"GET /livez#x HTTP/1.1", b"GET //livez?a#b HTTP/1.1", b"GET http://shop/livez#x HTTP/1.1",
        b"GET //\xff HTTP/1.1", b"GET http://[shop/livez HTTP/1.1", b"GET http:///livez HTTP/1.1", b"GET http:livez HTTP/1.1",
        b"GET http://ana@shop/livez HTTP/1.1", b"GET http://a,b/livez HTTP/1.1", b"GET ftp://shop/livez HTTP/1.1", b"GET A: HTTP/1.1",
        b" GET /livez HTTP/1.1", b"\tGET /livez HTTP/1.1", b"\x0bGET /livez HTTP/1.1", b"\r\n GET /livez HTTP/1.1", b"\nGET /livez HTTP/1.1",
        b"\r\r\nGET /livez HTTP/1.1", b"GET /livez HTTP/1.1 ", b"GET /livez HTTP/1.1\x0c", b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)  # fmt: skip
def test_a_request_line_that_is_none_is_refused(address, complaints, line):
    assert refused(address, line + b"\r\n" + HOST + b"\r\n" + SMUGGLED) == 400
    assert complaints() == []


def test_a_blank_before_a_request_is_refused_wherever_it_is_cut_into_packets(address):
    assert refused(address, b"\r\n", b"\r", b"\n", b" ", SMUGGLED) == 400


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
        ("/%6civez", 200), ("http://shop/livez", 200), ("http://elsewhere:81/livez?", 200), ("HTTPS://[::1]/livez", 200), ("/livez%23", 404),
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
    talk(address, get(b"/a%0Ab%1B%C3%BC%5Cn?secret=1", b"X-Request-ID: one\r\nConnection: close\r\n"))
    talk(address, b"POST /login HTTP/1.1\r\nX-Request-ID: two\r\n" + HOST + b"Content-Length: 99999999\r\n\r\n")
    talk(address, b"rubbish\r\n\r\n")
    lines = [re.sub(r"[0-9.]+ms", "N ms", record.getMessage()) for record in caplog.records if record.name == "petstore.access"]
    assert lines[:2] == [r"GET /a\nb\x1b\xc3\xbc\\n 404 N ms one", "POST /login 413 N ms two"]
    assert lines[2].startswith("- - 400 N ms ")
    assert len(lines) == 3
