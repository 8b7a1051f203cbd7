"""`petstore housekeep`: deletes expired rows and looks for drift, in its own process and outside of any request."""

from __future__ import annotations

import argparse
import logging
import select
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import closing

from petstore import db, embedded, signals
from petstore.cli.output import report
from petstore.db.errors import WrongDatabase
from petstore.repository import audit, idempotency, sessions, system
from petstore.repository.drift import harmful_differences
from petstore.repository.startup_check import version_fault
from petstore.settings import Settings

BATCH = 1000  # rows that each purge removes at most: LIMIT in its file
_PAUSE_SECONDS = 60
# Tokens before their logins: deleting a login also deletes the tokens that it still has.
PURGES: Mapping[str, Callable[[db.Connection], int]] = {
    "idempotency keys": idempotency.purge_keys,
    "refresh tokens": sessions.purge_refresh_tokens,
    "logins": sessions.purge_sessions,
    "addresses": audit.purge_addresses,
}
logger = logging.getLogger(__name__)


def housekeep(settings: Settings, options: argparse.Namespace) -> None:
    """Delete expired keys, tokens, logins and addresses: every minute, or once with --once."""
    pipe = None if options.pipe is None else socket.socket(fileno=options.pipe)
    with embedded.attach(settings, report, start=False) as found:
        housekeeping = Housekeeping(found.database_url or "", pipe)
        if options.once:
            if not housekeeping.run():
                raise SystemExit(1)
            return
        try:
            if pipe:
                options.supervisor.ready()
            ended = False
            while not ended:
                housekeeping.run()
                ended = housekeeping.parent_ended(_PAUSE_SECONDS)
        except signals.Interrupted:
            pass  # the usual end


class Housekeeping:
    """The purges of one database. pipe: a socket whose other end the parent holds as long as it lives."""

    def __init__(self, url: str, pipe: socket.socket | None = None) -> None:
        self._url, self._pipe = url, pipe
        self._faults: dict[str, str] = {}  # what keeps a purge from working, as the log has it
        self._drift: set[str] = set()

    def run(self) -> bool:
        """Delete all expired rows; False if a purge failed. The others run nevertheless.

        Nothing is deleted from a database of a schema version that this release does not serve.
        """
        for name, purge in PURGES.items():
            try:
                removed = self._purge(purge)
            except (WrongDatabase, db.Error) as error:
                self._note(name, error)
            else:
                self._faults.pop(name, None)
                if removed:
                    logger.info("%s removed: %d", name, removed)
        self._look_for_drift()
        return not self._faults

    def parent_ended(self, seconds: float) -> bool:
        """Wait up to `seconds` for the parent to exit; whether it has."""
        return bool(select.select([self._pipe] if self._pipe else [], [], [], seconds)[0])

    def _purge(self, purge: Callable[[db.Connection], int]) -> int:
        """Delete in batches; how many rows. A signal waits for the end of a batch."""
        removed, full = 0, True
        with closing(self._connect()) as conn:
            if fault := version_fault(system.get_shop(conn)):
                raise WrongDatabase(fault)
            while full and not self.parent_ended(0):
                with signals.deferred():
                    batch = _batch(conn, purge)
                removed, full = removed + batch, batch >= BATCH
        return removed

    def _look_for_drift(self) -> None:
        """Log what drifted, when it is new, and what did no more."""
        try:
            with closing(self._connect()) as conn:
                conn.deadline = time.monotonic() + db.REQUEST_SECONDS
                found = harmful_differences(conn)
        except (WrongDatabase, db.Error):
            return  # if that lasts, the purges tell it
        if found is None:
            return
        drift = {one.sentence for one in found}
        for sentence in sorted(drift - self._drift):
            logger.warning("drift: %s; `petstore check` shows how to mend it", sentence)
        for sentence in sorted(self._drift - drift):
            logger.info("drift mended: %s", sentence)
        self._drift = drift

    def _connect(self) -> db.Connection:
        return db.connect_as_service(self._url, application_name="petstore housekeep")

    def _note(self, name: str, error: WrongDatabase | db.Error) -> None:
        """Log a fault when it is new, not once a minute."""
        fault = str(error).strip().partition("\n")[0]
        if isinstance(error, db.Error):
            fault = f"{name} cannot be removed: {fault}" if error.sqlstate else f"the database cannot be reached: {fault}"
        if fault not in self._faults.values():
            logger.warning(fault)
        self._faults[name] = fault


def _batch(conn: db.Connection, purge: Callable[[db.Connection], int]) -> int:
    """One transaction; how many rows it deleted: 0 while another process has the lock."""
    conn.deadline = time.monotonic() + db.REQUEST_SECONDS
    with conn.transaction():
        return purge(conn) if system.lock_housekeeping(conn) else 0
