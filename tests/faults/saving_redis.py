"""A Redis with a memory."""

import subprocess
from contextlib import suppress

import redis

from petstore.embedded import find_redis
from tests.waiting import eventually


class SavingRedis:
    """A Redis in one folder, which can be killed, and comes back with what it saved last."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        self.url = f"unix://{folder}/redis.sock"

    def start(self):
        (self.folder / "redis.sock").unlink(missing_ok=True)
        command = [find_redis(), "--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no"]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(self.answers)

    def answers(self):
        with redis.Redis.from_url(self.url) as client, suppress(redis.ConnectionError):
            return client.ping()

    def kill(self):
        self.process.kill()
        self.process.wait()
