"""How the service starts to listen, and how it stops."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from petstore.app import create_app
from petstore.server.waitress import Server
from petstore.server.waitress_channel import Channel
from petstore.settings import Settings
from petstore.web.validation import MAX_BODY
from tests.raw_http import answers, get, read_all, talk
from tests.server.serving import hello, process, serving, slow


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


def test_a_stop_waits_for_the_first_request_of_whoever_has_just_connected():
    with serving(hello) as server, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(server.address, timeout=10)) for _ in range(8)]
        server.stop()
        for connection in connections:
            time.sleep(0.03)
            connection.sendall(get())
        found = [answers(read_all(connection)) for connection in connections]
    assert [[(body, headers["connection"]) for _, headers, body in each] for each in found] == [[(b"hello", "close")]] * 8


def test_an_answer_says_that_the_service_stops_even_before_the_io_thread_has_noticed():
    def stopped_meanwhile(environ, start_response):
        server.stop()
        return hello(environ, start_response)

    with serving(stopped_meanwhile) as server, socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(get())
        assert answers(read_all(connection))[0][1]["connection"] == "close"


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
from petstore.server.waitress import Server
from petstore.settings import Settings
from tests.server.serving import slow
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
