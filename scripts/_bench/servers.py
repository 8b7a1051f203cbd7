"""The PostgreSQL and Redis that all programs of a run share. Each program has its own database."""

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

# As in production: a commit is on disk before it is acknowledged.
OPTIONS = ("fsync=on", "synchronous_commit=on", "shared_buffers=256MB", "max_connections=200")


@dataclass(frozen=True)
class Servers:
    """The running servers. folder: files of the run; keys: folder of the signing key; redis_port: on 127.0.0.1."""

    folder: Path
    keys: Path
    postgres: Postgres
    redis: Redis
    redis_port: int

    @property
    def redis_url(self) -> str:
        return self.redis.url

    def versions(self) -> str:
        """Their versions, as text."""
        with db.connect(self.postgres.url("postgres", "postgres")) as conn:
            row = conn.execute("SHOW server_version").fetchone()
        version = redis.Redis.from_url(self.redis_url).info("server")["redis_version"]
        return f"PostgreSQL {row[0] if row else ''}, Redis {version}"

    def copy_database(self, source: str, name: str) -> None:
        """Copy a database. Nothing may be connected to `source`."""
        with db.connect(self.postgres.url("postgres", "postgres")) as conn:
            conn.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"'.encode())
        with db.connect(self.postgres.url("postgres", name)) as conn:
            conn.execute((sql_folder() / "roles.sql").read_bytes())  # settings of a database (ALTER DATABASE) are not copied


@contextmanager
def running(folder: Path) -> Iterator[Servers]:
    """Run both servers for the block, with their data in the folder."""
    postgres, cache, port = Postgres(folder, options=OPTIONS), Redis(folder), free_port()
    keys = folder / "keys"
    keys.mkdir()
    key_rotation.generate_key(keys)
    try:
        postgres.start()
        cache.start()
        redis.Redis.from_url(cache.url).config_set("port", port)
        yield Servers(folder, keys, postgres, cache, port)
    finally:
        cache.stop()
        postgres.stop()


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
