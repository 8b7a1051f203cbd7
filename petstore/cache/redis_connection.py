"""Redis: a pool of connections, the names of the keys, and the commands that are sent. Only this module imports redis.

Every key is `petstore:<database>:<run_id of the Redis server>:...`. A server that was restarted has a new run_id, so old data
that it loaded from disk is never read. Every generation given here ends with the history of the database: a reader whose database
has another one, after a fail-over say, finds that no entry is of the current generation.
"""

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

from petstore.cache.namespace import Namespace
from petstore.cache.redis_scripts import load_script, load_scripts

TIMEOUT_SECONDS = 0.2  # of one call to Redis
MARK_SECONDS = 10  # a mark expires then if its writer has died: longer than any request may run
UNKNOWN_OUTCOME_SECONDS = 60  # a mark expires then if its writer does not know whether COMMIT happened
LEFT_SECONDS = 1_200  # that Redis knows which history was left: longer than any entry lives
KEY_TTL_SECONDS = 86_400  # of generations and marks: their entries live for minutes, and are gone long before
# What redis-py raises: its own errors, and others for a host name or a reply that it cannot read.
FAULTS = (redis.RedisError, OSError, ValueError, TypeError)


class CacheDown(Exception):
    """Redis cannot be used right now."""


class Charge(NamedTuple):
    """A counter after an attempt. wait: seconds, 0 if the attempt was charged; level: its level; until: as set by this charge."""

    wait: float
    level: float
    until: float


@dataclass(frozen=True)
class Mark:
    """A write in progress: the prefixes that it may change. sent: the mark was sent to Redis, which may or may not have it."""

    id: str
    prefixes: tuple[str, ...]
    sent: bool


class RedisConnection:
    """A connection to Redis. It sees the keys of one database only, in this run of the Redis server."""

    def __init__(self, connection: Any, namespace: Namespace) -> None:
        self._connection, self._history = connection, namespace.history
        self._suffix = b"/" + namespace.history.encode()
        self._all_runs = f"petstore:{namespace.database}:"
        self._this_run = f"{self._all_runs}{connection.petstore_run_id}:"

    def ping(self) -> None:
        self._call("PING")

    def read(self, prefix: str, key: str) -> tuple[bytes, int, bytes | None, float]:
        """The generation of a prefix (a new one if it had none), its number of marks, an entry, and the seconds it has left.

        The entry is None if there is none, or while there is a mark.
        """
        keys = self._left(self._history), self._generation(prefix), self._marks(prefix), self._entry(prefix, key)
        generation, marks, entry, milliseconds = self._run_script("read", keys, secrets.token_hex(8), KEY_TTL_SECONDS)
        return self._of_history(generation), marks, entry, milliseconds / 1000

    def generations(self, prefixes: Collection[str]) -> list[bytes | None]:
        """The generation of each prefix (a new one if it had none); None while the prefix is being written."""
        self.send_generations(prefixes)
        return self.receive_generations()

    def send_generations(self, prefixes: Collection[str]) -> None:
        """Send the request of `generations` only. When `fileno` is readable, `receive_generations` reads the reply."""
        keys = [key for prefix in prefixes for key in (self._generation(prefix), self._marks(prefix))]
        self._send_script("generations", [self._left(self._history), *keys], secrets.token_hex(8), KEY_TTL_SECONDS)

    def receive_generations(self) -> list[bytes | None]:
        """The reply to `send_generations`."""
        return [found and self._of_history(found) for found in self._connection.read_response()]

    def fileno(self) -> int:
        """The file descriptor of the connection's socket."""
        return int(self._connection._sock.fileno())

    def store(self, prefix: str, key: str, entry: bytes, ttl: int) -> None:
        self._call("SET", self._entry(prefix, key), entry, "EX", ttl)

    def mark(self, mark: Mark, seconds: int) -> None:
        """Set a mark, or make it expire later."""
        self._run_script("mark", list(map(self._marks, mark.prefixes)), mark.id, seconds, KEY_TTL_SECONDS)

    def unmark(self, mark: Mark) -> None:
        self.invalidate((), mark)

    def invalidate(self, prefixes: tuple[str, ...], mark: Mark | None = None) -> None:
        """Remove the generations of these prefixes, and the mark."""
        marks = list(map(self._marks, mark.prefixes)) if mark else []
        keys = [*map(self._generation, prefixes), *marks]
        self._run_script("invalidate", keys, len(prefixes), mark.id if mark else "")

    def leave(self, history: str) -> None:
        """Give every prefix another generation, for readers whose database has this history."""
        self._call("SET", self._left(history), secrets.token_hex(8), "EX", LEFT_SECONDS)

    def charge(self, counters: Sequence[str], numbers: Sequence[tuple[int, int]], longest: int) -> list[Charge]:
        """Charge an attempt to every counter, or to none. numbers: of each, attempts without a delay and sink seconds."""
        keys = list(map(self._counter, counters))
        found = self._run_script("charge", keys, longest, *(number for pair in numbers for number in pair))
        return [Charge(*map(float, counter)) for counter in found]

    def refund(self, charges: Mapping[str, Charge]) -> None:
        """Take charges back."""
        untils = (f"{charge.until:.6f}" for charge in charges.values())
        self._run_script("refund", list(map(self._counter, charges)), *untils)

    def reset_counters(self, counters: Sequence[str]) -> None:
        """Remove these counters: they start again at zero."""
        if counters:
            self._call("DEL", *map(self._counter, counters))

    def announce(self, subject: str, node: str, text: str, seconds: int) -> list[str]:
        """Tell the other nodes `text`, which counts for `seconds`; what each of them has told lately, this one too."""
        found: list[bytes] = self._run_script("announce", [f"{self._this_run}{subject}"], node, text, seconds)
        return [one.decode() for one in found]

    def clear(self) -> int:
        """Remove every key of the database, also those of earlier runs of the server; how many."""
        count, cursor = 0, b"0"
        while True:
            cursor, keys = self._call("SCAN", cursor, "MATCH", f"{self._all_runs}*", "COUNT", 1000)
            count += self._call("UNLINK", *keys) if keys else 0
            if cursor == b"0":
                return count

    def _of_history(self, generation: bytes) -> bytes:
        return generation + self._suffix

    def _left(self, history: str) -> str:
        return f"{self._this_run}left:{history}"

    def _generation(self, prefix: str) -> str:
        return f"{self._this_run}generation:{prefix}"

    def _marks(self, prefix: str) -> str:
        return f"{self._this_run}marks:{prefix}"

    def _entry(self, prefix: str, key: str) -> str:
        return f"{self._this_run}entry:{prefix}:{key}"

    def _counter(self, name: str) -> str:
        return f"{self._this_run}attempts:{name}"

    def _run_script(self, name: str, keys: Sequence[str], *arguments: Any) -> Any:
        self._send_script(name, keys, *arguments)
        return self._connection.read_response()

    def _send_script(self, name: str, keys: Sequence[str], *arguments: Any) -> None:
        self._send("EVAL", load_script(name), len(keys), *keys, *arguments)

    def _call(self, *command: Any) -> Any:
        self._send(*command)
        return self._connection.read_response()

    def _send(self, *command: Any) -> None:
        """Encode the command ourselves (RESP): redis-py takes three times as long for it."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        message = b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])
        self._connection.send_packed_command([message])


class NotConnected(Exception):
    """No connection is open and idle."""


class RedisPool:
    """The connections to one Redis server. Every failure raises one of FAULTS within TIMEOUT_SECONDS."""

    def __init__(self, url: str) -> None:
        load_scripts()
        self._pool: Any = redis.ConnectionPool.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=_read_run_id,
        )
        self._idle: deque[Any] = deque()

    @contextmanager
    def connection(self, namespace: Namespace, only_open: bool = False) -> Iterator[RedisConnection]:
        """A connection for the block. only_open: raise NotConnected instead of connecting, which may take long."""
        # Not by the pool's own get_connection and release, which take longer than Redis itself.
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
        try:
            if connection._sock is not None and _is_readable(connection):
                connection.disconnect()  # nothing was asked, so this is the server closing it, as after a restart
            if connection._sock is None and only_open:
                raise NotConnected
            connection.connect()  # does nothing if it is open
            yield RedisConnection(connection, namespace)
        except BaseException:
            connection.disconnect()  # a reply may still arrive, and would be taken for that to the next command
            raise
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()


def _is_readable(connection: Any) -> bool:
    readable = select.poll()
    readable.register(connection._sock, select.POLLIN)
    return bool(readable.poll(0))


def _read_run_id(connection: Any) -> None:
    """Once connected: learn which run of the server this is."""
    connection.on_connect()
    connection.send_command("INFO", "server")
    found = re.search(rb"run_id:([0-9a-f]{16})", connection.read_response())
    if found is None:
        raise redis.ResponseError("INFO names no run_id")
    connection.petstore_run_id = found[1].decode()
