"""The processes of a program, and the memory that each has."""

from __future__ import annotations

import re
from pathlib import Path

PROC = Path("/proc")


def processes(pid: int) -> list[int]:
    """The process and all that it started, itself first."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # proc(5); a name may hold blanks
        except OSError:  # it has just ended
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += sorted(children.get(one, []))
    return found


def workers(pid: int) -> list[int]:
    """Those that answer requests: what the process started, or itself when it started none."""
    return processes(pid)[1:] or [pid]


def megabytes(pid: int) -> dict[str, float]:
    """rss: all that the process has in memory; pss: with what it shares counted in parts (proc(5), smaps_rollup)."""
    text = (PROC / str(pid) / "smaps_rollup").read_text()
    return {name.lower(): round(int(re.findall(rf"^{name}: +(\d+) kB", text, re.M)[0]) / 1024, 1) for name in ("Rss", "Pss")}
