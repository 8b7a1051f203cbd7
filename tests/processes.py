"""Processes that a test has started, and those that these have started."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path


def children(parent: int) -> list[int]:
    """What runs of the processes that this one has started."""
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _state(path)[1] == parent]


def is_alive(pid: int) -> bool:
    """Whether it runs: one that has ended may stay in the list until its parent asks."""
    return _state(Path(f"/proc/{pid}/stat"))[0] not in ("", "Z", "X")


def workers(service: int) -> list[int]:
    """The processes in which a `petstore serve` serves."""
    return [pid for pid in children(service) if b"\0worker\0" in _command(pid)]


def housekeepers(service: int) -> list[int]:
    """The housekeeping processes of a `petstore serve`."""
    return [pid for pid in children(service) if b"\0housekeep\0" in _command(pid) and is_alive(pid)]


def connections(pid: int, port: int) -> int:
    """How many open connections of clients to a port a process has (proc(5): /proc/net/tcp; state 1 is ESTABLISHED)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    of_port = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    found = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += os.readlink(file) in of_port
    return found


def _command(pid: int) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""  # it has ended meanwhile


def kill_tree(parent: int) -> None:
    """kill -9 of a process and all that it has started; returns when none is left."""
    os.kill(parent, signal.SIGSTOP)
    while _state(Path(f"/proc/{parent}/stat"))[0] not in ("T", "Z", "X", ""):  # until then it may start some, or see some end
        time.sleep(0.001)
    processes = [parent, *children(parent)]
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    while any(is_alive(pid) for pid in processes):
        time.sleep(0.005)


def end(process: subprocess.Popen, how: int, seconds: float) -> int:
    """Send a service the signal, or kill it with its workers; its exit status."""
    if how != signal.SIGKILL:
        process.send_signal(how)
    elif process.poll() is None:
        kill_tree(process.pid)
    return process.wait(seconds)


def free_port() -> int:
    """A port below those that the system gives to clients: none of theirs may take it while the service is down."""
    while True:
        port = random.randrange(15_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _state(path: Path) -> tuple[str, int]:
    """The state and the parent of a process (proc(5): the fields after its name)."""
    with suppress(OSError):
        state, parent = path.read_text().rpartition(")")[2].split()[:2]
        return state, int(parent)
    return "", 0
