"""Socket activation as systemd does it: the test has the listening socket, and the service gets it as file 3 (sd_listen_fds(3))."""

from __future__ import annotations

import socket
import sys
from typing import Any

# The number of the process is known only in it.
_LAUNCHER = """
import os, sys
file, *command = sys.argv[1:]
os.dup2(int(file), 3)
if file != "3":
    os.close(int(file))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(command[0], command)
"""


def listening(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """What a socket unit opens."""
    return socket.create_server((host, port), backlog=4096)


def launcher(listener: socket.socket) -> tuple[str, ...]:
    """What has to stand before the command of a service."""
    return (sys.executable, "-c", _LAUNCHER, str(listener.fileno()))


def how(listener: socket.socket, **environ: str) -> dict[str, Any]:
    """Options of tests.cli.test_supervisor.Service for a service that gets the socket."""
    command = (*launcher(listener), sys.executable, "-m", "petstore")
    named = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "petstore.socket", **environ}
    return {"command": command, "pass_fds": [listener.fileno()], "environ": named}
