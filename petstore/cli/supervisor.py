"""The processes that serve, all on one socket: started, started again when they die, replaced one by one, drained at the end."""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from petstore.cli.output import CommandError, report
from petstore.server.limits import DRAIN_SECONDS, RETIRE_SECONDS

# A new program, not a fork: a reload runs what is installed by then. What lies in the current folder is not imported, unless
# we were started so that it is (by `python -m petstore`).
_SAFELY = ("-P",) if sys.version_info >= (3, 11) and sys.path[0] != os.getcwd() else ()
COMMAND: tuple[str, ...] = (sys.executable, *_SAFELY, "-m", "petstore")
_START_SECONDS = 30  # that a worker may take until it is ready
_STOP_SECONDS = DRAIN_SECONDS + 5  # after which a worker that was told to end is killed
_LONGEST_PAUSE = 4.0  # seconds before another is started, where one after the other dies
_OFTEN_SECONDS = 10  # between two deaths that count as one after the other
_POLL_SECONDS = 0.2


class Worker:
    """One process. It says through `line` that it is ready, and by its end that it has died; so it learns of our death, too."""

    def __init__(self, listener: socket.socket, environ: Mapping[str, str]) -> None:
        self.ready = self.leaving = False
        self.old = False  # to be replaced
        self.until = time.monotonic() + _START_SECONDS  # when it is overdue with what it is doing
        self.line, theirs = socket.socketpair()
        files = listener.fileno(), theirs.fileno()
        with theirs:
            # In a session of its own: Ctrl-C and the end of a terminal come to us alone.
            self.process = subprocess.Popen(
                [*COMMAND, "worker", *map(str, files)],
                env=environ,
                stdin=subprocess.DEVNULL,
                pass_fds=files,
                start_new_session=True,
            )

    def tell(self, number: int, seconds: float) -> None:
        """Have it end within so many seconds: drained (SIGTERM), or without cutting off any client (SIGHUP)."""
        self.leaving, self.until = True, time.monotonic() + seconds
        self.process.send_signal(number)


class Supervisor:
    """So many workers on a socket. `run()` serves until `stop()`; that and `reload()` are safe in a signal handler."""

    def __init__(self, listener: socket.socket, count: int, environ: Mapping[str, str]) -> None:
        self._listener, self._count, self._environ = listener, count, environ
        self._workers: list[Worker] = []  # by age
        self._selector = selectors.DefaultSelector()
        self._stopping = self._reloading = self._announced = False
        self._start_at = self._pause = self._died_at = 0.0

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

    def _ready(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.ready and not worker.leaving]

    def _keep(self) -> None:
        """See to it that there are as many as there should be: one more while old ones are replaced, one after the other."""
        if self._reloading:
            self._reloading = False
            report("reloading")
            for worker in self._workers:
                worker.old = True
        staying = [worker for worker in self._workers if not worker.leaving]
        old = [worker for worker in staying if worker.old]
        if old and len(self._ready()) > self._count:
            old[0].tell(signal.SIGHUP, RETIRE_SECONDS + _STOP_SECONDS)
        missing = len(staying) < self._count
        due = len(staying) == self._count == len(self._workers) and bool(old)
        if (missing or due) and time.monotonic() >= self._start_at:
            self._start()

    def _start(self) -> None:
        try:
            worker = Worker(self._listener, self._environ)
        except OSError as error:
            report(f"no worker can be started: {error.strerror}")
            self._put_off()
        else:
            self._workers.append(worker)
            self._selector.register(worker.line, selectors.EVENT_READ, worker)

    def _look(self) -> None:
        """Take what workers tell, and kill what is overdue."""
        for key, _ in self._selector.select(_POLL_SECONDS):
            if key.data.line.recv(1):
                key.data.ready, key.data.until = True, math.inf
            else:
                self._bury(key.data)
        for worker in self._workers:
            if time.monotonic() > worker.until:
                worker.process.kill()

    def _bury(self, worker: Worker) -> None:
        self._selector.unregister(worker.line)
        worker.line.close()
        self._workers.remove(worker)
        status = worker.process.wait()
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
        self._put_off()

    def _put_off(self) -> None:
        """What ends is replaced at once; but one after the other, with longer and longer pauses."""
        now = time.monotonic()
        again = now < self._died_at + _OFTEN_SECONDS
        self._pause = min(self._pause * 2 + 0.25, _LONGEST_PAUSE) if again else 0.0
        self._died_at, self._start_at = now, now + self._pause

    def _end(self) -> None:
        self._listener.close()
        for worker in self._workers:
            worker.tell(signal.SIGTERM, _STOP_SECONDS)
        while self._workers:
            self._look()
        self._selector.close()
