"""Two nodes of Patroni with etcd, and HAProxy before them: Debian's packages patroni, etcd-server, haproxy, python3-etcd."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import memory

from petstore import db
from petstore.db import schema
from petstore.embedded.postgres import DATABASE
from petstore.embedded.processes import Command, Server
from tests.processes import free_port
from tests.waiting import eventually

PROGRAMS = ("etcd", "patroni", "haproxy")
_SCOPE, _TTL, _LOOP, _RETRY = "petstore", 20, 2, 3  # seconds; Patroni takes no shorter ttl
_HAPROXY = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 30m
    timeout server 30m
listen primary
    bind 127.0.0.1:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
"""


def _binaries() -> Path | None:
    """The folder of the newest PostgreSQL of Debian."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(found, key=lambda folder: int(folder.parent.name), default=None)


def missing() -> str:
    """What is not installed; empty if everything is."""
    programs = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    return ", ".join(programs + ["postgresql"] * (_binaries() is None))


class Node:
    """A node: Patroni, which starts PostgreSQL. Runs as postgres if this is root."""

    def __init__(self, folder: Path, name: str, etcd: int) -> None:
        self.name, self.port, self.rest = name, free_port(), free_port()
        self._folder = folder
        self._config = folder / f"{name}.yml"
        self._config.write_text(json.dumps(self._settings(etcd)))
        self._server = Server(f"Patroni-{name}", folder / f"{name}.log")

    def start(self) -> None:
        _start(self._server, [shutil.which("patroni") or "patroni", self._config])

    def stop(self) -> None:
        self.signal(signal.SIGCONT)
        self._server.stop(signal.SIGTERM, signal.SIGKILL)

    def signal(self, number: int) -> None:
        """To Patroni and its PostgreSQL, all processes."""
        for pid in memory.processes(self._server.pid or 0) + self._postgres():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def role(self) -> str:
        """As its REST interface tells: primary, replica, or empty."""
        with suppress(OSError, urllib.error.URLError, ValueError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/patroni", timeout=2) as answer:
                found = json.load(answer)
            return "" if found.get("state") != "running" else {"master": "primary"}.get(found["role"], found["role"])
        return ""

    def _postgres(self) -> list[int]:
        """Patroni starts PostgreSQL in a session of its own, and it outlives Patroni."""
        file = self._folder / self.name / "postmaster.pid"
        return memory.processes(int(file.read_text().split()[0])) if file.exists() else []

    def _settings(self, etcd: int) -> dict[str, Any]:
        host = "127.0.0.1"
        return {
            "scope": _SCOPE,
            "name": self.name,
            "restapi": {"listen": f"{host}:{self.rest}", "connect_address": f"{host}:{self.rest}"},
            "etcd3": {"host": f"{host}:{etcd}"},
            "bootstrap": {
                "dcs": {"ttl": _TTL, "loop_wait": _LOOP, "retry_timeout": _RETRY, "synchronous_mode": True},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, {"auth": "trust"}],
                "pg_hba": [f"host all all {host}/32 trust", f"host replication all {host}/32 trust", "local all all trust"],
            },
            "postgresql": {
                "listen": f"{host}:{self.port}",
                "connect_address": f"{host}:{self.port}",
                "data_dir": str(self._folder / self.name),
                "bin_dir": str(_binaries()),
                "pgpass": str(self._folder / f"{self.name}.pgpass"),
                "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "postgres"}},
                "parameters": {"unix_socket_directories": str(self._folder), "fsync": "off"},
            },
        }


class Cluster:
    """The two nodes, and HAProxy's port, behind which is the primary."""

    def __init__(self, nodes: list[Node], port: int) -> None:
        self.nodes, self._port = nodes, port

    @property
    def app_url(self) -> str:
        return f"postgresql://petstore_app@127.0.0.1:{self._port}/{DATABASE}"

    @property
    def owner_url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.primary().port}/{DATABASE}"

    def primary(self) -> Node:
        found: list[Node] = []
        eventually(lambda: bool(found.extend(node for node in self.nodes if node.role() == "primary") or found), 60)
        return found[0]

    def other(self, node: Node) -> Node:
        return next(one for one in self.nodes if one is not node)


def switch_over(cluster: Cluster) -> None:
    before = cluster.primary()
    asked = json.dumps({"leader": before.name, "candidate": cluster.other(before).name}).encode()
    urllib.request.urlopen(f"http://127.0.0.1:{before.rest}/switchover", asked, timeout=60).close()


def kill_node(cluster: Cluster) -> None:
    before = cluster.primary()
    before.signal(signal.SIGKILL)
    eventually(lambda: cluster.other(before).role() == "primary", 60)


def freeze_node(cluster: Cluster) -> None:
    before = cluster.primary()
    before.signal(signal.SIGSTOP)
    eventually(lambda: cluster.other(before).role() == "primary", 60)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """The cluster with an empty shop, for the block."""
    etcd, port = free_port(), free_port()
    _own(folder)
    with ExitStack() as stack:
        _etcd(stack, folder, etcd)
        nodes = [Node(folder, name, etcd) for name in ("one", "two")]
        for node in nodes:
            stack.callback(node.stop)
            node.start()
        cluster = Cluster(nodes, port)
        _haproxy(stack, folder, nodes, port)
        first = cluster.primary()
        eventually(lambda: cluster.other(first).role() in ("replica", "sync_standby"), 60)
        with db.connect(f"postgresql://postgres@127.0.0.1:{first.port}/postgres") as conn:
            conn.execute(f"CREATE DATABASE {DATABASE}".encode())
        schema.create_schema(cluster.owner_url, currency="USD", minor_digits=2)
        eventually(lambda: _synchronous(cluster), 60)
        yield cluster


def _synchronous(cluster: Cluster) -> bool:
    with db.connect(cluster.owner_url) as conn:
        row = conn.execute("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone()
        return row is not None and row[0] == 1


def _etcd(stack: ExitStack, folder: Path, port: int) -> None:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    server = Server("etcd", folder / "etcd.log")
    stack.callback(server.stop, signal.SIGTERM, signal.SIGKILL)
    _start(server, [
        shutil.which("etcd") or "etcd", "--name", "etcd", "--data-dir", folder / "etcd", "--listen-client-urls", client,
        "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"etcd={peer}",
    ])  # fmt: skip
    server.wait_until(lambda: _answers(f"{client}/health"))


def _haproxy(stack: ExitStack, folder: Path, nodes: list[Node], port: int) -> None:
    lines = [f"    server {node.name} 127.0.0.1:{node.port} check port {node.rest}" for node in nodes]
    (folder / "haproxy.cfg").write_text(_HAPROXY.format(port=port) + "\n".join(lines) + "\n")
    server = Server("HAProxy", folder / "haproxy.log")
    stack.callback(server.stop, signal.SIGTERM, signal.SIGKILL)
    _start(server, [shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", folder / "haproxy.cfg"])


def _start(server: Server, command: Command) -> None:
    """As postgres, if this is root."""
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PETSTORE_", "PYTHON", "VIRTUAL"))}
    server.start(command, cwd="/", env=kept, **account)


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)


def _answers(url: str) -> bool:
    with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310
        return answer.status == 200
    return False
