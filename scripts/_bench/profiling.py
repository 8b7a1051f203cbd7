"""What Python does in the service, as py-spy sees it: many times a second, the stack of the thread that holds the interpreter.

Only one thread of a process can: this is what the core of a worker is spent on. Waiting for PostgreSQL and Redis is not in it.
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

RATE = 100  # looks a second
ROWS = 12


@contextmanager
def recording(pid: int, path: Path, seconds: int) -> Iterator[None]:
    """Look at a process and what it started for so many seconds, while the block loads it; the stacks go to the file."""
    spy = Path(sys.executable).with_name("py-spy")
    options = ["--subprocesses", "--gil", "--format", "raw", "--rate", str(RATE), "--duration", str(seconds)]
    command = [spy, "record", "--pid", str(pid), *options, "--output", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as recorder:
        yield
        printed, _ = recorder.communicate()
    if recorder.returncode:
        raise CommandError(f"py-spy could not look at the service: {printed.strip()}")


def table(stacks: Iterable[str], looks: int) -> str:
    """From stacks, `outer (file:line);inner (file:line) count`, what took most: functions alone, ours with all that they call.

    In % of all stacks; looks: how many stacks there are of one interpreter that is never idle.
    """
    own, whole, every = Counter[str](), Counter[str](), 0
    for line in stacks:
        frames, _, number = line.rpartition(" ")
        stack, count = re.sub(r":\d+\)", ")", frames).split(";"), int(number)
        every += count
        own[stack[-1]] += count
        whole.update(dict.fromkeys(stack, count))
    ours = Counter({name: count for name, count in whole.items() if "(petstore/" in name})
    names = dict.fromkeys(name for counts in (own, ours) for name, _ in counts.most_common(ROWS))
    lines = [
        f"{every / looks:.2f} interpreters were busy.",
        "",
        "| itself % | with all it calls % | function |",
        "| ---: | ---: | --- |",
    ]
    lines += [f"| {100 * own[name] / every:.1f} | {100 * whole[name] / every:.1f} | `{name}` |" for name in names]
    return "\n".join(lines)
