"""What the time of the service is spent on, as py-spy sees it: many times a second, the stack of every thread that runs."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from petstore.console import Refused

RATE = 100  # looks a second
ROWS = 20


@contextmanager
def recording(pid: int, path: Path, seconds: int) -> Iterator[None]:
    """Look at a process and what it started for so many seconds, while the block loads it; the stacks go to the file."""
    spy = Path(sys.executable).with_name("py-spy")
    options = ["--subprocesses", "--function", "--format", "raw", "--rate", str(RATE), "--duration", str(seconds)]
    command = [spy, "record", "--pid", str(pid), *options, "--output", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as recorder:
        yield
        printed, _ = recorder.communicate()
    if recorder.returncode:
        raise Refused(f"py-spy could not look at the service: {printed.strip()}")


def table(stacks: Iterable[str]) -> str:
    """From stacks, `outer;inner count`, the functions that took most time by themselves and with all that they called, in %."""
    own, whole, every = Counter[str](), Counter[str](), 0
    for line in stacks:
        frames, _, number = line.rpartition(" ")
        stack, count = frames.split(";"), int(number)
        every += count
        own[stack[-1]] += count
        whole.update(dict.fromkeys(stack, count))
    lines = ["| itself % | with all it calls % | function |", "| ---: | ---: | --- |"]
    for name in sorted(whole, key=lambda name: (own[name], whole[name]), reverse=True)[:ROWS]:
        lines.append(f"| {100 * own[name] / every:.1f} | {100 * whole[name] / every:.1f} | `{name}` |")
    return "\n".join(lines)
