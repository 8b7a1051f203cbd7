"""HTTP by hand, on a socket: what no client library would send, and answers to the last byte."""

from __future__ import annotations

import contextlib
import json
import socket
import time

HOST = b"Host: shop\r\n"
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: shop\r\nX-Request-ID: smuggled\r\n\r\n"


PATIENCE = 20  # seconds


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


def get(path=b"/livez", more=b""):
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + more + b"\r\n"
