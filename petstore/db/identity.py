"""What the database is, as its connections say: it may be another one, or one that has lost its newest rows, after a fail-over.

The text is that of sql/queries/system/_identity.sql. Connections say it with the first query of a write and with each read, as a
pooler hides that they lead to another server now.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

WATCH_SECONDS = 2.0  # the longest that a process goes without asking, while the database answers
logger = logging.getLogger(__name__)


class KnownIdentity:
    """What a process knows of it. leave(identity): called when it changes, with what it was before.

    text: None while it is not known. heard_at, changed_at: time.monotonic() at which it was last told; at which it last changed.
    """

    def __init__(self, leave: Callable[[str], None]) -> None:
        self.text: str | None = None
        self.heard_at = self.changed_at = -math.inf
        self._leave = leave
        self._lock = threading.Lock()

    def hear(self, said: str | None, asked_at: float) -> None:
        """Note what a connection said when it was asked at that time.monotonic(); None: it was not asked.

        If that is another one, `leave` has ended when this returns, in every thread.
        """
        if said is None:
            return
        self.heard_at = max(self.heard_at, asked_at)
        if said == self.text:
            return
        with self._lock:
            if said == self.text or asked_at < self.changed_at:  # a late answer of the one before
                return
            if self.text is not None:
                logger.warning("the database is another one now, or has lost rows: %s; before: %s", said, self.text)
                self._leave(self.text)
                self.changed_at = time.monotonic()
            self.text = said


class IdentityWatch:
    """A thread that asks while no request does: a process may answer from its cache alone for minutes.

    ask: asks the database, so that `known` hears of it, and handles its errors. A database that was never asked is left alone.
    """

    def __init__(self, known: KnownIdentity, ask: Callable[[], object]) -> None:
        self._known, self._ask = known, ask
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="identity-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. A question that waits for its answer is not waited for."""
        self._stopping.set()

    def _run(self) -> None:
        seconds = WATCH_SECONDS
        while not self._stopping.wait(seconds):
            seconds = self._known.heard_at + WATCH_SECONDS - time.monotonic()
            if seconds <= 0:
                seconds = WATCH_SECONDS
                if self._known.text is not None:
                    self._ask()
