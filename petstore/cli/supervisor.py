"""The processes of `petstore serve`, workers on one socket and housekeeping: restarted, replaced, drained at the end."""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from petstore.cli.output import CommandError, report
from petstore.server.limits import DRAIN_SECONDS, RETIRE_SECONDS

# A new program, not a fork: a reload runs what is installed by then. What lies in the current folder is not imported, unless
# we were started so that it is (by `python -m petstore`).
_SAFELY = ("-P",) if sys.version_info >= (3, 11) and sys.path[0] != os.getcwd() else ()
COMMAND: tuple[str, ...] = (sys.executable, *_SAFELY, "-m", "petstore")
_START_SECONDS = 30  # that a process may take until it is ready
_STOP_SECONDS = DRAIN_SECONDS + 5  # after which a process that was told to end is killed
_LONGEST_PAUSE = 4.0  # seconds before another is started, where one after the other dies
_OFTEN_SECONDS = 10  # between two deaths that count as one after the other
_POLL_SECONDS = 0.2


class Child:
    """One process. It says through `line` that it is ready, and by its end that it has died; so it learns of our death, too.

    arguments: of `petstore`; the numbers of the files that it gets, and of its end of `line`, come after them.
    """

    def __init__(self, arguments: Sequence[str], files: Sequence[int], environ: Mapping[str, str]) -> None:
        self.ready = self.leaving = False
        self.old = False  # to be replaced
        self.until = time.monotonic() + _START_SECONDS  # when it is overdue with what it is doing
        self.line, theirs = socket.socketpair()
        with theirs:
            files = (*files, theirs.fileno())
            # In a session of its own: Ctrl-C and the end of a terminal come to us alone.
            self.process = subprocess.Popen(
                [*COMMAND, *arguments, *map(str, files)],
                env=environ,
                stdin=subprocess.DEVNULL,
                pass_fds=files,
                start_new_session=True,
            )

    def tell(self, number: int, seconds: float) -> None:
        """Have it end within so many seconds: drained (SIGTERM), or without cutting off any client (SIGHUP)."""
        self.leaving, self.until = True, time.monotonic() + seconds
        self.process.send_signal(number)


class _Pause:
    """What ends is replaced at once; but where one dies after the other, with longer and longer pauses."""

    def __init__(self) -> None:
        self._seconds = self._begun = 0.0

    def begin(self) -> None:
        now = time.monotonic()
        again = now < self._begun + _OFTEN_SECONDS
        self._seconds = min(self._seconds * 2 + 0.25, _LONGEST_PAUSE) if again else 0.0
        self._begun = now

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._begun + self._seconds


class Supervisor:
    """So many workers on a socket, and a housekeeping process beside them, once they are ready.

    `run()` serves until `stop()`; that and `reload()` are safe in a signal handler.
    """

    def __init__(self, listener: socket.socket, count: int, environ: Mapping[str, str]) -> None:
        self._listener, self._count, self._environ = listener, count, environ
        self._workers: list[Child] = []  # by age
        self._housekeeping: Child | None = None
        self._selector = selectors.DefaultSelector()
        self._stopping = self._reloading = self._announced = False
        self._pause, self._housekeeping_pause = _Pause(), _Pause()

    def stop(self) -> None:
        """Drain all and end."""
        self._stopping = True

    def reload(self) -> None:
        """Replace all, one after the other."""
        self._reloading = True

    def run(self, announce: Callable[[], object]) -> None:
        """Serve; announce() is called when all are ready. Refused when none gets ready."""
        try:
            while not self._stopping:
                self._keep()
                self._look()
                if not self._announced and len(self._ready()) == self._count:
                    self._announced = True
                    announce()
        finally:
            self._end()

    def _ready(self) -> list[Child]:
        return [worker for worker in self._workers if worker.ready and not worker.leaving]

    def _keep(self) -> None:
        """See to it that there are as many as there should be: one more while old ones are replaced, one after the other."""
        if self._reloading:
            self._reloading = False
            report("reloading")
            for worker in self._workers:
                worker.old = True
            if self._housekeeping:
                self._housekeeping.tell(signal.SIGTERM, _STOP_SECONDS)
        staying = [worker for worker in self._workers if not worker.leaving]
        old = [worker for worker in staying if worker.old]
        if old and len(self._ready()) > self._count:
            old[0].tell(signal.SIGHUP, RETIRE_SECONDS + _STOP_SECONDS)
        missing = len(staying) < self._count
        due = len(staying) == self._count == len(self._workers) and bool(old)
        if (missing or due) and self._pause.over:
            started = self._start(["worker"], [self._listener.fileno()], self._pause)
            self._workers += [started] if started else []
        if self._announced and not self._housekeeping and self._housekeeping_pause.over:
            self._housekeeping = self._start(["housekeep", "--line"], [], self._housekeeping_pause)

    def _start(self, arguments: Sequence[str], files: Sequence[int], pause: _Pause) -> Child | None:
        try:
            child = Child(arguments, files, self._environ)
        except OSError as error:
            report(f"no {arguments[0]} process can be started: {error.strerror}")
            pause.begin()
            return None
        self._selector.register(child.line, selectors.EVENT_READ, child)
        return child

    def _children(self) -> list[Child]:
        return [*self._workers, *([self._housekeeping] if self._housekeeping else [])]

    def _look(self) -> None:
        """Take what the processes tell, and kill what is overdue."""
        for key, _ in self._selector.select(_POLL_SECONDS):
            if key.data.line.recv(1):
                key.data.ready, key.data.until = True, math.inf
            else:
                self._bury(key.data)
        for child in self._children():
            if time.monotonic() > child.until:
                child.process.kill()

    def _bury(self, child: Child) -> None:
        self._selector.unregister(child.line)
        child.line.close()
        status = child.process.wait()
        if child is not self._housekeeping:
            self._workers.remove(child)
            self._worker_ended(child, status)
            return
        self._housekeeping = None
        if not child.leaving:
            report(f"housekeeping {child.process.pid} has ended by itself (status {status}): another takes its place")
            self._housekeeping_pause.begin()

    def _worker_ended(self, worker: Child, status: int) -> None:
        """Say what the end of a worker means."""
        replaced = [one for one in self._workers if one.old]
        if worker.leaving:
            if worker.old and not replaced and not self._stopping:
                report("reloaded")
            return
        if not worker.ready and not self._announced and not self._ready():
            raise CommandError(f"no worker gets ready (status {status})")  # its own words stand above
        if worker.ready or worker.old or not replaced:
            report(f"worker {worker.process.pid} has ended by itself (status {status}): another takes its place")
        else:
            report(f"the new worker does not get ready (status {status}): the old ones serve on")
            for one in replaced:
                one.old = False
        self._pause.begin()

    def _end(self) -> None:
        self._listener.close()
        for child in self._children():
            child.tell(signal.SIGTERM, _STOP_SECONDS)
        while self._children():
            self._look()
        self._selector.close()
