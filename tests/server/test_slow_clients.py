"""Clients that are slow, silent, rude or many take nothing from the others."""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import threading
import time

import pytest

from petstore.server.progress import FLUSH_BYTES
from petstore.server.waitress_channel import Channel
from tests.client import Client
from tests.raw_http import HOST, answers, get, read_all, talk
from tests.server.serving import hello, process, serving
from tests.waiting import eventually


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
        connection = socket.create_connection(self._address, timeout=10, source_address=("127.0.0.2", 0))
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
@pytest.mark.alone
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
def test_a_connection_without_a_request_is_closed_after_the_time_of_the_setting():
    with (
        serving(hello, keep_alive_seconds=2, read_seconds=1) as server,
        socket.create_connection(server.address, timeout=10) as kept,
    ):
        for _ in range(2):
            kept.sendall(get())
            assert kept.recv(1000).endswith(b"hello")
            answered = time.monotonic()
            time.sleep(1.2)  # longer than a request may take to arrive
        assert kept.recv(1000) == b""
        assert 1.9 < time.monotonic() - answered < 4


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


LARGE = 30_000_000  # bytes: more than the buffers of sockets hold, and more than waitress lets a thread leave unread


@pytest.fixture
def large(tmp_path):
    """An application that answers with many bytes, from memory or from a file, and at /small with a few."""
    path = tmp_path / "large"
    path.write_bytes(b"x" * LARGE)
    opened = []

    def app(environ, start_response):
        small = environ["PATH_INFO"] == "/small"
        start_response("200 OK", [("Content-Length", "5" if small else str(LARGE))])
        if environ["PATH_INFO"] != "/file":
            return [b"small" if small else b"x" * LARGE]
        opened.append(path.open("rb"))
        return environ["wsgi.file_wrapper"](opened[-1])

    app.opened = opened
    return app


def connect_to_read_slowly(server, size=50_000):
    """A connection with a small buffer, so that the server notices how slowly it is read from."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    connection.settimeout(10)
    connection.connect(server.address)
    return connection


def read_steadily(connection, size, each_second):
    """At most so many bytes, and so many a second; how many came."""
    started, count = time.monotonic(), 0
    while count < size and (part := connection.recv(min(20_000, size - count))):
        count += len(part)
        time.sleep(max(0.0, started + count / each_second - time.monotonic()))
    return count


@pytest.mark.slow
@pytest.mark.parametrize("path", [b"/memory", b"/file"])
def test_who_reads_slowly_and_steadily_gets_all(large, complaints, path):
    with serving(large, read_seconds=1) as server, connect_to_read_slowly(server) as connection:
        connection.sendall(get(path, b"Connection: close\r\n"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        # While the buffers of the system are emptied to a third, nothing more can be sent: for longer than a second here.
        slowly = read_steadily(connection, 1_500_000, each_second=250_000)
        assert slowly + read_steadily(connection, LARGE, each_second=20_000_000) == LARGE
    assert [file.closed for file in large.opened] == [True] * (path == b"/file")
    assert complaints() == []


@pytest.mark.slow
@pytest.mark.parametrize("path", [b"/memory", b"/file"])
def test_who_reads_a_little_now_and_then_is_hung_up_on(large, complaints, path):
    with serving(large, read_seconds=2) as server, connect_to_read_slowly(server, 2000) as connection:
        connection.sendall(get(path))
        started = time.monotonic()
        eventually(lambda: any(channel.total_outbufs_len for channel in server._channels()))
        while server._channels():
            connection.recv(400)
            time.sleep(0.2)
            assert time.monotonic() - started < 8
        assert time.monotonic() - started > 1.9
    assert [file.closed for file in large.opened] == [True] * (path == b"/file")
    assert complaints() == []


def test_who_asks_for_more_and_does_not_read_a_file_holds_no_thread(large):
    with serving(large, read_seconds=60) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            reader = stack.enter_context(connect_to_read_slowly(server))
            reader.sendall(get(b"/file") + get(b"/small"))
        eventually(lambda: len(large.opened) == 3)
        assert talk(server.address, get(b"/small", b"Connection: close\r\n"))[0][2] == b"small"
        reader.sendall(get(b"/small", b"Connection: close\r\n"))
        assert LARGE + 10 < read_steadily(reader, 2 * LARGE, each_second=1e12) < LARGE + 1000
    assert all(file.closed for file in large.opened)


def test_the_io_thread_sends_so_much_to_one_client_and_turns_to_the_others(large, monkeypatch):
    sent, plain = [0], Channel.handle_write

    def handle_write(channel):
        before = channel._sent
        plain(channel)
        sent.append(channel._sent - before)

    monkeypatch.setattr(Channel, "handle_write", handle_write)
    with serving(large) as server, connect_to_read_slowly(server) as connection:
        connection.sendall(get(b"/file", b"Connection: close\r\n"))
        eventually(lambda: len(large.opened) == 1)
        time.sleep(0.2)  # a thread sends what the buffers of the sockets take; the rest is for the I/O thread
        assert [len(body) for _, _, body in answers(read_all(connection))] == [LARGE]
    assert max(sent) <= FLUSH_BYTES
    assert sum(sent) > FLUSH_BYTES


def test_what_is_being_read_when_the_server_stops_is_sent_whole(large):
    with serving(large) as server, connect_to_read_slowly(server) as connection:
        connection.sendall(get(b"/file"))
        received = connection.recv(1000)
        server.stop()
        assert [len(body) for _, _, body in answers(received + read_all(connection))] == [LARGE]
    assert [file.closed for file in large.opened] == [True]


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
            source = ("127.0.0.2", 0)
            stack.enter_context(socket.create_connection(server.address, timeout=10, source_address=source)).sendall(start)
        started = time.monotonic()
        assert talk(server.address, get(more=b"Connection: close\r\n"))[0][2] == b"hello"
        assert time.monotonic() - started < 10  # three times the 2 s, in turn


LIMITED = """
import logging, resource, signal, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))
from petstore.server.waitress import Server
from petstore.settings import Settings
from tests.server.serving import hello
logging.basicConfig()
server = Server(hello, Settings(listen=("127.0.0.1", 0), read_seconds=1, connections=1000))
signal.signal(signal.SIGTERM, lambda *_: server.stop())
print(server.address[1], flush=True)
server.run()
"""


@pytest.mark.slow
def test_the_limit_of_open_files_is_respected():
    with process(LIMITED) as (port, said), contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        assert talk(("127.0.0.1", port), get(more=b"Connection: close\r\n"))[0][2] == b"hello"
    assert "the limit of 150 open files leaves room for 76 connections, not 1000" in said[0]
    assert "Too many open files" not in said[0]
    assert "Traceback" not in said[0]
