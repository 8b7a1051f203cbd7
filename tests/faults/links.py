"""The service's way to PostgreSQL, and what stands in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.proxy import Proxy


@contextmanager
def proxied(url: str, folder: Path) -> Iterator[tuple[Proxy, str]]:
    """A proxy before a database for the block, and the URL that leads through it."""
    host, port = Path(str(conninfo_to_dict(url).get("host", "localhost"))), int(conninfo_to_dict(url).get("port") or 5432)
    if host.is_absolute():
        with Proxy(folder / f".s.PGSQL.{port}", host / f".s.PGSQL.{port}") as proxy:
            yield proxy, make_conninfo(url, host=str(folder))
    else:
        with Proxy(("127.0.0.1", 0), (str(host), port)) as proxy:
            yield proxy, make_conninfo(url, host=proxy.address[0], port=proxy.address[1])


def with_options(url: str, **settings: str) -> str:
    """The URL, with settings for its sessions."""
    given = [f"-c {name}={value}".replace(" ", "\\ ").replace("-c\\ ", "-c ") for name, value in settings.items()]
    return make_conninfo(url, options=" ".join([str(conninfo_to_dict(url).get("options", "")), *given]).strip())
