"""Who gets an export: each account one at a time, and a few accounts at the same time, as each has a file on the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from petstore import errors
from petstore.limits.policies import used_up

MAX_ACCOUNTS = 32  # whose export waits, is made or is sent, in each process
MAX_OF_CLIENT = 4  # of these, accounts that ask from one IPv4 address, or one IPv6 /56
MAX_MAKING = 1  # exports that are made at the same time, in each process: each holds one of the connections for reads


class Turn:
    """The turn of an account, until `end`. sending: a file has it, and ends it when it is closed."""

    sending = False

    def __init__(self, turns: ExportTurns, user_id: int, client: str) -> None:
        self._turns, self.user_id, self.client = turns, user_id, client

    def end(self) -> None:
        """Let the account have another export. A second call does nothing."""
        self._turns.end(self)


class ExportTurns:
    """The turns of one process."""

    def __init__(self) -> None:
        self._turns: dict[int, Turn] = {}  # by user id
        self._lock = threading.Lock()
        self._making = threading.BoundedSemaphore(MAX_MAKING)

    def take(self, user_id: int, client: str) -> Turn:
        """The turn of an account. TooManyRequests if it has one, or its client has MAX_OF_CLIENT; Unavailable if all are taken.

        client: as petstore.limits.clients.subscriber gives it.
        """
        with self._lock:
            if user_id in self._turns:
                raise _too_many("An export of this account is being made, or read by its client; try again.", 1)
            if sum(turn.client == client for turn in self._turns.values()) >= MAX_OF_CLIENT:
                raise _too_many("Exports of other accounts are being made for this address, or read; try again.", MAX_OF_CLIENT)
            if len(self._turns) >= MAX_ACCOUNTS:
                raise errors.Unavailable("As many exports as there is room for are being made or read; try again.")
            turn = self._turns[user_id] = Turn(self, user_id, client)
            return turn

    def end(self, turn: Turn) -> None:
        """See Turn.end."""
        with self._lock:
            if self._turns.get(turn.user_id) is turn:
                del self._turns[turn.user_id]

    @contextmanager
    def making(self, deadline: float) -> Iterator[None]:
        """Be one of the MAX_MAKING that make an export, for the block. Unavailable if that has to wait until `deadline`.

        deadline: time.monotonic(). Under `petstore serve` nobody waits here: the lane of exports has no more threads.
        """
        if not self._making.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise errors.Unavailable("Another export is being made; try again.")
        try:
            yield
        finally:
            self._making.release()


def _too_many(detail: str, limit: int) -> errors.TooManyRequests:
    return errors.TooManyRequests(detail, 1, used_up("exports", f'q={limit};qu="concurrent-requests"', 1))
