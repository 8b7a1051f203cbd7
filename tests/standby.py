"""A primary PostgreSQL and its streaming standby, each on a port of 127.0.0.1 that stays the same, to be stopped, frozen and promoted."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from petstore import db
from petstore.db import schema
from petstore.embedded import Postgres
from petstore.embedded.postgres import DATABASE
from petstore.embedded.processes import run
from tests.processes import children, free_port, is_alive, kill_tree
from tests.waiting import eventually

# The data survives kill -9 of every process, not a power cut. wal_keep_size: a standby that was cut off finds what it missed.
OPTIONS = ("fsync=off", "full_page_writes=off", "synchronous_commit=on", "wal_keep_size=256MB", "max_connections=100")
_ACCESS = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"


class Server(Postgres):
    """A PostgreSQL server in a folder of its own: a primary, or the standby of `primary` until it is promoted."""

    def __init__(self, folder: Path, *options: str, primary: Server | None = None) -> None:
        folder.mkdir(mode=0o755, exist_ok=True)
        self.port, self.name, self._primary = free_port(), folder.name, primary
        super().__init__(folder, options=(*OPTIONS, *options, "listen_addresses=127.0.0.1", f"port={self.port}"))

    def url(self, role: str, database: str = DATABASE) -> str:
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def ask(self, query: str) -> Any:
        """The only value of a query, as a superuser."""
        with db.connect(self.url("postgres", "postgres")) as conn:
            row = conn.execute(query.encode()).fetchone()
            return row and row[0]

    def set(self, name: str, value: str) -> None:
        """Change a setting of the running server, for good."""
        with db.connect(self.url("postgres", "postgres")) as conn:
            conn.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            conn.execute("SELECT pg_reload_conf()")
        eventually(lambda: bool(self.ask(f"SELECT current_setting('{name}') = '{value}'")))

    def kill(self) -> None:
        """kill -9 of the server and all its backends."""
        kill_tree(self.pid or 0)

    def freeze(self) -> None:
        """Nothing in it runs until `thaw`; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def promote(self) -> None:
        """End the recovery of a standby; returns when it takes writes. It replays first what it has received."""
        assert self.ask("SELECT pg_promote(true, 30)"), "it was not promoted in 30 s"

    def hold_receiving(self) -> None:
        """A standby receives nothing from now on: what the primary commits is lost if this one is promoted."""
        self.set("primary_conninfo", "")
        eventually(lambda: self.ask("SELECT count(*) FROM pg_stat_wal_receiver") == 0)

    def resume_receiving(self) -> None:
        assert self._primary is not None
        self.set("primary_conninfo", self._conninfo(self._primary))

    def hold_replay(self) -> None:
        """A standby goes on receiving, and shows nothing newer. A promotion replays it all the same."""
        self.ask("SELECT pg_wal_replay_pause()")
        eventually(lambda: self.ask("SELECT pg_get_wal_replay_pause_state()") == "paused")

    def resume_replay(self) -> None:
        self.ask("SELECT pg_wal_replay_resume()")

    def follow(self, primary: Server) -> None:
        """Become the standby of `primary`, from a fresh copy of it. This server must be stopped."""
        shutil.rmtree(self._data)
        self._primary = primary
        self.start()

    def _initialise(self) -> None:
        if self._primary is None:
            super()._initialise()
            with (self._data / "pg_hba.conf").open("a") as access:
                access.write(_ACCESS)
            return
        self._data.mkdir(mode=0o700)
        self._set_owner(self._data)
        command = [
            self._binaries / "pg_basebackup", "--pgdata", self._data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync",
            "--dbname", self._conninfo(self._primary),
        ]  # fmt: skip
        status, printed = run(command, **self._as_account())
        assert status == 0, printed

    def _conninfo(self, primary: Server) -> str:
        return f"host=127.0.0.1 port={primary.port} user=postgres application_name={self.name}"

    def _signal(self, number: int) -> None:
        for pid in (self.pid or 0, *children(self.pid or 0)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class Pair:
    """A primary with an empty shop in US dollars, and its streaming standby. `primary` and `standby` change places in a switchover."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.primary = Server(folder / "one", *options)
        self.standby = Server(folder / "two", *options, primary=self.primary)

    def url(self, role: str) -> str:
        """Both hosts: libpq takes the one that can be written to."""
        ports = sorted((self.primary.port, self.standby.port))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://{role}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def be_synchronous(self) -> None:
        """From now on a COMMIT waits until the standby has it."""
        self.primary.set("synchronous_standby_names", self.standby.name)
        eventually(lambda: self.primary.ask("SELECT sync_state FROM pg_stat_replication") == "sync")

    def catch_up(self) -> None:
        """Wait until the standby has replayed what the primary has committed."""
        written = self.primary.ask("SELECT pg_current_wal_lsn()")
        eventually(lambda: bool(self.standby.ask(f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn")))

    def fail_over(self) -> None:
        """Promote the standby; from then on it is `primary`. The old one stays as it is, also if it runs."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def switch_over(self) -> None:
        """Stop the primary, which first sends its standby all it has, and promote that."""
        self.primary.stop()
        self.fail_over()

    def rejoin(self) -> None:
        """The server that is `standby` now follows the new primary."""
        if self.standby.pid and is_alive(self.standby.pid):
            self.standby.thaw()
            self.standby.stop()
        self.standby.follow(self.primary)


@contextmanager
def pair(folder: Path, *options: str, synchronous: bool = False) -> Iterator[Pair]:
    """A primary and its standby in `folder` (tests.databases.open_folder), which run for the block. options: `name=value`."""
    servers = Pair(folder, *options)
    both = (servers.primary, servers.standby)
    try:
        servers.primary.start()
        servers.primary.create_database()
        schema.create_schema(servers.primary.url("postgres"), currency="USD", minor_digits=2)
        servers.standby.start()
        servers.catch_up()
        if synchronous:
            servers.be_synchronous()
        yield servers
    finally:
        for server in both:
            server.thaw()
            server.stop()
