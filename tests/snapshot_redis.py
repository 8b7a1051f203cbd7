"""A Redis that a test kills and starts again with what it knew some time ago."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redis

from petstore.embedded import find_redis


class SnapshotRedis:
    """A Redis that saves when it is told to, and starts with what was saved."""

    def __init__(self, folder: Path) -> None:
        self._binary, self._folder = find_redis(), folder / "redis"
        self._folder.mkdir()
        self.socket = str(self._folder / "redis.sock")
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            self._binary, "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir", self._folder,
        ]  # fmt: skip
        Path(self.socket).unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not self.run("PING"):
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.01)

    def run(self, *command: str) -> object:
        """The answer to a command; None when there is none."""
        with redis.Redis(unix_socket_path=self.socket) as client, suppress(redis.RedisError):
            return client.execute_command(*command)
        return None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
