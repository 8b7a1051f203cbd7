"""A real PostgreSQL and a real Redis for every test, made for the session and thrown away after it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from petstore import db
from petstore.auth import key_rotation
from petstore.db import schema
from petstore.embedded import Postgres, Redis
from petstore.server.waitress import Server
from petstore.services import Services
from petstore.settings import Settings
from tests import after_all, side_by_side
from tests.client import Client
from tests.databases import FAST, Cluster, external_cluster, open_folder
from tests.factories import Factory
from tests.logs import collector
from tests.services import running
from tests.side_by_side import WORKER
from tests.sql.big_shop import BIG, fill
from tests.tables import CLEAN

# Run under nohup(1), the services that tests start would be deaf to SIGHUP as well.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

collector.watch_programs()


# The same few keys are read hundreds of times: that their numbers are prime is proved once for each, as it takes 50 ms.
serialization.load_pem_private_key = cache(serialization.load_pem_private_key)


def pytest_configure(config: pytest.Config) -> None:
    if url := os.environ.get("PETSTORE_TEST_DATABASE_URL"):
        external_cluster(url)  # or it refuses, before anything is done
    for plugin in (side_by_side, after_all):
        config.pluginmanager.register(plugin)


def pytest_runtest_setup() -> None:
    collector.begin()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    collector.read()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The server: PETSTORE_TEST_DATABASE_URL, or one of our own."""
    url = os.environ.get("PETSTORE_TEST_DATABASE_URL")
    if url:
        yield external_cluster(url)
        return
    with open_folder() as folder:
        server = Postgres(folder, options=FAST)
        try:
            server.start()
            server.create_database("petstore_test")
            yield Cluster(server.url, "petstore_test")
        finally:
            server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own, or PETSTORE_TEST_REDIS_URL."""
    url = os.environ.get("PETSTORE_TEST_REDIS_URL")
    if url:
        yield f"{url}{'&' if '?' in url else '?'}db={WORKER[2:]}" if WORKER else url
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


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> Iterator[str]:
    """An empty shop in US dollars, to copy."""
    with cluster.database("template") as name:
        with cluster.changing_roles():
            schema.create_schema(cluster.url("postgres", name), currency="USD", minor_digits=2)
        yield name


@pytest.fixture(scope="session")
def database(cluster: Cluster, template: str) -> Iterator[str]:
    """The database that the tests of one session share."""
    with cluster.database("shared", template) as name:
        yield name


@pytest.fixture(scope="session")
def big_shop(cluster: Cluster, template: str) -> Iterator[str]:
    """A database with a million products and a million invoices, to read or to copy."""
    with cluster.database("big", template) as name:
        with db.connect(cluster.url("postgres", name)) as conn:
            fill(conn, BIG)
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
