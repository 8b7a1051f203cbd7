"""The processes of a program, and the memory of each."""

from __future__ import annotations

import re
from pathlib import Path

PROC = Path("/proc")


def processes(pid: int) -> list[int]:
    """The process and all its descendants, itself first."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # after the name, which may have spaces (proc(5))
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += sorted(children.get(one, []))
    return found


def workers(pid: int) -> list[int]:
    """The processes that answer requests: the descendants but the housekeeping, or the process itself if it has none."""
    found = processes(pid)[1:]
    return [one for one in found if b"housekeep" not in (PROC / str(one) / "cmdline").read_bytes()] or [pid]


def megabytes(pid: int) -> dict[str, float]:
    """rss: resident memory of the process; pss: the same, with shared pages divided by their users (proc(5), smaps_rollup)."""
    text = (PROC / str(pid) / "smaps_rollup").read_text()
    return {name.lower(): round(int(re.findall(rf"^{name}: +(\d+) kB", text, re.M)[0]) / 1024, 1) for name in ("Rss", "Pss")}
