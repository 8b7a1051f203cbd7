"""An nginx in front of nodes, with docs/deploy/nginx.conf: only addresses, names and certificate are others."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.processes import end, free_port
from tests.waiting import eventually

CONF = Path(__file__).parents[1] / "docs/deploy/nginx.conf"
PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = "there is no nginx: apt-get install nginx"
_MAIN = """
daemon off;
{user}
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    gzip on;
    gzip_proxied any;
    gzip_types *;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/petstore.conf;
}}
"""


def write(folder: Path, changes: dict[str, str]) -> list[str]:
    """Write a configuration with docs/deploy/nginx.conf in it; the command that runs it. changes: regular expression → text."""
    text = CONF.read_text()
    for pattern, new in changes.items():
        text, count = re.subn(pattern, new, text)
        assert count, f"{CONF} does not say {pattern}"
    folder.mkdir(exist_ok=True)
    (folder / "petstore.conf").write_text(text)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
    return [PROGRAM or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


class Nginx:
    """As a context it runs for the block."""

    def __init__(self, folder: Path, nodes: Sequence[tuple[str, int]], more: Mapping[str, str] | None = None) -> None:
        """more: further changes to docs/deploy/nginx.conf, regular expression → text."""
        self.address, self._folder = ("127.0.0.1", free_port()), folder
        changes = {rf"10\.0\.0\.1{number}:8080": "{}:{}".format(*node) for number, node in enumerate(nodes, 1)}
        changes |= {r"listen 443 ssl;": "listen {}:{};".format(*self.address), r"ssl_certificate\w* .*;": ""}
        self._command = write(folder, {**changes, **(more or {})})

    def __enter__(self) -> Nginx:
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        eventually(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        assert end(self._process, signal.SIGTERM, 20) == 0

    @property
    def errors(self) -> str:
        """What it has logged of nodes that failed."""
        return "\n".join(line for line in (self._folder / "error.log").read_text().splitlines() if "[error]" in line)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "output").read_text()
        with suppress(OSError), socket.create_connection(self.address, 1):
            return True
        return False
