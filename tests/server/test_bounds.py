"""What one client can hold of the server: memory for bodies, connections, time. It takes nothing from the others."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import threading
import time

import pytest

from petstore.limits.clients import subscriber
from petstore.server.bodies import MAX_BODIES
from petstore.server.connections import networks_of
from petstore.server.waitress import Server
from petstore.settings import Settings, networks
from petstore.web.validation import MAX_BODY
from tests.raw_http import HOST, PATIENCE, answers, get, read_all, refused, talk
from tests.server.serving import hello, serving, slow
from tests.waiting import eventually

JSON = b"Content-Type: application/json\r\n"
NEIGHBOUR = "127.0.0.2"


def connect(address, source="127.0.0.1"):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # else the kernel may take all of a large answer
    connection.settimeout(PATIENCE)
    connection.bind((source, 0))
    connection.connect(address)
    return connection


def is_closed(connection):
    """Whether the server has closed a connection on which it has said nothing."""
    readable, _, _ = select.select([connection], [], [], 0)
    with contextlib.suppress(ConnectionError):
        return bool(readable) and connection.recv(1) == b""
    return True


# ── what is refused from the header alone ────────────────────────────────────────────────────────────────────────────────

LENGTH = b"Content-Length: %d\r\n"
HEADS = {
    "too large": (b"POST /login", JSON + LENGTH % (MAX_BODY + 1), 413),
    "far too large": (b"POST /login", JSON + LENGTH % 10**18, 413),
    "too large for anything": (b"POST /purchase_product", JSON + LENGTH % 520_000, 413),
    "too large for nothing": (b"POST /nothing", JSON + LENGTH % 10**18, 404),
    "too large for this method": (b"PUT /login", JSON + LENGTH % 520_000, 405),
    "no such path": (b"POST /nothing", JSON + LENGTH % 9, 404),
    "another method": (b"POST /livez", JSON + LENGTH % 9, 405),
    "another method, chunked": (b"POST /livez", JSON + b"Transfer-Encoding: chunked\r\n", 405),
    "another media type": (b"POST /login", b"Content-Type: text/plain\r\n" + LENGTH % 9, 415),
    "no token": (b"POST /purchase_product", JSON + LENGTH % 9, 401),
    "no token, chunked": (b"POST /purchase_product", JSON + b"Transfer-Encoding: chunked\r\n", 401),
    "a bad token": (b"PATCH /modify_product?id=1", JSON + LENGTH % 9 + b"Authorization: Bearer x.y.z\r\n", 401),
    "another scheme": (b"POST /purchase_product", JSON + LENGTH % 9 + b"Authorization: Basic eA==\r\n", 401),
}


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("case", HEADS)
def test_a_request_that_is_refused_whatever_its_body_is_is_refused_before_it(address, case, expect):
    line, headers, status = HEADS[case]
    assert refused(address, line + b" HTTP/1.1\r\n" + HOST + headers + expect + b"\r\n") == status


def test_a_refusal_at_the_head_says_the_same_as_one_with_the_body(address):
    head = b"POST /purchase_product HTTP/1.1\r\n" + HOST + JSON + b"X-Request-ID: a\r\nContent-Length: 2\r\n"
    ((status, headers, body),) = talk(address, head + b"\r\n")
    ((also, others, other),) = talk(address, head + b"Connection: close\r\n\r\n{}")
    assert (status, body) == (also, other)
    assert {**headers, "date": ""} == {**others, "date": ""}


def test_a_good_token_has_its_body_read(address, make, clients):
    token = clients(make.user("ana@example.com")).token
    head = b"POST /purchase_product HTTP/1.1\r\n" + HOST + JSON + b"Authorization: Bearer " + token.encode() + b"\r\n"
    with connect(address) as connection:
        connection.sendall(head + b"Content-Length: 2\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
        assert select.select([connection], [], [], 0)[0] == []
        connection.sendall(b"{}")
        assert answers(read_all(connection))[0][0] == 422


def test_a_client_that_goes_on_sending_gets_to_read_why_it_was_refused(address):
    head = b"POST /purchase_product HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 250000\r\n\r\n"
    assert refused(address, head, *[b"x" * 50_000] * 5) == 401


# ── memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def unfinished(address, size, source="127.0.0.1", forwarded=""):
    """A connection on which so much of a body has been sent, and one byte is missing."""
    connection = connect(address, source)
    more = f"X-Forwarded-For: {forwarded}\r\n".encode() if forwarded else b""
    connection.sendall(b"POST / HTTP/1.1\r\n" + HOST + more + LENGTH % (size + 1) + b"\r\n" + b"x" * size)
    return connection


def held(server):
    return server._server.bodies._total


def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.mark.parametrize("forwarded", [True, False])
def test_the_bodies_of_all_requests_have_a_bound_and_who_holds_most_makes_room(forwarded):
    """Also behind a proxy, where all connections come from one address."""
    proxies = networks("127.0.0.1,127.0.0.2") if forwarded else ()
    names = ("198.51.100.7", "203.0.113.9") if forwarded else ("", "")
    with serving(echo, trusted_proxies=proxies, connections=400, read_seconds=30) as server, contextlib.ExitStack() as stack:
        other = stack.enter_context(unfinished(server.address, MAX_BODY - 100, NEIGHBOUR, names[1]))
        eventually(lambda: held(server) > MAX_BODY - 9000)
        many = [stack.enter_context(unfinished(server.address, MAX_BODY - 100, "127.0.0.1", names[0])) for _ in range(40)]
        more = [stack.enter_context(unfinished(server.address, MAX_BODY - 100, "127.0.0.1", names[0])) for _ in range(40)]
        eventually(lambda: MAX_BODIES - 2 * MAX_BODY < held(server) <= MAX_BODIES)
        eventually(lambda: len(select.select([*many, *more], [], [], 0)[0]) >= 17)
        refusals = select.select([*many, *more], [], [], 0)[0]
        assert many[0] in refusals  # the oldest ones go
        assert more[-1] not in refusals
        for one in refusals:
            one.shutdown(socket.SHUT_WR)
            ((status, headers, body),) = answers(read_all(one))
            assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
            assert "holds as much of request bodies as it can" in json.loads(body)["detail"]
        for one in (other, more[-1]):
            one.sendall(b"x")
            one.settimeout(PATIENCE)
            assert len(read_answer(one)) == MAX_BODY - 99
    assert held(server) == 0


def read_answer(connection):
    """The body of one answer, on a connection that stays open."""
    received = b""
    while not (head := re.match(rb"(?is).*?content-length: (\d+).*?\r\n\r\n", received)) or len(received) < head.end() + int(
        head[1]
    ):
        part = connection.recv(65_536)
        assert part, f"closed after {received!r}"
        received += part
    return received[head.end() :]


def test_what_a_body_held_is_free_when_it_is_answered_or_its_client_is_gone():
    with serving(echo) as server, unfinished(server.address, 100_000) as gone, unfinished(server.address, 100_000) as kept:
        eventually(lambda: held(server) == 200_000)
        kept.sendall(b"x")
        assert len(read_answer(kept)) == 100_001
        eventually(lambda: held(server) == 100_000)
        gone.close()
        eventually(lambda: held(server) == 0)


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def silent(address, count, stack, source="127.0.0.1"):
    return [stack.enter_context(connect(address, source)) for _ in range(count)]


def test_the_silent_connections_of_one_address_take_its_share_only(complaints):
    with serving(hello, connections=40, read_seconds=30) as server, contextlib.ExitStack() as stack:
        others = silent(server.address, 8, stack, NEIGHBOUR)
        one = silent(server.address, 60, stack)
        eventually(lambda: sum(map(is_closed, one)) == 50)
        assert [is_closed(connection) for connection in one] == [True] * 50 + [False] * 10  # the oldest go
        assert not any(map(is_closed, others))
        assert talk(server.address, get(more=b"Connection: close\r\n"))[0][2] == b"hello"
    assert "127.0.0.1 has more than 10 connections: its oldest silent ones are closed" in complaints()


def test_who_is_being_answered_is_not_silent():
    with serving(slow, connections=16, threads=30) as server, contextlib.ExitStack() as stack:
        busy = []
        for _ in range(7):
            busy += silent(server.address, 1, stack)
            busy[-1].sendall(get())
        silent(server.address, 8, stack)
        assert [read_answer(connection) for connection in busy] == [b"/livez"] * 7


def large(environ, start_response):
    start_response("200 OK", [("Content-Length", "8000000")])
    return [b"x" * 8_000_000]


def test_who_does_not_read_has_a_share_too():
    def app(environ, start_response):
        return (large if environ["PATH_INFO"] == "/large" else hello)(environ, start_response)

    with serving(app, connections=16, read_seconds=30) as server, contextlib.ExitStack() as stack:
        unread = []
        for _ in range(20):
            unread += silent(server.address, 1, stack)
            unread[-1].sendall(get(b"/large"))
            eventually(lambda: any(channel.total_outbufs_len for channel in server._channels()))
            time.sleep(0.05)
        assert len(server._channels()) == 4
        with connect(server.address, NEIGHBOUR) as other:
            other.sendall(get())
            assert read_answer(other) == b"hello"


@pytest.fixture
def release():
    """Set, it lets `held_back` answer."""
    return threading.Event()


@pytest.fixture
def held_back(release):
    """An application that answers when it is released."""

    def application(environ, start_response):
        release.wait(PATIENCE)
        return hello(environ, start_response)

    return application


def test_one_client_is_not_answered_on_more_than_half_of_all_connections(complaints, held_back, release):
    with serving(held_back, connections=16, threads=20) as server, contextlib.ExitStack() as stack:
        busy = []
        for _ in range(12):
            busy += silent(server.address, 1, stack)
            busy[-1].sendall(get())
            time.sleep(0.02)
        eventually(lambda: sum(map(is_closed, busy)) == 4)
        release.set()
        assert [read_answer(connection) for connection in busy[:8]] == [b"hello"] * 8
    assert "127.0.0.1 has 8 connections that are being answered: further ones are closed" in complaints()


def test_a_new_connection_is_not_taken_for_one_that_was_closed_for_it(complaints):
    """It may get the number of that one, of which something is heard at the same moment."""
    server = Server(hello, Settings(listen=("127.0.0.1", 0), connections=16))
    with contextlib.ExitStack() as stack:
        old = silent(server.address, 4, stack)
        server._poll(0.1)
        old[0].close()
        _, new = silent(server.address, 2, stack)
        new.sendall(get(more=b"Connection: close\r\n"))
        time.sleep(0.1)
        server._poll(0.1)
        server.stop()
        server.run()
        assert answers(read_all(new))[0][2] == b"hello"
    assert complaints() == ["127.0.0.1 has more than 4 connections: its oldest silent ones are closed"]


@pytest.mark.slow
def test_what_a_client_does_not_read_is_thrown_away_when_it_is_hung_up_on():
    with serving(large, read_seconds=1) as server, connect(server.address) as connection:
        connection.sendall(get())
        eventually(lambda: server._channels())
        eventually(lambda: not server._channels())
        parts = iter(lambda: connection.recv(65_536), b"")
        with pytest.raises(ConnectionResetError):
            list(parts)


def test_half_a_request_is_silent_too():
    with serving(hello, connections=16, read_seconds=30) as server, contextlib.ExitStack() as stack:
        connections = silent(server.address, 4, stack)
        for start, connection in zip((b"G", get()[:-2], b"\r\n", get() + b"GET"), connections, strict=True):
            connection.sendall(start)
        assert read_answer(connections[3]) == b"hello"
        silent(server.address, 4, stack)
        eventually(lambda: all(map(is_closed, connections)))


def test_a_trusted_proxy_has_no_share():
    with (
        serving(hello, connections=40, read_seconds=30, trusted_proxies=networks("127.0.0.0/8")) as server,
        contextlib.ExitStack() as stack,
    ):
        proxied = silent(server.address, 30, stack)
        assert talk(server.address, get(more=b"Connection: close\r\n"))[0][2] == b"hello"
        assert not any(map(is_closed, proxied))


def test_when_all_connections_are_taken_the_client_with_most_makes_room():
    with serving(hello, connections=16, read_seconds=30) as server, contextlib.ExitStack() as stack:
        few = [silent(server.address, 3, stack, f"127.0.0.{number}") for number in range(2, 6)]
        most = silent(server.address, 4, stack, "127.0.0.6")
        late = silent(server.address, 1, stack, "127.0.0.7")
        eventually(lambda: is_closed(most[0]))
        assert not any(map(is_closed, [*most[1:], *late, *(connection for own in few for connection in own)]))


def test_when_all_connections_are_busy_who_comes_waits_until_one_is_free(complaints, held_back, release):
    with serving(held_back, connections=16, threads=20) as server, contextlib.ExitStack() as stack:
        busy = []
        for number in range(16):
            busy += silent(server.address, 1, stack, f"127.0.0.{number % 4 + 3}")
            busy[-1].sendall(get(more=b"Connection: close\r\n"))
        eventually(lambda: sum(bool(channel.requests) for channel in server._channels()) == 16)
        late = stack.enter_context(connect(server.address, NEIGHBOUR))
        late.sendall(get(more=b"Connection: close\r\n"))
        eventually(lambda: "all 16 connections are busy: others wait until one is free" in complaints())
        assert len(server._channels()) == 16
        release.set()
        assert [answers(read_all(connection))[0][2] for connection in (*busy, late)] == [b"hello"] * 17


@pytest.mark.parametrize(
    ("source", "client"),
    [("::ffff:192.0.2.7", "192.0.2.7"), ("192.0.2.7", "192.0.2.7"), ("2001:db8:0:42::1", "2001:db8::/56")],
)
def test_an_ipv6_client_is_a_56_and_a_mapped_address_an_ipv4_one(source, client):
    assert subscriber(networks_of(source)) == client


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_body_that_arrives_slowly_but_steadily_is_read_to_its_end():
    with serving(echo, read_seconds=1) as server, connect(server.address) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\n" + HOST + LENGTH % 60_000 + b"\r\n")
        for _ in range(20):  # 4 s
            connection.sendall(b"x" * 3000)
            time.sleep(0.2)
        assert len(read_answer(connection)) == 60_000


@pytest.mark.slow
def test_a_body_that_hardly_arrives_is_not_waited_for():
    with serving(echo, read_seconds=1) as server, connect(server.address) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\n" + HOST + LENGTH % 60_000 + b"\r\n" + b"x" * 15_000)
        trickle = ((connection.sendall(b"x" * 100), time.sleep(0.1)) for _ in range(30))
        with pytest.raises(ConnectionError):
            list(trickle)
