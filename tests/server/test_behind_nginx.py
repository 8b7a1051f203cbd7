"""Request smuggling and early refusals behind an nginx with docs/deploy/nginx.conf: both see the same requests, and nothing is a 502."""

import gzip
import logging
import re
import socket
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network

import pytest

from petstore.web.validation import MAX_BODY
from tests import nginx
from tests.raw_http import HOST, SMUGGLED, answers, get, talk
from tests.server.test_http_requests import FRAMING
from tests.services import running

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not nginx.PROGRAM, reason=nginx.MISSING)]

HEAD = b"POST /purchase_product HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
TOKENS = {"none": b"", "bad": b"Authorization: Bearer a.b.c\r\n"}
AMBIGUOUS = {
    **{name: (HEAD + headers + b"\r\n\r\n", body) for name, (headers, body, _) in FRAMING.items()},
    "a request in a body": (HEAD + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED), SMUGGLED),
    "a request in a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
    "two thousand requests in a body": (HEAD + b"Content-Length: %d\r\n\r\n" % (2000 * len(SMUGGLED)), 2000 * SMUGGLED),
    "a request in the body of a GET": (get(more=b"Content-Length: %d\r\n" % len(SMUGGLED)), SMUGGLED),
    "a length that a hop may drop": (
        HEAD + b"Connection: Content-Length\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED),
        SMUGGLED,
    ),
    "a coding that a hop may drop": (HEAD + b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
    "a length with an underscore": (HEAD + b"Content-Length: 0\r\nContent_Length: %d\r\n\r\n" % len(SMUGGLED), b""),
    "a coding with an underscore": (HEAD + b"Content-Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
    "a fragment": (b"GET /livez#/../products HTTP/1.1\r\n" + HOST + b"\r\n", b""),
}


@pytest.fixture(scope="module")
def proxy(settings, tmp_path_factory):
    """An nginx in front of a service of its own, whose access log is on."""
    folder = tmp_path_factory.mktemp("nginx")
    behind = replace(settings, rate_limit=0, trusted_proxies=(ip_network("127.0.0.1"),))
    with running(behind) as (_, server), nginx.Nginx(folder, [server.address] * 2) as one:
        yield one, folder / "access.log"


def exchange(address, *parts):
    """Send the parts on one connection; every answer that comes before it is silent for a moment."""
    with socket.create_connection(address, timeout=0.3) as connection:
        received = b""
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
        with suppress(OSError):
            while part := connection.recv(65_536):
                received += part
    return answers(received)


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_the_service_answers_no_request_that_nginx_has_not_seen(proxy, caplog, case):
    one, access_log = proxy
    caplog.set_level(logging.INFO, "petstore.access")
    before = access_log.read_text()
    found = exchange(one.address, *AMBIGUOUS[case], SMUGGLED)
    for number in range(8):  # on the connections that nginx has kept
        mine = f"mine-{number}"
        ((status, headers, _),) = talk(one.address, get(more=f"X-Request-ID: {mine}\r\nConnection: close\r\n".encode()))
        assert (status, headers["x-request-id"]) == (200, mine)
    seen = [record.getMessage() for record in caplog.records if record.name == "petstore.access"]
    passed_on = access_log.read_text()[len(before) :].count('"GET /livez HTTP/1.1" ') - 8
    assert sum(line.endswith(" smuggled") for line in seen) <= passed_on
    assert [line for line in seen if re.search(" 5.. ", line)] == []
    assert {status for status, _, _ in found} <= {200, 400, 401, 415, 501}
    assert "upstream" not in one.errors


@pytest.mark.parametrize("its_own", ["off", "on"])
def test_nothing_is_compressed_twice(service, anyone, make, tmp_path, its_own):
    """As docs/deploy/nginx.conf has it, and with an nginx that compresses what is not compressed."""
    for _ in range(12):
        make.product()
    asking = b"Accept-Encoding: gzip\r\nConnection: close\r\n"
    with nginx.Nginx(tmp_path, [service[1].address] * 2, {"gzip off;": f"gzip {its_own};"}) as one:
        for path in (b"/products", b"/openapi.json"):
            (direct,), (passed,) = (talk(address, get(path, asking)) for address in (service[1].address, one.address))
            assert (passed[0], passed[2]) == (200, direct[2])
            assert gzip.decompress(passed[2]) == anyone.get(path.decode()).body
            assert (passed[1]["content-encoding"], passed[1]["etag"]) == ("gzip", direct[1]["etag"])
            ((status, headers, _),) = talk(one.address, get(path, asking + f"If-None-Match: {direct[1]['etag']}\r\n".encode()))
            assert (status, headers["etag"]) == (304, direct[1]["etag"])


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("size", [1_000, 16_000, 64_000, MAX_BODY, MAX_BODY + 1, 400_000])
def test_a_refusal_before_the_body_passes_nginx(proxy, token, size):
    one, _ = proxy
    for number in range(30):
        more = TOKENS[token] + b"Connection: close\r\nX-Request-ID: %d\r\nContent-Length: %d\r\n\r\n" % (number, size)
        ((status, headers, _),) = talk(one.address, HEAD + more, b"x" * size, pause=0.002)
        assert (status, headers["x-request-id"]) == (401 if size <= MAX_BODY else 413, str(number))
    assert "upstream" not in one.errors
