"""Times a page of each list in a small and in a big shop: in PostgreSQL alone, and over HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

from psycopg.sql import quote

from petstore import db
from petstore.app import create_app
from petstore.auth import key_rotation
from petstore.auth.tokens import Caller
from petstore.db import schema
from petstore.db.queries import load_queries, sql_folder
from petstore.embedded import Postgres
from petstore.server.waitress import Server
from petstore.services import open_services
from petstore.settings import Settings
from petstore.web.pagination import make_cursor
from tests.sql.big_shop import BIG, BUSY, LISTS, PAIRS, SMALL, asked, deep_cursor, fill

ROUNDS = 101  # the median is shown; each round times the small shop and then the big one
PATHS = {
    "products/list_products": "/products",
    "products/list_movements": "/admin/products/movements",
    "users/list_users": "/admin/users",
    "invoices/list_invoices": "/invoices",
    "invoices/search_invoices": "/admin/invoices",
    "audit/list_entries": "/admin/audit",
}
PARAMETERS = {
    "product_id": "id",
    "actor_id": "actor",
    "since": "from",
    "until": "to",
}  # SQL parameter → query parameter, where the names differ

Measure = Callable[[], float]  # milliseconds


class Shop:
    """A shop of one size: a superuser's connection to its database, and an HTTP connection to its service."""

    def __init__(self, size: int, conn: Any, address: tuple[str, int], token: str) -> None:
        self._size, self._conn, self._token = size, conn, token
        self._http = http.client.HTTPConnection(*address)

    def measures(self, name: str, filters: dict[str, Any], deep: bool) -> tuple[Measure, Measure]:
        """Two functions that time one page: in PostgreSQL, with a generic plan; and over HTTP."""
        self._http.close()  # the service may close an idle connection; the next request opens a new one
        given = asked(load_queries()[name], filters, self._size)
        cursor = deep_cursor(self._conn, load_queries()[name], given) if deep else None
        execute = self._prepare(name, asked(load_queries()[name], filters, self._size, cursor))
        path = self._path(name, filters, given, cursor)
        return lambda: self._conn.execute(execute).fetchone()[0][0]["Execution Time"], lambda: self._get(path)[0]

    def _prepare(self, name: str, given: dict[str, str]) -> str:
        self._conn.execute("SET plan_cache_mode = force_generic_plan")
        statement = f"list_{time.monotonic_ns()}"
        self._conn.execute(f"PREPARE {statement} AS {load_queries()[name].numbered()}")
        arguments = ", ".join(quote(given[name]) for name in load_queries()[name].names)
        return f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE {statement} ({arguments})"

    def _path(self, name: str, filters: dict[str, Any], given: dict[str, str], cursor: int | None) -> str:
        query = {PARAMETERS.get(filter_, filter_): given[filter_] for filter_ in filters}
        if name == "invoices/list_invoices":
            del query["user_id"]  # the token says whose invoices
        path = f"{PATHS[name.partition('_by_')[0]]}?"
        if cursor is not None:
            position = json.loads(self._get(path + urlencode(query | {"limit": 1}))[1])["next"]
            scope = base64.urlsafe_b64decode(position + "=" * (-len(position) % 4)).decode().rpartition(":")[0]
            query["after"] = make_cursor(scope, cursor)
        return path + urlencode(query)

    def _get(self, path: str) -> tuple[float, bytes]:
        started = time.perf_counter()
        self._http.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
        answer = self._http.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body.decode()}")
        return (time.perf_counter() - started) * 1000, body


@contextmanager
def open_shop(server: Postgres, folder: Path, size: int) -> Iterator[Shop]:
    """A shop of this size; its service runs in a thread, without Redis."""
    name = f"shop_{size}"
    server.create_database(name)
    with ExitStack() as stack:
        conn: Any = stack.enter_context(db.connect(server.url("postgres", name)))
        conn.execute((sql_folder() / "roles.sql").read_bytes())
        schema.create_schema(server.url("postgres", name), currency="USD", minor_digits=2)
        conn.execute("SET search_path = m2_be_project")
        fill(conn, size)
        session_id = conn.execute(
            f"INSERT INTO sessions (user_id, token_version, expires_at) VALUES ({BUSY}, 1, now() + interval '1 day') RETURNING id"
        ).fetchone()[0]
        conn.execute(f"UPDATE users SET role = 'admin' WHERE id = {BUSY}")
        settings = Settings(("127.0.0.1", 0), server.url("petstore_app", name), keys=folder, rate_limit=0)
        services = stack.enter_context(open_services(settings))
        service = Server(create_app(services), settings)
        thread = threading.Thread(target=service.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(service.stop)
        yield Shop(size, conn, service.address, services.tokens.issue(Caller(BUSY, "admin", session_id, 1)))


def compare(name: str, filters: dict[str, Any], deep: bool, shops: list[Shop]) -> list[str]:
    """The medians of a page, in PostgreSQL and over HTTP: small shop, big shop, ratio. The shops are timed in turn."""
    of_small, of_big = (shop.measures(name, filters, deep) for shop in shops)
    cells = []
    for small, big in zip(of_small, of_big, strict=True):
        rounds = [(small(), big()) for _ in range(ROUNDS)]
        before, after = map(median, zip(*rounds, strict=True))
        cells.append(f"{before:.2f} → {after:.2f} (× {after / before:.2f})")
    return cells


def print_row(name: str, filters: dict[str, Any], shops: list[Shop]) -> None:
    """Print the row of a list: pages 1 and 10,000, in PostgreSQL and over HTTP. A pair of filters has page 1 only."""
    pages = [False] if (name, filters) in PAIRS else [False, True]
    cells = [cell for deep in pages for cell in compare(name, filters, deep, shops)]
    words = ", ".join(f"`{key}` {value}" for key, value in filters.items())
    print(f"| `{name}` {words} | {' | '.join([*cells, '–', '–'][:4])} |", flush=True)


def main() -> None:
    with TemporaryDirectory(prefix="petstore-lists-") as home, ExitStack() as stack:
        folder = Path(home)
        folder.chmod(0o755)
        key_rotation.generate_key(folder)
        server = Postgres(folder, options=("fsync=off", "shared_buffers=256MB"))
        stack.callback(server.stop)
        server.start()
        shops = [stack.enter_context(open_shop(server, folder, size)) for size in (SMALL, BIG)]
        print("| list | page 1 in PostgreSQL, ms | page 1 over HTTP | page 10,000 in PostgreSQL | page 10,000 over HTTP |")
        print("|" + " --- |" * 5)
        for name, filters in [*LISTS, *PAIRS]:
            print_row(name, filters, shops)


main()
