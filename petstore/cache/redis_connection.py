"""The cache's way to Redis: connections that know which run of it they talk to, keys, commands. Only this imports redis."""

from __future__ import annotations

import re
import secrets
import select
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from petstore.cache import redis_scripts as scripts

SECONDS = 0.2  # the most that one call to Redis may take
MARK_SECONDS = 10  # that a mark stands for a writer that has died: longer than any request may run
DOUBT_SECONDS = 60  # and for a COMMIT that may still happen
KEPT_SECONDS = 86_400  # that generations and marks are kept without a write: then their entries, of minutes, are long gone
# What redis-py raises: its own errors, and others' for a host name or an answer that makes no sense to it.
FAULTS = (redis.RedisError, OSError, ValueError, TypeError)


class CacheDown(Exception):
    """Redis cannot be used right now."""


class Charge(NamedTuple):
    """What a counter says of an attempt. wait: seconds, 0 when it was charged; level: its level; until: set by this charge."""

    wait: float
    level: float
    until: float


@dataclass(frozen=True)
class Mark:
    """A write under way: the prefixes that it may change. sent: Redis was asked to keep it, and may have heard."""

    id: str
    prefixes: tuple[str, ...]
    sent: bool


class RedisConnection:
    """A connection, and the keys of one database in this run of its Redis."""

    def __init__(self, connection: Any, namespace: str) -> None:
        self._connection = connection
        self._all = f"petstore:{namespace}:"
        self._space = f"{self._all}{connection.petstore_run}:"

    def ping(self) -> None:
        self._call("PING")

    def read(self, prefix: str, key: str) -> tuple[bytes, int, bytes | None, float]:
        """The generation of a prefix (a new one, if there was none), its marks, and, if it has none, an entry; its seconds."""
        keys = self._generation(prefix), self._marks(prefix), self._entry(prefix, key)
        generation, marks, entry, milliseconds = self._call("EVAL", scripts.READ, 3, *keys, secrets.token_hex(8), KEPT_SECONDS)
        return generation, marks, entry, milliseconds / 1000

    def generations(self, prefixes: Collection[str]) -> list[bytes | None]:
        """Of each prefix its generation (a new one, if there was none); None while it is being written."""
        self.ask_generations(prefixes)
        return self.take_generations()

    def ask_generations(self, prefixes: Collection[str]) -> None:
        """Send the question, whose answer `take_generations` reads later: `fileno` is readable when it is there."""
        keys = [key for prefix in prefixes for key in (self._generation(prefix), self._marks(prefix))]
        self._send("EVAL", scripts.GENERATIONS, len(keys), *keys, secrets.token_hex(8), KEPT_SECONDS)

    def take_generations(self) -> list[bytes | None]:
        """The answer to `ask_generations`."""
        found: list[bytes | None] = self._connection.read_response()
        return found

    def fileno(self) -> int:
        """The file number of the connection's socket."""
        return int(self._connection._sock.fileno())

    def store(self, prefix: str, key: str, entry: bytes, ttl: int) -> None:
        self._call("SET", self._entry(prefix, key), entry, "EX", ttl)

    def mark(self, mark: Mark, seconds: int) -> None:
        keys = map(self._marks, mark.prefixes)
        self._call("EVAL", scripts.MARK, len(mark.prefixes), *keys, mark.id, seconds, KEPT_SECONDS)

    def unmark(self, mark: Mark) -> None:
        """Take a mark away."""
        self.forget((), mark)

    def forget(self, prefixes: tuple[str, ...], mark: Mark | None = None) -> None:
        """Remove the generations of these prefixes, and the mark."""
        marks = list(map(self._marks, mark.prefixes)) if mark else []
        keys = *map(self._generation, prefixes), *marks
        self._call("EVAL", scripts.FORGET, len(keys), *keys, len(prefixes), mark.id if mark else "")

    def charge(self, counters: Sequence[str], numbers: Sequence[tuple[int, int]], longest: int) -> list[Charge]:
        """Charge one to each counter, or to none. numbers: of each, its free number and sink seconds."""
        keys = map(self._counter, counters)
        found = self._call(
            "EVAL", scripts.CHARGE, len(counters), *keys, longest, *(number for pair in numbers for number in pair)
        )
        return [Charge(*map(float, counter)) for counter in found]

    def refund(self, charges: Mapping[str, Charge]) -> None:
        """Take charges back."""
        untils = (f"{charge.until:.6f}" for charge in charges.values())
        self._call("EVAL", scripts.REFUND, len(charges), *map(self._counter, charges), *untils)

    def forget_charges(self, counters: Sequence[str]) -> None:
        """Begin these counters anew."""
        if counters:
            self._call("DEL", *map(self._counter, counters))

    def clear(self) -> int:
        """Remove every key of the database, of earlier runs too; how many."""
        count, cursor = 0, b"0"
        while True:
            cursor, keys = self._call("SCAN", cursor, "MATCH", f"{self._all}*", "COUNT", 1000)
            count += self._call("UNLINK", *keys) if keys else 0
            if cursor == b"0":
                return count

    def _generation(self, prefix: str) -> str:
        return f"{self._space}generation:{prefix}"

    def _marks(self, prefix: str) -> str:
        return f"{self._space}marks:{prefix}"

    def _entry(self, prefix: str, key: str) -> str:
        return f"{self._space}entry:{prefix}:{key}"

    def _counter(self, name: str) -> str:
        return f"{self._space}attempts:{name}"

    def _call(self, *command: Any) -> Any:
        self._send(*command)
        return self._connection.read_response()

    def _send(self, *command: Any) -> None:
        """In the protocol of Redis; not by redis-py's own way, which takes three times as long."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        message = b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])
        self._connection.send_packed_command([message])


class NotConnected(Exception):
    """There is no connection that could be used at once."""


class RedisPool:
    """The connections to one Redis. Whatever fails raises one of FAULTS within SECONDS."""

    def __init__(self, url: str) -> None:
        self._pool: Any = redis.ConnectionPool.from_url(
            url,
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=_note_run,
        )
        self._idle: deque[Any] = deque()

    @contextmanager
    def link(self, namespace: str, connect: bool = True) -> Iterator[RedisConnection]:
        """A connection for the block. connect: make one if there is none; else raise NotConnected."""
        # Not by the pool's own get_connection and release, which take longer than Redis itself.
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
        try:
            if connection._sock is not None and _has_more_to_say(connection):
                connection.disconnect()
            if connection._sock is None and not connect:
                raise NotConnected
            connection.connect()  # if it is not
            yield RedisConnection(connection, namespace)
        except BaseException:
            connection.disconnect()  # an answer may still be on its way
            raise
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()


def _has_more_to_say(connection: Any) -> bool:
    """Whether something has come of a connection that nothing was asked: most of all its end, after a restart of Redis."""
    readable = select.poll()
    readable.register(connection._sock, select.POLLIN)
    return bool(readable.poll(0))


def _note_run(connection: Any) -> None:
    """A Redis that was restarted may have come back with old data: its run_id tells (INFO), and every key carries it."""
    connection.on_connect()
    connection.send_command("INFO", "server")
    found = re.search(rb"run_id:([0-9a-f]{16})", connection.read_response())
    if found is None:
        raise redis.ResponseError("INFO names no run_id")
    connection.petstore_run = found[1].decode()
