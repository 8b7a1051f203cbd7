"""The supervisor of `petstore serve`: keeps its workers and its housekeeping running, reloads them one by one, stops them."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from petstore.cli.child import Child, Restarts
from petstore.cli.output import CommandError, report
from petstore.server.limits import DRAIN_SECONDS, RETIRE_SECONDS

_STOP_SECONDS = DRAIN_SECONDS + 5  # a child that has not stopped by then is killed
_POLL_SECONDS = 0.2


class Supervisor:
    """Keeps `count` workers running on a listening socket, and, once they are ready, a housekeeping process beside them.

    A worker that joins others which serve has to reach the database first: it would answer 503 to its share of the requests. The
    first workers need not, and neither does one that is alone.

    drain_seconds: for which the workers go on serving after `stop()`, and tell proxies that they will stop.
    `stop()`, `stop_now()` and `reload()` may be called from signal handlers.
    """

    def __init__(self, listener: socket.socket, count: int, environ: Mapping[str, str], drain_seconds: int = 0) -> None:
        self._listener, self._count, self._environ, self._drain_seconds = listener, count, environ, drain_seconds
        self._workers: list[Child] = []  # oldest first
        self._housekeeping: Child | None = None
        self._selector = selectors.DefaultSelector()
        self._stopping = self._hurried = self._announced = False
        self._reload_asked = self._reloading = False
        self._worker_restarts, self._housekeeping_restarts = Restarts("worker"), Restarts("housekeeping")

    def stop(self) -> None:
        """Make `run()` stop all workers, which first go on for drain_seconds, and return."""
        self._stopping = True

    def stop_now(self) -> None:
        """As `stop()`, but the workers only finish the requests that they have. It shortens a `stop()` that is under way."""
        self._stopping = self._hurried = True

    def reload(self) -> None:
        """Replace all workers, one after the other, and then the housekeeping."""
        self._reload_asked = True

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
        """Begin and end a reload, and start what is missing."""
        if self._reload_asked:
            self._begin_reload()
        self._maintain_workers()
        if self._reloading and len(self._ready()) == self._count and not any(worker.outdated for worker in self._workers):
            self._reloading = False
            report("reloaded")
            if self._housekeeping and self._housekeeping.outdated:  # now that it is known that its successor can start
                self._housekeeping.stop(signal.SIGTERM, _STOP_SECONDS)
        if self._announced and not self._housekeeping and self._housekeeping_restarts.due:
            try:
                self._housekeeping = self._start(["housekeep", "--pipe"], [])
            except OSError as error:
                self._housekeeping_restarts.failed(_cannot_start(error))

    def _begin_reload(self) -> None:
        self._reload_asked, self._reloading = False, True
        report("reloading")
        for child in self._children():
            child.outdated = True
        self._worker_restarts.forget()

    def _maintain_workers(self) -> None:
        """Start a worker where one is missing. During a reload: start one more, and when it is ready, stop an outdated one."""
        staying = [worker for worker in self._workers if not worker.stopping]
        outdated = [worker for worker in staying if worker.outdated]
        if outdated and len(self._ready()) > self._count:
            outdated[0].stop(signal.SIGHUP, RETIRE_SECONDS + _STOP_SECONDS)
        missing = len(staying) < self._count
        replacing = len(staying) == self._count == len(self._workers) and bool(outdated)
        if (missing or replacing) and self._worker_restarts.due:
            joins = self._announced and bool(self._ready())
            try:
                self._workers.append(self._start(["worker"], [self._listener.fileno()], needs_database=joins))
            except OSError as error:
                self._worker_failed(_cannot_start(error), outdated=False)

    def _start(self, arguments: Sequence[str], files: Sequence[int], *, needs_database: bool = False) -> Child:
        child = Child(arguments, files, self._environ, needs_database)
        self._selector.register(child.pipe, selectors.EVENT_READ, child)
        return child

    def _poll(self) -> None:
        """Read from the pipes which children are ready or dead, and kill those that are past their deadline."""
        for key, _ in self._selector.select(_POLL_SECONDS):
            child: Child = key.data
            was_ready = child.ready
            if not child.listen():
                self._remove_dead(child)
            elif child.ready and not was_ready:
                (self._housekeeping_restarts if child is self._housekeeping else self._worker_restarts).succeeded()
        for child in self._children():
            child.kill_if_overdue()

    def _remove_dead(self, child: Child) -> None:
        self._selector.unregister(child.pipe)
        is_worker, pid = child is not self._housekeeping, child.process.pid
        if is_worker:
            self._workers.remove(child)
        else:
            self._housekeeping = None
        how, why = child.wait()
        if child.stopping:
            return
        if child.ready:
            (self._worker_restarts if is_worker else self._housekeeping_restarts).died(pid, how)
        elif not is_worker:
            self._housekeeping_restarts.failed(why)
        elif not self._announced and not self._ready():
            raise CommandError(f"no worker gets ready ({how})" + (f": {why}" if why != how else ""))
        else:
            self._worker_failed(why, child.outdated)

    def _worker_failed(self, why: str, outdated: bool) -> None:
        """A worker did not get ready. That ends a reload, unless it was started before it."""
        self._worker_restarts.failed(why, told=self._reloading)
        if not self._reloading or outdated:
            return
        self._reloading = False
        new = sum(not worker.outdated for worker in self._ready())
        for child in self._children():
            child.outdated = False
        left = f"{new} of {self._count} workers are new, the others go on serving" if new else "the old workers go on serving"
        then = "reload again (SIGHUP) when it is mended; settings are read at the start only, so restart if one has to change"
        report(
            f"reload failed: a new worker does not get ready: {why}; {left if self._ready() else 'no worker is left'}; {then}",
            logging.ERROR,
        )

    def _stop_all(self) -> None:
        self._listener.close()
        hurried = self._hurried
        self._ask_to_stop(hurried)
        while self._children():
            self._poll()
            if self._hurried and not hurried:
                hurried = True
                self._ask_to_stop(hurried)
        self._selector.close()

    def _ask_to_stop(self, hurried: bool) -> None:
        for child in self._children():  # one that is not ready may not handle its signals yet: SIGTERM ends it in silence
            number = signal.SIGINT if hurried and child.ready and child is not self._housekeeping else signal.SIGTERM
            child.stop(number, _STOP_SECONDS + (0 if hurried else self._drain_seconds))


def _cannot_start(error: OSError) -> str:
    return f"it cannot be started: {error.strerror}"
