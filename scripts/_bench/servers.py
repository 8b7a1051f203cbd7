"""The PostgreSQL and the Redis that every program of one run shares. Each program has a database of its own on them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from petstore import db
from petstore.auth import key_rotation
from petstore.db.queries import sql_folder
from petstore.embedded import Postgres, Redis

# As in production: what is acknowledged is on the disk.
OPTIONS = ("fsync=on", "synchronous_commit=on", "shared_buffers=256MB", "max_connections=200")


@dataclass(frozen=True)
class Servers:
    """folder: for files of the run, keys: for the key that signs, redis_port: on 127.0.0.1, beside the socket."""

    folder: Path
    keys: Path
    postgres: Postgres
    redis_url: str
    redis_port: int

    def versions(self) -> str:
        """What the two are."""
        with db.connect(self.postgres.url("postgres", "postgres")) as conn:
            row = conn.execute("SHOW server_version").fetchone()
        version = redis.Redis.from_url(self.redis_url).info("server")["redis_version"]
        return f"PostgreSQL {row[0] if row else ''}, Redis {version}"

    def copy_database(self, source: str, name: str) -> None:
        """A database with all that is in another one, which nobody is connected to."""
        with db.connect(self.postgres.url("postgres", "postgres")) as conn:
            conn.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"'.encode())
        with db.connect(self.postgres.url("postgres", name)) as conn:
            conn.execute((sql_folder() / "roles.sql").read_bytes())  # what is set on a database is not copied with it


@contextmanager
def running(folder: Path) -> Iterator[Servers]:
    """Both, with their data in the folder, for the block."""
    postgres, cache, port = Postgres(folder, options=OPTIONS), Redis(folder), free_port()
    keys = folder / "keys"
    keys.mkdir()
    key_rotation.generate_key(keys)
    try:
        postgres.start()
        cache.start()
        redis.Redis.from_url(cache.url).config_set("port", port)
        yield Servers(folder, keys, postgres, cache.url, port)
    finally:
        cache.stop()
        postgres.stop()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
