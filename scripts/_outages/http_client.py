"""HTTP/1.1 over asyncio, only as much as a load needs: what the client computes must not show in what it measures."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

TIMEOUT_SECONDS = 10.0  # more than the service may take for any answer


class Answer(NamedTuple):
    """A request and what came of it.

    sent: time.monotonic(); status: 0 if there was none; port: the client's; hit: from the cache (X-Cache); key: of a purchase.
    """

    kind: str
    sent: float
    seconds: float
    status: int
    port: int
    hit: bool = False
    key: str = ""
    invoice: int = 0


class _Connection(asyncio.Protocol):
    """A connection to the service, which answers one request at a time."""

    def __init__(self) -> None:
        self._received, self._waiting = b"", asyncio.get_running_loop().create_future()
        self.port, self.open, self.hit, self.answered_at = 0, False, False, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.open = transport, True
        self.port = transport.get_extra_info("sockname")[1]

    async def send(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. ConnectionError if the connection ends before it."""
        self._received, self._waiting = b"", asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._waiting

    def close(self) -> None:
        self.open = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._waiting.done():
            return
        lower = head.lower()
        length = int(lower.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) >= length:
            self.answered_at = time.monotonic()
            self.hit = b"x-cache: hit" in lower
            self.open = b"connection: close" not in lower
            self._waiting.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("closed without an answer"))
            self._waiting.exception()  # nobody may be waiting any more


class Client:
    """Sends requests; one that comes while every connection is in use gets a new one, as in an open load it must."""

    def __init__(self, host: str, port: int) -> None:
        self._address, self._idle = (host, port), list[_Connection]()

    async def send(self, kind: str, data: bytes) -> tuple[Answer, bytes]:
        """The answer and its body.

        If the service closes a connection that was used before without a byte of an answer, the request is sent once more.
        """
        sent, port = time.monotonic(), 0
        for _ in range(2):
            try:
                connection, used = await self._connect()
                port = connection.port
                status, body = await asyncio.wait_for(connection.send(data), TIMEOUT_SECONDS)
            except ConnectionResetError:
                if used:
                    continue
                break
            except (OSError, asyncio.TimeoutError):
                break
            if connection.open:
                self._idle.append(connection)
            return Answer(kind, sent, connection.answered_at - sent, status, port, connection.hit), body
        return Answer(kind, sent, time.monotonic() - sent, 0, port), b""

    async def _connect(self) -> tuple[_Connection, bool]:
        """A connection, and whether it was used before."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection, True
        loop = asyncio.get_running_loop()
        _, made = await asyncio.wait_for(loop.create_connection(_Connection, *self._address), TIMEOUT_SECONDS)
        return made, False
