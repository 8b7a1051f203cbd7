"""What a history runs on: a PostgreSQL, a Redis and two services of its own, with a proxy on every way between them."""

from __future__ import annotations

import calendar
import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from petstore.auth import tokens
from petstore.auth.key_rotation import generate_key
from petstore.auth.signing_keys import Keyring
from petstore.db import schema
from petstore.embedded import Postgres
from petstore.settings import Settings
from tests.client import Client
from tests.factories import Person
from tests.processes import end, free_port, kill_tree
from tests.proxy import Proxy
from tests.snapshot_redis import SnapshotRedis

ROOT = Path(__file__).parents[2]
SERVE = ("petstore",)  # the module that is run, and its arguments before `serve`
# kill -9 of every process takes nothing from the system's page cache, so fsync may be off: what a COMMIT has written is there.
DURABLE = ("fsync=off", "synchronous_commit=on")


class Shop:
    """A shop that is started with everything it needs, and has each part of it killed, frozen and started again."""

    def __init__(
        self, folder: Path, *, scope: str = "machines", serve: tuple[str, ...] = SERVE, postgres: tuple[str, ...] = DURABLE
    ) -> None:
        self._folder, self._stack = folder, ExitStack()
        self.postgres = Postgres(folder, options=postgres)
        self.redis = SnapshotRedis(folder)
        self._keys = generate_key(folder / "keys").parent
        self.services = [Service(folder, number, scope, serve, self._keys) for number in range(2)]

    def __enter__(self) -> Shop:
        with ExitStack() as stack:  # what has been started is stopped, also when a later part does not start
            stack.callback(self.postgres.stop)
            self.postgres.start()
            self.postgres.create_database()
            schema.create_schema(self.postgres.url("postgres"), currency="USD", minor_digits=2)
            stack.callback(self.redis.kill)
            self.redis.start()
            for service in self.services:
                service.database = stack.enter_context(Proxy(service.folder / ".s.PGSQL.5432", self._socket()))
                service.cache = stack.enter_context(Proxy(service.folder / "redis.sock", self.redis.socket))
                stack.callback(service.kill)
                service.start()
            for service in self.services:
                service.wait_until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def owner_url(self) -> str:
        return self.postgres.url("petstore_owner")

    def token(self, user: Person) -> str:
        defaults = Settings()
        issuer = tokens.Tokens(
            Keyring(self._keys), issuer=defaults.issuer, audience=defaults.audience, seconds=defaults.token_seconds
        )
        return issuer.issue(user)

    def kill_postgres(self) -> None:
        """kill -9 of the server and all its backends; it starts again on the same data."""
        kill_tree(self.postgres.pid or 0)
        self.postgres.start()
        for service in self.services:
            service.database.upstream = self._socket()

    def _socket(self) -> str:
        return parse_qs(urlsplit(self.postgres.url("postgres")).query)["host"][0] + "/.s.PGSQL.5432"


class Service:
    """A service with its workers on a port that stays the same, with its own ways to PostgreSQL and Redis."""

    database: Proxy
    cache: Proxy

    def __init__(self, folder: Path, number: int, scope: str, serve: tuple[str, ...], keys: Path) -> None:
        self.folder = folder / f"service{number}"
        self.folder.mkdir()
        self.address = ("127.0.0.1", free_port())
        self.log = folder / f"service{number}.log"
        self._home, self._scope, self._serve, self._keys = folder, scope, serve, keys
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PETSTORE_")}
        ours = {
            "PETSTORE_LISTEN": "{}:{}".format(*self.address),
            "PETSTORE_DATABASE_URL": f"postgresql://petstore_app@/pet_ecommerce?host={self.folder}&port=5432",
            "PETSTORE_REDIS_URL": f"unix://{self.folder}/redis.sock",
            "PETSTORE_KEYS": str(self._keys),
            "PETSTORE_HOME": str(self._home),
            "PETSTORE_CACHE_SCOPE": self._scope,
            "PETSTORE_ACCESS_LOG": "off",
            "PETSTORE_WORKERS": "2",
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", *self._serve, "serve"]
            self._process = subprocess.Popen(command, cwd=ROOT, env={**kept, **ours}, stdout=log, stderr=log)

    def wait_until_ready(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not self._is_ready():
            assert self._process is not None
            assert self._process.poll() is None, f"the service has ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"the service is not ready: {self.log.read_text()[-2000:]}"
            time.sleep(0.02)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """A stop that drains; its exit status."""
        return self._end(signal.SIGTERM)

    def cut_off(self) -> list[tuple[float, float]]:
        """From when to when it had no Redis (time.monotonic()), by what its log says: that it is gone, and that it is back."""
        found = re.findall(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{3})Z WARNING petstore\.cache", self.log.read_text(), re.M)
        since = time.time() - time.monotonic()
        times = [calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + int(part) / 1000 - since for whole, part in found]
        followed = zip(times, [*times[1:], math.inf], strict=False)
        return [(at - 0.25, after if after - at < 3 else at) for at, after in followed]  # it noticed by a time-out of 0.2 s

    def failure(self) -> str:
        """The first failure in its log, if any: what it has no answer for but 500."""
        _, trace, rest = self.log.read_text().partition("Traceback")
        return trace + rest[:3000]

    def _end(self, how: int) -> int:
        assert self._process is not None
        return end(self._process, how, 30)

    def _is_ready(self) -> bool:
        with suppress(OSError), Client(self.address) as client:
            return client.get("/readyz").status == 200
        return False
