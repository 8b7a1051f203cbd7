"""A PgBouncer before a PostgreSQL, with docs/deploy/pgbouncer.ini; and which versions of it this machine has."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from petstore.embedded.postgres import DATABASE, _server_account
from tests.processes import end, free_port
from tests.standby import Server
from tests.waiting import eventually

INI = Path(__file__).parents[1] / "docs/deploy/pgbouncer.ini"
PASSWORD = "between us"
TRANSACTIONS = (1, 21)  # the first version that keeps prepared statements in transaction mode


@cache
def programs() -> dict[tuple[int, int], str]:
    """Each version of PgBouncer that is installed: the distribution's, and what .ci/run has built."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/bin"]
    found = {}
    for path in (path for folder in folders for path in sorted(Path(folder).glob("pgbouncer*")) if os.access(path, os.X_OK)):
        said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        if match := re.match(r"PgBouncer (\d+)\.(\d+)", said):
            found[int(match[1]), int(match[2])] = str(path)
    return found


def _newer() -> list[str]:
    return [path for version, path in sorted(programs().items()) if version >= TRANSACTIONS]


def program(mode: str) -> str:
    """The newest for transaction mode, the oldest for session mode. Without one the test is skipped."""
    fits = _newer()[-1:] if mode == "transaction" else [path for _, path in sorted(programs().items())][:1]
    if not fits:
        pytest.skip(f"there is no PgBouncer{'' if mode == 'session' else ' 1.21 or newer'} here")
    return fits[0]


class PgBouncer:
    """A pooler in `folder` (tests.databases.open_folder) before `server`. settings: of pgbouncer.ini, others than the file has."""

    def __init__(self, folder: Path, server: Server, mode: str = "transaction", **settings: Any) -> None:
        self._program, self._folder, self.port = program(mode), folder, free_port()
        self._ini = folder / "pgbouncer.ini"
        users = folder / "userlist.txt"
        users.write_text("".join(f'"{role}" "{PASSWORD}"\n' for role in ("petstore_app", "petstore_pooler")))
        others = {"pool_mode": mode, "listen_port": self.port, "auth_file": users, "unix_socket_dir": "", **settings}
        text = re.sub("host=db port=5432", f"host=127.0.0.1 port={server.port}", INI.read_text())
        for name in (*others, *(["max_prepared_statements"] if self._program not in _newer() else [])):
            text = re.sub(f"^{name} = .*\n", "", text, flags=re.MULTILINE)
        self._ini.write_text(text + "".join(f"{name} = {value}\n" for name, value in others.items()))
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, role: str = "petstore_app") -> str:
        return f"postgresql://{role}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        account = _server_account() if os.geteuid() == 0 else None  # it refuses to run as root
        who: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, self._ini], stdout=log, stderr=log, cwd="/", **who)
        eventually(self._answers)

    def stop(self) -> None:
        """At once: every connection is cut."""
        assert self._process is not None
        end(self._process, signal.SIGKILL, 10)

    def ask(self, command: str) -> list[dict[str, Any]]:
        """The answer of its console (SHOW POOLS, RECONNECT ...)."""
        console = self.url("petstore_pooler").replace(f"/{DATABASE}", "/pgbouncer")
        with psycopg.connect(console, autocommit=True, row_factory=psycopg.rows.dict_row) as conn:
            cursor = conn.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def log(self) -> str:
        return (self._folder / "pgbouncer.log").read_text()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("SHOW VERSION"))
        except psycopg.OperationalError:
            assert self._process is not None
            assert self._process.poll() is None, self.log
            time.sleep(0.05)
            return False


@contextmanager
def pooled(folder: Path, server: Server, mode: str = "transaction", **settings: Any) -> Iterator[PgBouncer]:
    """A PgBouncer before the server, for the block."""
    one = PgBouncer(folder, server, mode, **settings)
    try:
        one.start()
        yield one
    finally:
        one.stop()
