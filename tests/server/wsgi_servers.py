"""Other servers than waitress with `petstore.wsgi:app`, each a process of its own."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

from petstore.settings import variable
from tests.client import Client
from tests.waiting import eventually

# Exactly what PEP 3333 asks for, and no more: reading past the body of a request blocks. wsgiref.validate holds both sides to it.
PLAIN_SERVER = """
import signal, socket, sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.validate import validator
from petstore.wsgi import app

class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 100

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
server = Server(("127.0.0.1", 0), WSGIRequestHandler)
server.set_app(validator(app))
print(f"listens on 127.0.0.1:{server.server_port}", file=sys.stderr, flush=True)
server.serve_forever()
"""


def environment(settings, **changes):
    """The environment of a process with the tests' settings, some of them changed."""
    names = "database_url", "redis_url", "keys", "pool_size"
    shown = {name: getattr(replace(settings, **changes), name) for name in {*names, *changes}}
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PETSTORE_")}
    return kept | {variable(name): str(value) for name, value in shown.items() if value is not None}


class Running:
    """A server that was started, its address, and what it has said."""

    def __init__(self, process, log, address):
        self.process, self.address, self._log = process, address, log

    @property
    def said(self):
        return self._log.read_text()

    def client(self, token=None):
        """A client that takes the server's banner for granted."""
        client = Client(self.address, token)
        client._connection.response_class = _WithoutBanner
        return client

    def end(self):
        """Its exit status after SIGTERM."""
        self.process.terminate()
        return self.process.wait(20)


class _WithoutBanner(http.client.HTTPResponse):
    def begin(self):
        super().begin()
        assert self.headers["Server"], "every server but ours says what it is"
        del self.headers["Server"]


@contextmanager
def plain(folder, environ):
    """The smallest server there is."""
    log = folder / "plain.log"
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", PLAIN_SERVER], env=environ, stdout=file, stderr=file)
    with _ending(process):
        eventually(lambda: "listens on" in log.read_text() or process.poll() is not None, 30)
        found = re.search(r"listens on ([0-9.]+):(\d+)", log.read_text())
        assert found, log.read_text()
        yield Running(process, log, (found[1], int(found[2])))


@contextmanager
def gunicorn(folder, environ, *options, workers=2):
    """gunicorn with threads, as docs/operations.md starts it; returns when every worker is ready for its first request."""
    log = folder / "gunicorn.log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("w") as file:
        address = listener.getsockname()
        command = [sys.executable, "-m", "gunicorn", "--threads", "8", "--workers", str(workers), *options]
        command += ["--bind", f"fd://{listener.fileno()}", "--no-control-socket", "petstore.wsgi:app"]
        process = subprocess.Popen(
            command, env=environ | {"TMPDIR": str(folder)}, stdout=file, stderr=file, pass_fds=[listener.fileno()]
        )
    with _ending(process):
        eventually(lambda: log.read_text().count("Booting worker") >= workers or process.poll() is not None, 30)
        assert process.poll() is None, log.read_text()
        yield Running(process, log, address)


@contextmanager
def _ending(process):
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
