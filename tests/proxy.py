"""A stream proxy that stands between the service and a server it uses, and can delay, refuse, freeze and cut.

It knows one message of PostgreSQL's protocol, the simple query COMMIT, so that exactly its answer can be lost.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import POLLIN, poll

Address = str | Path | tuple[str, int]  # a unix socket's path, or host and port

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"  # PostgreSQL manual, 54.7: Query
READY = b"Z\x00\x00\x00\x05"  # ReadyForQuery; one byte more, the state of the transaction, ends each answer
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


class Proxy:
    """Listens on `listen` and passes everything on to `upstream`, until told otherwise. As a context it runs for the block.

    Set at any time: upstream, an address for the connections to come; delay, seconds that each chunk is late; refusing, new
    connections are closed at once; swallowing, nothing is passed on (what was sent meanwhile arrives afterwards);
    changing, what is made of each
    chunk from the server; answer_loss and commit_loss, the chance that a COMMIT is treated as by lose_answers and lose_commits.
    """

    def __init__(self, listen: Address, upstream: Address) -> None:
        self.upstream = upstream
        self.delay, self.refusing, self.swallowing = 0.0, False, False
        self.answer_loss, self.commit_loss = 0.0, 0.0
        self.changing: Callable[[bytes], bytes] = bytes
        self.lost: list[str] = []  # "answer" or "commit", each time one was
        self._armed: list[tuple[str, float]] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._connections: list[threading.Thread] = []
        self._closing = False
        self._door = _listen(listen)
        self.address = listen if self._door.family == socket.AF_UNIX else self._door.getsockname()[:2]
        self._porter = threading.Thread(target=self._welcome, name="proxy", daemon=True)
        self._porter.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lose_answers(self, count: int = 1, late: float = 0) -> None:
        """The next COMMITs happen, and the client's connection is closed in place of the answer.

        With `late`, that connection is closed first, and the COMMIT reaches the server so many seconds afterwards.
        """
        self._armed += [("answer", late)] * count

    def lose_commits(self, count: int = 1) -> None:
        """The next COMMITs do not reach the server: both connections are closed instead."""
        self._armed += [("commit", 0)] * count

    def cut(self) -> None:
        """End every connection that is open now."""
        with self._lock:
            for one in self._sockets:
                _shut(one)

    def close(self) -> None:
        """Cut everything and stop listening; returns when no thread is left."""
        self._closing = True
        _shut(self._door)  # wakes accept()
        self._porter.join()
        self.cut()
        for connection in self._connections:
            connection.join()
        self._door.close()
        if self._door.family == socket.AF_UNIX:
            Path(str(self.address)).unlink(missing_ok=True)

    def _welcome(self) -> None:
        while not self._closing:
            with suppress(OSError):
                client, _ = self._door.accept()
                connection = threading.Thread(target=self._serve, args=(client,), name="proxy", daemon=True)
                connection.start()
                self._connections = [one for one in self._connections if one.is_alive()] + [connection]

    def _serve(self, client: socket.socket) -> None:
        server = _socket(self.upstream)
        with self._lock:
            self._sockets |= {client, server}
        try:
            if not self.refusing and not self._closing:
                server.connect(_native(self.upstream))
                self._pass_on(client, server)
        except OSError:
            pass  # one of the two is gone: so is the other
        finally:
            with self._lock:
                self._sockets -= {client, server}
                _close(client), _close(server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        waiting = poll()
        for one in (client, server):
            waiting.register(one, POLLIN)
        while True:
            for number, _ in waiting.poll():
                source, target = (client, server) if number == client.fileno() else (server, client)
                self._while_swallowing()
                data = source.recv(65536)
                time.sleep(self.delay)
                fate = self._fate() if source is client and data.endswith(COMMIT) else None
                if fate is not None:
                    return self._lose(fate, data, client, server)
                if not data:
                    return None
                target.sendall(data if source is client else self.changing(data))

    def _while_swallowing(self) -> None:
        while self.swallowing and not self._closing:
            time.sleep(0.01)

    def _fate(self) -> tuple[str, float] | None:
        """What is to be lost of a COMMIT, and how late it is."""
        with self._lock:
            if self._armed:
                return self._armed.pop(0)
        chance = random.random()
        if chance < self.answer_loss:
            return "answer", 0
        return ("commit", 0) if chance < self.answer_loss + self.commit_loss else None

    def _lose(self, fate: tuple[str, float], data: bytes, client: socket.socket, server: socket.socket) -> None:
        what, late = fate
        if late:
            _shut(client)
            time.sleep(late)
        if what == "answer":
            server.sendall(data)
            answer = server.recv(65536)
            while answer[-6:-1] != READY:
                more = server.recv(65536)
                if not more:
                    return  # the server has gone itself, before it answered
                answer += more
        self.lost.append(what)


def _listen(address: Address) -> socket.socket:
    door = _socket(address)
    if door.family == socket.AF_INET:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(_native(address))
    door.listen(128)
    return door


def _socket(address: Address) -> socket.socket:
    made = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
    if isinstance(address, tuple):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _native(address: Address) -> str | tuple[str, int]:
    return address if isinstance(address, tuple) else str(address)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _close(one: socket.socket) -> None:
    if one.family == socket.AF_INET:
        with suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    one.close()
