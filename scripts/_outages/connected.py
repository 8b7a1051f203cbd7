"""Which worker process serves which connection."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import memory
from programs import Program


def connected(program: Program) -> dict[int, int]:
    """The worker process by the client's port, of the connections that are open now (proc(5): /proc/net/tcp)."""
    ours = int(program.url.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {f"socket:[{row[9]}]": int(row[2].rpartition(":")[2], 16) for row in rows if row[1].endswith(f":{ours:04X}")}
    found = {}
    for pid in memory.workers(program.pids[0]):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if port := ports.get(os.readlink(file)):
                    found[port] = pid
    return found
