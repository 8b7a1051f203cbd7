"""Nodes of a shop: a `petstore serve` each, with two workers, on a port that stays the same; of this checkout or of another release."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests import activation
from tests.commands import environment
from tests.processes import end, free_port

ROOT = Path(__file__).parents[1]


class Node:
    """A node in a folder of its own. environ: its settings; release: the checkout whose code it runs.

    listener: the socket that it gets by socket activation; None: it listens on a port itself.
    """

    def __init__(
        self, folder: Path, environ: dict[str, str], release: Path = ROOT, listener: socket.socket | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.address = listener.getsockname() if listener else ("127.0.0.1", free_port())
        self.release, self._folder, self._listener = release, folder, listener
        listen = "{}:{}".format(*self.address)
        self._environ = environment(
            **environ, PETSTORE_LISTEN=listen, PETSTORE_HOME=str(folder), PETSTORE_WORKERS="2", PETSTORE_ACCESS_LOG="off"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Node:
        """Start it; returns when it is ready."""
        command, files, environ = [sys.executable, "-m", "petstore", "serve"], [], dict(self._environ)
        if self._listener:
            command, files = [*activation.launcher(self._listener), *command], [self._listener.fileno()]
            environ["LISTEN_FDS"] = "1"
        with (self._folder / "log").open("ab") as log:
            how: dict[str, Any] = {"cwd": self.release, "env": environ, "pass_fds": files, "stdout": log, "stderr": log}
            self.process = subprocess.Popen(command, **how)
        deadline = time.monotonic() + 60
        while self.ready().get("status") != "ready":
            assert self.process.poll() is None, f"it has ended: {self.log[-2000:]}"
            assert time.monotonic() < deadline, f"it does not get ready: {self.log[-2000:]}"
            time.sleep(0.05)
        return self

    def ready(self) -> dict[str, Any]:
        """What /readyz says; nothing if it does not answer. Not by tests.client: another release has another OpenAPI document."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/readyz")
            return dict(json.loads(connection.getresponse().read()))
        return {}

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Stop it; its exit status."""
        assert self.process is not None
        return end(self.process, how, 30)


@contextmanager
def started(*nodes: Node) -> Iterator[None]:
    """Start the nodes, and stop them after the block."""
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(_kill, node)
            node.start()
        yield


def _kill(node: Node) -> None:
    if node.process is not None and node.process.poll() is None:
        node.stop(signal.SIGKILL)
