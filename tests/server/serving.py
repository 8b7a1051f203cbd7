"""Servers with an application of a test's own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time

from petstore.server.waitress import Server
from petstore.settings import Settings


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
