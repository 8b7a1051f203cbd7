"""The supervisor of `petstore serve`: keeps its workers and its housekeeping running, reloads them one by one, stops them."""

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

# A child is a new program, not a fork: a reload runs the code that is installed by then. -P keeps Python from importing from the
# current folder, unless the supervisor itself was started so (by `python -m petstore`).
_SAFE_PATH = ("-P",) if sys.version_info >= (3, 11) and sys.path[0] != os.getcwd() else ()
COMMAND: tuple[str, ...] = (sys.executable, *_SAFE_PATH, "-m", "petstore")
_START_SECONDS = 30  # a child that is not ready by then is killed
_STOP_SECONDS = DRAIN_SECONDS + 5  # a child that has not stopped by then is killed
_MAX_BACK_OFF = 4.0  # seconds before a restart
_BACK_OFF_RESET_SECONDS = 10  # without a death, after which the next restart is immediate
_POLL_SECONDS = 0.2


class Child:
    """A process, and a socket pair to it, `pipe`. The child writes a byte when it is ready.

    Each side sees the end of the other one by the end of the pipe. arguments: of `petstore`; the file numbers that the child
    inherits come after them, that of its end of the pipe last.
    """

    def __init__(self, arguments: Sequence[str], files: Sequence[int], environ: Mapping[str, str]) -> None:
        self.ready = self.stopping = False
        self.outdated = False  # started before the reload that is under way
        self.deadline = time.monotonic() + _START_SECONDS  # to get ready, or to stop; it is killed after that
        self.pipe, theirs = socket.socketpair()
        with theirs:
            files = (*files, theirs.fileno())
            # In its own session, so that Ctrl-C and the end of the terminal reach the supervisor only.
            self.process = subprocess.Popen(
                [*COMMAND, *arguments, *map(str, files)],
                env=environ,
                stdin=subprocess.DEVNULL,
                pass_fds=files,
                start_new_session=True,
            )

    def stop(self, number: int, seconds: float) -> None:
        """Send the signal: SIGTERM drains a worker, SIGHUP lets it finish with its clients. It is killed after `seconds`."""
        self.stopping, self.deadline = True, time.monotonic() + seconds
        self.process.send_signal(number)


class _BackOff:
    """Delays restarts: not at all after a first death, then exponentially up to _MAX_BACK_OFF."""

    def __init__(self) -> None:
        self._seconds = self._died_at = 0.0

    def died(self) -> None:
        now = time.monotonic()
        again = now < self._died_at + _BACK_OFF_RESET_SECONDS
        self._seconds = min(self._seconds * 2 + 0.25, _MAX_BACK_OFF) if again else 0.0
        self._died_at = now

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._died_at + self._seconds


class Supervisor:
    """Keeps `count` workers running on a listening socket, and, once they are ready, a housekeeping process beside them.

    `stop()` and `reload()` may be called from signal handlers.
    """

    def __init__(self, listener: socket.socket, count: int, environ: Mapping[str, str]) -> None:
        self._listener, self._count, self._environ = listener, count, environ
        self._workers: list[Child] = []  # oldest first
        self._housekeeping: Child | None = None
        self._selector = selectors.DefaultSelector()
        self._stopping = self._reloading = self._announced = False
        self._back_off, self._housekeeping_back_off = _BackOff(), _BackOff()

    def stop(self) -> None:
        """Make `run()` drain all workers and return."""
        self._stopping = True

    def reload(self) -> None:
        """Replace all workers, one after the other, and the housekeeping."""
        self._reloading = True

    def run(self, announce: Callable[[], object]) -> None:
        """Serve until `stop()`. announce: called once, when all workers are ready. CommandError when none gets ready."""
        try:
            while not self._stopping:
                self._maintain()
                self._poll()
                if not self._announced and len(self._ready()) == self._count:
                    self._announced = True
                    announce()
        finally:
            self._stop_all()

    def _ready(self) -> list[Child]:
        return [worker for worker in self._workers if worker.ready and not worker.stopping]

    def _children(self) -> list[Child]:
        return [*self._workers, *([self._housekeeping] if self._housekeeping else [])]

    def _maintain(self) -> None:
        """Start a worker where one is missing. During a reload: start one more, and when it is ready, stop an outdated one."""
        if self._reloading:
            self._reloading = False
            report("reloading")
            for worker in self._workers:
                worker.outdated = True
            if self._housekeeping:
                self._housekeeping.stop(signal.SIGTERM, _STOP_SECONDS)
        staying = [worker for worker in self._workers if not worker.stopping]
        outdated = [worker for worker in staying if worker.outdated]
        if outdated and len(self._ready()) > self._count:
            outdated[0].stop(signal.SIGHUP, RETIRE_SECONDS + _STOP_SECONDS)
        missing = len(staying) < self._count
        replacing = len(staying) == self._count == len(self._workers) and bool(outdated)
        if (missing or replacing) and self._back_off.over:
            started = self._start(["worker"], [self._listener.fileno()], self._back_off)
            self._workers += [started] if started else []
        if self._announced and not self._housekeeping and self._housekeeping_back_off.over:
            self._housekeeping = self._start(["housekeep", "--pipe"], [], self._housekeeping_back_off)

    def _start(self, arguments: Sequence[str], files: Sequence[int], back_off: _BackOff) -> Child | None:
        try:
            child = Child(arguments, files, self._environ)
        except OSError as error:
            report(f"a {arguments[0]} process cannot be started: {error.strerror}")
            back_off.died()
            return None
        self._selector.register(child.pipe, selectors.EVENT_READ, child)
        return child

    def _poll(self) -> None:
        """Read from the pipes which children are ready or dead, and kill those that are past their deadline."""
        for key, _ in self._selector.select(_POLL_SECONDS):
            if key.data.pipe.recv(1):
                key.data.ready, key.data.deadline = True, math.inf
            else:
                self._remove_dead(key.data)
        for child in self._children():
            if time.monotonic() > child.deadline:
                child.process.kill()

    def _remove_dead(self, child: Child) -> None:
        self._selector.unregister(child.pipe)
        child.pipe.close()
        status = child.process.wait()
        if child is not self._housekeeping:
            self._workers.remove(child)
            self._worker_died(child, status)
            return
        self._housekeeping = None
        if not child.stopping:
            report(f"housekeeping {child.process.pid} died (status {status}): starting another")
            self._housekeeping_back_off.died()

    def _worker_died(self, worker: Child, status: int) -> None:
        outdated = [one for one in self._workers if one.outdated]
        if worker.stopping:
            if worker.outdated and not outdated and not self._stopping:
                report("reloaded")
            return
        if not worker.ready and not self._announced and not self._ready():
            raise CommandError(f"no worker gets ready (status {status})")  # it has printed why
        if worker.ready or worker.outdated or not outdated:
            report(f"worker {worker.process.pid} died (status {status}): starting another")
        else:
            report(f"reload failed: the new worker does not get ready (status {status}); the old workers go on serving")
            for one in outdated:
                one.outdated = False
        self._back_off.died()

    def _stop_all(self) -> None:
        self._listener.close()
        for child in self._children():
            child.stop(signal.SIGTERM, _STOP_SECONDS)
        while self._children():
            self._poll()
        self._selector.close()
