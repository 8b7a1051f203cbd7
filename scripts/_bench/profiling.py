"""CPU profile of the service: py-spy samples the stack of the thread that holds the GIL, many times a second.

It shows what the core of a worker is spent on. Waiting for PostgreSQL and Redis is not in it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from petstore.cli.output import CommandError

RATE = 100  # samples a second
ROWS = 12


@contextmanager
def recording(pid: int, path: Path, seconds: int) -> Iterator[None]:
    """Sample a process and its descendants for so many seconds, while the block loads it. The stacks go to the file."""
    spy = Path(sys.executable).with_name("py-spy")
    options = ["--subprocesses", "--gil", "--format", "raw", "--rate", str(RATE), "--duration", str(seconds)]
    command = [spy, "record", "--pid", str(pid), *options, "--output", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as recorder:
        yield
        printed, _ = recorder.communicate()
    if recorder.returncode:
        raise CommandError(f"py-spy could not profile the service: {printed.strip()}")


def table(stacks: Iterable[str], samples: int) -> str:
    """The most expensive functions, in % of all samples. stacks: lines `outer (file:line);inner (file:line) count`.

    samples: the number of samples of a process that is never idle.
    """
    own, cumulative, total = Counter[str](), Counter[str](), 0
    for line in stacks:
        frames, _, number = line.rpartition(" ")
        stack, count = re.sub(r":\d+\)", ")", frames).split(";"), int(number)
        total += count
        own[stack[-1]] += count
        cumulative.update(dict.fromkeys(stack, count))
    ours = Counter({name: count for name, count in cumulative.items() if "(petstore/" in name})
    names = dict.fromkeys(name for counts in (own, ours) for name, _ in counts.most_common(ROWS))
    lines = [
        f"{total / samples:.2f} interpreters were busy.",
        "",
        "| own % | with callees % | function |",
        "| ---: | ---: | --- |",
    ]
    lines += [f"| {100 * own[name] / total:.1f} | {100 * cumulative[name] / total:.1f} | `{name}` |" for name in names]
    return "\n".join(lines)
