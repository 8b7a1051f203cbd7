"""A circuit breaker: keeps calls away from a server that is down, and probes it until it is up again."""

from __future__ import annotations

import threading
from collections.abc import Callable

PROBE_SECONDS = 0.1  # between two probes of a server that is down


class CircuitBreaker:
    """Closed: calls may go to the server. Open: they may not, and a thread probes the server.

    probe: asks the server, and does whatever must be done before it is used again; while the server is down it raises one of
    `faults`. A trip during a probe keeps the breaker open for one more probe: what was noted before the trip is seen by that one.
    pause: gives the seconds to wait before a probe.
    """

    def __init__(
        self,
        name: str,
        probe: Callable[[], None],
        faults: tuple[type[Exception], ...],
        pause: Callable[[], float] = lambda: PROBE_SECONDS,
    ) -> None:
        self.closed = True
        self._probe, self._faults, self._pause = probe, faults, pause
        self._trips = 0
        self._lock = threading.Lock()
        self._suspected = False
        self._called, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name}-probe", daemon=True)
        self._thread.start()

    def trip(self) -> bool:
        """Open the breaker; whether it was closed."""
        with self._lock:
            was_closed, self.closed = self.closed, False
            self._trips += 1
        self._called.set()
        return was_closed

    def suspect(self) -> None:
        """Have the server probed at once, in the breaker's thread. It opens if that fails."""
        self._suspected = True
        self._called.set()

    def probe(self) -> bool:
        """Close the breaker if the server is up and no call has failed meanwhile; whether the server is up."""
        trips = self._trips
        try:
            self._probe()
        except self._faults:
            return False
        with self._lock:
            self.closed = self._trips == trips
        return True

    def stop(self) -> None:
        """End the thread; `probe` can still be called."""
        self._stopping.set()
        self._called.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._called.wait()
            self._called.clear()
            suspected, self._suspected = self._suspected, False
            if suspected and self.closed and not self._stopping.is_set() and not self.probe():
                self.trip()
            while not self.closed and not self._stopping.wait(self._pause()):
                self.probe()
