"""The cache's way to Redis: connections that know which run of it they talk to, keys, commands. Only this imports redis."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

SECONDS = 0.2  # the most that one call to Redis may take
MARK_SECONDS = 10  # that a mark stands for a writer that has died: longer than any request may run
DOUBT_SECONDS = 60  # and for a COMMIT that may still happen
KEPT_SECONDS = 86_400  # that generations and marks are kept without a write: then their entries, of minutes, are long gone

# What redis-py raises: its own errors, and others' for a host name or an answer that makes no sense to it.
FAULTS = (redis.RedisError, OSError, ValueError, TypeError)

# KEYS: generation, marks, entry. ARGV: a new generation, KEPT_SECONDS. → generation, marks that stand, entry, its milliseconds
_READ = """
local marks = redis.call('ZCARD', KEYS[2])
if marks > 0 then
    local overdue = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', redis.call('TIME')[1])
    if overdue > 0 then redis.call('DEL', KEYS[1]) end
    marks = marks - overdue
end
local generation = redis.call('GET', KEYS[1])
if not generation then
    generation = ARGV[1]
    redis.call('SET', KEYS[1], generation, 'EX', ARGV[2])
end
return {generation, marks, marks == 0 and redis.call('GET', KEYS[3]), redis.call('PTTL', KEYS[3])}
"""

# KEYS: generation and marks of each prefix. ARGV: a new generation, KEPT_SECONDS. → the generation of each, none while marked
_GENERATIONS = """
local found = {}
for i = 1, #KEYS, 2 do
    local unmarked = redis.call('EXISTS', KEYS[i + 1]) == 0
    local generation = unmarked and redis.call('GET', KEYS[i])
    if unmarked and not generation then
        generation = ARGV[1]
        redis.call('SET', KEYS[i], generation, 'EX', ARGV[2])
    end
    found[#found + 1] = generation
end
return found
"""

# KEYS: marks. ARGV: the mark, seconds that it stands, KEPT_SECONDS
_MARK = """
local overdue = redis.call('TIME')[1] + ARGV[2]
for _, key in ipairs(KEYS) do
    redis.call('ZADD', key, overdue, ARGV[1])
    redis.call('EXPIRE', key, ARGV[3])
end
"""


# KEYS: counters. ARGV: the longest delay; of each counter its free number and sink seconds. → of each: wait, level, until
# Charges one to all of them, or, when one is to wait, to none. See petstore/throttle.py.
_CHARGE = """
local time, longest, found, waits = redis.call('TIME'), tonumber(ARGV[1]), {}, false
local now = time[1] + time[2] / 1000000
for i, key in ipairs(KEYS) do
    local old = redis.call('HMGET', key, 'level', 'at', 'until')
    local sunk = math.max(0, now - (old[2] or now)) / ARGV[2 * i + 1]  -- not less than 0: the clock may have been set back
    found[i] = {math.max(0, math.min((old[3] or 0) - now, longest)), math.max(0, (old[1] or 0) - sunk), 0}
    waits = waits or found[i][1] > 0
end
for i, key in ipairs(KEYS) do
    local counter, free = found[i], tonumber(ARGV[2 * i])
    if not waits then
        counter[2] = counter[2] + 1
        local over = math.ceil(counter[2] - 1e-6) - free
        if over >= 0 then counter[3] = now + math.min(2 ^ over, longest) end
        redis.call('HSET', key, 'level', counter[2], 'at', string.format('%.6f', now), 'until', string.format('%.6f', counter[3]))
        redis.call('EXPIRE', key, math.ceil(counter[2] * ARGV[2 * i + 1]) + longest)
    end
    found[i] = {string.format('%.6f', counter[1]), string.format('%.6f', counter[2]), string.format('%.6f', counter[3])}
end
return found
"""

# KEYS: counters. ARGV: of each, the `until` that its charge has set
_REFUND = """
for i, key in ipairs(KEYS) do
    local old = redis.call('HMGET', key, 'level', 'until')
    if old[1] then
        redis.call('HSET', key, 'level', math.max(0, old[1] - 1))
        if tonumber(old[2]) == tonumber(ARGV[i]) then redis.call('HSET', key, 'until', 0) end
    end
end
"""


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


class Link:
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
        generation, marks, entry, milliseconds = self._call("EVAL", _READ, 3, *keys, secrets.token_hex(8), KEPT_SECONDS)
        return generation, marks, entry, milliseconds / 1000

    def generations(self, prefixes: Collection[str]) -> list[bytes | None]:
        """Of each prefix its generation (a new one, if there was none); None while it is being written."""
        self.ask_generations(prefixes)
        return self.take_generations()

    def ask_generations(self, prefixes: Collection[str]) -> None:
        """Send the question, whose answer `take_generations` reads later: `fileno` is readable when it is there."""
        keys = [key for prefix in prefixes for key in (self._generation(prefix), self._marks(prefix))]
        command = "EVAL", _GENERATIONS, len(keys), *keys, secrets.token_hex(8), KEPT_SECONDS
        self._connection.send_packed_command(self._connection.pack_command(*command))

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
        self._call("EVAL", _MARK, len(mark.prefixes), *keys, mark.id, seconds, KEPT_SECONDS)

    def unmark(self, mark: Mark) -> None:
        self._send(self._unmark(mark))

    def forget(self, prefixes: tuple[str, ...], mark: Mark | None = None) -> None:
        """Remove the generations of these prefixes, and then the mark."""
        self._send([("DEL", *map(self._generation, prefixes)), *(self._unmark(mark) if mark else [])])

    def charge(self, counters: Sequence[str], numbers: Sequence[tuple[int, int]], longest: int) -> list[Charge]:
        """Charge one to each counter, or to none. numbers: of each, its free number and sink seconds."""
        keys = map(self._counter, counters)
        found = self._call("EVAL", _CHARGE, len(counters), *keys, longest, *(number for pair in numbers for number in pair))
        return [Charge(*map(float, counter)) for counter in found]

    def refund(self, charges: Mapping[str, Charge]) -> None:
        """Take charges back."""
        untils = (f"{charge.until:.6f}" for charge in charges.values())
        self._call("EVAL", _REFUND, len(charges), *map(self._counter, charges), *untils)

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

    def _unmark(self, mark: Mark) -> list[tuple[Any, ...]]:
        return [("ZREM", self._marks(prefix), mark.id) for prefix in mark.prefixes]

    def _call(self, *command: Any) -> Any:
        return self._send([command])[0]

    def _send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._connection.read_response() for _ in commands]


class RedisLinks:
    """The connections to one Redis. Whatever fails raises one of FAULTS within SECONDS."""

    def __init__(self, url: str) -> None:
        self._pool: Any = redis.ConnectionPool.from_url(
            url,
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=_note_run,
        )

    @contextmanager
    def link(self, namespace: str) -> Iterator[Link]:
        """A connection for the block."""
        connection = self._pool.get_connection()
        try:
            yield Link(connection, namespace)
        except BaseException:
            connection.disconnect()  # an answer may still be on its way
            raise
        finally:
            self._pool.release(connection)

    def close(self) -> None:
        self._pool.disconnect()


def _note_run(connection: Any) -> None:
    """A Redis that was restarted may have come back with old data: its run_id tells (INFO), and every key carries it."""
    connection.on_connect()
    connection.send_command("INFO", "server")
    found = re.search(rb"run_id:([0-9a-f]{16})", connection.read_response())
    if found is None:
        raise redis.ResponseError("INFO names no run_id")
    connection.petstore_run = found[1].decode()
