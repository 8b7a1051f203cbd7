"""A real PostgreSQL and a real Redis for every test, made for the session and thrown away after it."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization

from petstore import db
from petstore.app import create_app
from petstore.auth import key_rotation
from petstore.db import schema
from petstore.db.queries import sql_folder
from petstore.embedded import Postgres, Redis
from petstore.server.setup import setup
from petstore.server.waitress import Server
from petstore.services import Services, open_services
from petstore.settings import Settings
from tests.client import Client
from tests.factories import Factory
from tests.logs import collector

# Run under nohup(1), the services that tests start would be deaf to SIGHUP as well.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

collector.watch_programs()

setup()  # this process serves

# The same few keys are read hundreds of times: that their numbers are prime is proved once for each, as it takes 50 ms.
serialization.load_pem_private_key = cache(serialization.load_pem_private_key)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What was logged and answered is looked at when all has been."""
    items.sort(key=lambda item: item.path.name in ("test_logs.py", "test_seen.py"))


def pytest_runtest_setup() -> None:
    collector.begin()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    collector.read()


# A throwaway database need not survive a power cut.
# Its log names who has connected: the service, which calls itself petstore, or a test.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "log_line_prefix=%m [%p] <%a> ")
NUMBERED = (
    "users",
    "sessions",
    "audit_log",
    "products",
    "invoices",
    "invoice_details",
    "invoice_events",
    "credit_notes",
    "stock_movements",
)
TABLES = (*NUMBERED, "number_series", "credit_note_lines", "idempotency_keys", "refresh_tokens", "audit_addresses")
# An empty shop, whatever was in it: what TRUNCATE would do, in a tenth of its time. Waits for whoever still writes.
CLEAN = "; ".join(
    [
        "BEGIN",
        f"LOCK TABLE {', '.join(TABLES)} IN ACCESS EXCLUSIVE MODE",
        "SET LOCAL session_replication_role = replica",  # no triggers and no foreign keys for the moment
        *(f"DELETE FROM {table}" for table in TABLES),
        *(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1, false)" for table in NUMBERED),
        "COMMIT",
    ]
)


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server on which tests may make databases. url(role, database): as postgres, petstore_owner, ..."""

    url: Callable[[str, str], str]
    name: str

    @contextmanager
    def database(self, name: str, template: str = "template1") -> Iterator[str]:
        """A database for the block; its name."""
        full = f"{self.name}_{name}"
        with db.connect(self.url("postgres", self.name)) as conn:
            conn.execute(f'DROP DATABASE IF EXISTS "{full}" WITH (FORCE)')
            conn.execute(f'CREATE DATABASE "{full}" TEMPLATE "{template}"')
            if template != "template1":
                with db.connect(self.url("postgres", full)) as made:  # rights and settings of a database are not copied with it
                    made.execute((sql_folder() / "roles.sql").read_bytes())
            try:
                yield full
            finally:
                conn.execute(f'DROP DATABASE "{full}" WITH (FORCE)')


def _external(url: str) -> Cluster:
    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    if "_test" not in name:
        pytest.exit(f"PETSTORE_TEST_DATABASE_URL names {name!r}: tests run only on a database with _test in its name", 2)

    def as_role(role: str, database: str) -> str:
        # One login, a superuser's, which takes on the role: so no role of the server needs a password from us.
        options = "" if role == "postgres" else f"options={quote(f'-c role={role}')}"
        return parts._replace(path=f"/{database}", query="&".join(filter(None, (parts.query, options)))).geturl()

    return Cluster(as_role, name)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The server: PETSTORE_TEST_DATABASE_URL, or one of our own."""
    url = os.environ.get("PETSTORE_TEST_DATABASE_URL")
    if url:
        yield _external(url)
        return
    with open_folder() as folder:
        server = Postgres(folder, options=FAST)
        try:
            server.start()
            server.create_database("petstore_test")
            yield Cluster(server.url, "petstore_test")
        finally:
            server.stop()


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that others may enter too: a server that root starts runs as somebody else, and pytest's are closed."""
    with tempfile.TemporaryDirectory(prefix="petstore-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own, or PETSTORE_TEST_REDIS_URL."""
    url = os.environ.get("PETSTORE_TEST_REDIS_URL")
    if url:
        yield url
        return
    server = Redis(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis that a test may break."""
    server = Redis(tmp_path)
    server.start()
    yield server
    with suppress(ProcessLookupError):
        os.kill(server.pid or 0, signal.SIGCONT)
    server.stop()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> Iterator[str]:
    """An empty shop in US dollars, to copy."""
    with cluster.database("template") as name:
        schema.create_schema(cluster.url("postgres", name), currency="USD", minor_digits=2)
        yield name


@pytest.fixture(scope="session")
def database(cluster: Cluster, template: str) -> Iterator[str]:
    """The database that the tests of one session share."""
    with cluster.database("shared", template) as name:
        yield name


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signing key."""
    return key_rotation.generate_key(tmp_path_factory.mktemp("keys")).parent


@pytest.fixture(scope="session")
def settings(cluster: Cluster, database: str, redis_url: str, keys: Path) -> Settings:
    """Those of the shared service."""
    return Settings(
        listen=("127.0.0.1", 0),
        database_url=cluster.url("petstore_app", database),
        owner_url=cluster.url("petstore_owner", database),
        report_url=cluster.url("petstore_report", database),
        redis_url=redis_url,
        keys=keys,
        read_seconds=2,
        threads=8,  # one process does what several would
        pool_size=8,
    )


@contextmanager
def running(settings: Settings) -> Iterator[tuple[Services, Server]]:
    """The service in a thread of its own, on a free port, for the block."""
    with ExitStack() as stack:
        services = stack.enter_context(open_services(settings))
        server = Server(create_app(services), settings)
        thread = threading.Thread(target=server.run, name="server")
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.stop)
        yield services, server


@pytest.fixture(scope="session")
def service(settings: Settings) -> Iterator[tuple[Services, Server]]:
    """The shared service."""
    with running(settings) as both:
        both[0].db.check()
        yield both


@pytest.fixture(scope="session")
def _owner(cluster: Cluster, database: str) -> Iterator[Any]:
    with db.connect(cluster.url("petstore_owner", database)) as conn:
        yield conn


@pytest.fixture(scope="session")
def _superuser(cluster: Cluster, database: str) -> Iterator[Any]:
    with db.connect(cluster.url("postgres", database)) as conn:
        yield conn


@pytest.fixture(scope="session")
def counted(_superuser: Any) -> None:
    """For what needs pg_stat_statements, which the server of PETSTORE_TEST_DATABASE_URL may not have loaded."""
    loaded = _superuser.execute("SHOW shared_preload_libraries").fetchone()[0]
    if "pg_stat_statements" not in loaded and os.environ.get("PETSTORE_TEST_DATABASE_URL"):
        pytest.skip("the server does not preload pg_stat_statements")


@pytest.fixture
def make(_owner: Any, _superuser: Any, service: tuple[Services, Server]) -> Factory:
    """An empty shop, and a factory of rows in it."""
    _superuser.execute(CLEAN)
    service[0].cache.clear()  # counters of failed attempts, too
    service[0].failed_attempts.clear()
    return Factory(_owner)


@pytest.fixture
def clients(service: tuple[Services, Server]) -> Iterator[Callable[..., Client]]:
    """Makes clients of the shared service: clients(), or clients(user) with a token of that user's."""
    made = []

    def client(user: Any = None) -> Client:
        token = service[0].tokens.issue(user) if user else None
        one = Client(service[1].address, token)
        made.append(one)
        return one

    yield client
    for one in made:
        one.close()


@pytest.fixture
def anyone(make: Factory, clients: Callable[..., Client]) -> Client:
    """Somebody without a token."""
    return clients()


@pytest.fixture
def boss(make: Factory) -> Any:
    """An admin."""
    return make.user("admin@example.com", role="admin")


@pytest.fixture
def admin(boss: Any, clients: Callable[..., Client]) -> Client:
    """The admin's client."""
    return clients(boss)


@pytest.fixture
def ana(make: Factory) -> Any:
    """A customer."""
    return make.user("Ana@example.com")


@pytest.fixture
def buyer(ana: Any, clients: Callable[..., Client]) -> Client:
    """Ana's client."""
    return clients(ana)


@pytest.fixture
def conn(cluster: Cluster, database: str, make: Factory) -> Iterator[Any]:
    """A connection as petstore_app in a transaction that is rolled back, in an empty shop."""
    with db.connect(cluster.url("petstore_app", database)) as connection, connection.transaction(force_rollback=True):
        yield connection


@pytest.fixture
def with_settings(settings: Settings) -> Callable[..., Any]:
    """Runs a second service with some settings changed: `with with_settings(redis_url=None) as (services, server)`."""
    return lambda **changes: running(replace(settings, **changes))
