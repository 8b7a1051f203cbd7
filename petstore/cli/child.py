"""A child process of the supervisor of `petstore serve`, and the socket pair between the two: here are both of its ends."""

from __future__ import annotations

import logging
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from petstore.cli.output import report

# A child is a new program, not a fork: a reload runs the code that is installed by then. -P keeps Python from importing from the
# current folder, unless the supervisor itself was started so (by `python -m petstore`).
_SAFE_PATH = ("-P",) if sys.version_info >= (3, 11) and sys.path[0] != os.getcwd() else ()
COMMAND: tuple[str, ...] = (sys.executable, *_SAFE_PATH, "-m", "petstore")
START_SECONDS = 30  # a child that is not ready by then is killed
_READY = b"1"
# What the supervisor expects of a child. Not an option: after a reload, child and supervisor may be of different releases, and
# each release ignores what it does not know of this variable.
_VARIABLE = "_PETSTORE_SUPERVISOR"
_REASON = "reason"  # it tells the supervisor why it cannot start, and not the log: a child that is tried again would repeat it
_DATABASE = "database"  # it gets ready only if it can reach the database


class Child:
    """A process, as its supervisor sees it, and a socket pair to it, `pipe`. The child writes a byte when it is ready.

    Each side sees the end of the other one by the end of the pipe. arguments: of `petstore`; the file numbers that the child
    inherits come after them, that of its end of the pipe last. needs_database: it may get ready only with a database.
    """

    def __init__(
        self, arguments: Sequence[str], files: Sequence[int], environ: Mapping[str, str], needs_database: bool = False
    ) -> None:
        self.ready = self.stopping = False
        self.outdated = False  # started before the reload that is under way
        self.deadline = time.monotonic() + START_SECONDS  # to get ready, or to stop; it is killed after that
        self._reason = ""
        self.pipe, theirs = socket.socketpair()
        with theirs:
            files = (*files, theirs.fileno())
            # In its own session, so that Ctrl-C and the end of the terminal reach the supervisor only.
            self.process = subprocess.Popen(
                [*COMMAND, *arguments, *map(str, files)],
                env={**environ, _VARIABLE: f"{_REASON} {_DATABASE if needs_database else ''}"},
                stdin=subprocess.DEVNULL,
                pass_fds=files,
                start_new_session=True,
            )

    def listen(self) -> bool:
        """Read what it has written to the pipe, and note it; False if it has ended."""
        told = self.pipe.recv(65_536)
        if told == _READY:
            self.ready, self.deadline = True, math.inf
        elif told:
            self._reason = told.decode(errors="replace")
        return bool(told)

    def stop(self, number: int, seconds: float) -> None:
        """Send the signal; it is killed after `seconds`.

        To a worker, SIGTERM means to drain and stop, SIGINT to stop without the drain, SIGHUP to finish with its clients.
        """
        self.stopping, self.deadline = True, time.monotonic() + seconds
        self.process.send_signal(number)

    def kill_if_overdue(self) -> None:
        """Kill it if it is past its deadline."""
        if time.monotonic() > self.deadline:
            if not self.stopping:
                self._reason = f"it was not ready after {START_SECONDS} s"
            self.process.kill()

    def wait(self) -> tuple[str, str]:
        """When it has ended: how, and why, which is the same if it has not told."""
        self.pipe.close()
        status = self.process.wait()
        how = f"killed by signal {-status}" if status < 0 else f"status {status}"
        return how, self._reason or how


class Restarts:
    """When a child that died may be started again, and what is said of children that do not get ready: each reason once.

    There is no delay after a first death, then an exponential one. name: of the kind of child, for messages.
    """

    MAX_DELAY = 4.0  # seconds
    RESET_SECONDS = 10  # without a death, after which the next restart is immediate

    def __init__(self, name: str) -> None:
        self._name = name
        self._delay = self._died_at = 0.0
        self._told = ""  # why the last ones did not get ready

    @property
    def due(self) -> bool:
        """Whether the next one may be started."""
        return time.monotonic() >= self._died_at + self._delay

    def died(self, pid: int, how: str) -> None:
        """One that was ready has died."""
        self._wait()
        report(f"{self._name} {pid} died ({how}): starting another", logging.WARNING)

    def failed(self, why: str, told: bool = False) -> None:
        """One did not get ready. told: the operator knows why, or need not know."""
        self._wait()
        if why != self._told and not told:
            report(f"a new {self._name} process does not get ready: {why}; it is tried again until it does", logging.ERROR)
        self._told = why

    def succeeded(self) -> None:
        """One got ready."""
        if self._told:
            report(f"a new {self._name} process is ready again")
        self._told = ""

    def forget(self) -> None:
        """Tell a reason again even if it has been told."""
        self._told = ""

    def _wait(self) -> None:
        now = time.monotonic()
        again = now < self._died_at + self.RESET_SECONDS
        self._delay = min(self._delay * 2 + 0.25, self.MAX_DELAY) if again else 0.0
        self._died_at = now


class Supervised:
    """The supervisor, as a child sees it. pipe: the file number of the child's end; None: it has no supervisor."""

    def __init__(self, pipe: int | None) -> None:
        self._expected = os.environ.pop(_VARIABLE, "").split() if pipe is not None else []
        # A copy, which is open until the process has ended: so the supervisor is told why even after `pipe` was closed.
        self._pipe = os.dup(pipe) if pipe is not None else -1

    @property
    def needs_database(self) -> bool:
        """Whether this process may get ready only if it can reach the database."""
        return _DATABASE in self._expected

    def ready(self) -> None:
        """Tell it that this process is ready. What goes wrong from now on is told to the log."""
        self._expected = []
        os.write(self._pipe, _READY)

    def told(self, reason: str) -> bool:
        """Tell it why this process cannot start; False if the log has to be told."""
        if _REASON not in self._expected:
            return False
        with suppress(OSError):  # the supervisor is gone: so nobody asks
            os.write(self._pipe, reason.replace("\n", "; ").encode())
        return True
