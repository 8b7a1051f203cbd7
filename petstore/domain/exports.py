"""The export of an account: all that is kept about it, as JSON in a file.

It is written in batches, so that memory stays the same however much it is, and whole before the first byte is sent: a client that
reads slowly holds neither a connection to the database nor a snapshot. For a client that takes gzip it is compressed while it is
written.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from petstore import errors
from petstore.cache.document import etag, gzip_packer, new_hash
from petstore.db import Connection
from petstore.domain.invoices import full_invoices
from petstore.limits.exports import Turn
from petstore.repository import audit, idempotency, invoices, sessions, users
from petstore.request import FileDocument, Request

# Each statement has its own deadline. This one ends what goes on and on: its snapshot keeps VACUUM from removing dead rows.
MAX_SECONDS = 600.0
_INVOICES = 25  # of a batch: an invoice may have a hundred lines. Other tables come in the batches of db.run.stream
_IN_MEMORY = 1_048_576  # bytes of an export that is kept in memory; a larger one is a file on disk, which has no name
_LEVEL = 4  # of zlib: a quick one
logger = logging.getLogger(__name__)


class ExportFile(tempfile.SpooledTemporaryFile[bytes]):
    """A temporary file that ends the turn of its account when it is closed."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(max_size=_IN_MEMORY)
        self._turn = turn
        turn.sending = True

    def close(self) -> None:
        """Close it; the system frees its room on the disk."""
        try:
            super().close()
        finally:
            self._turn.end()

    def __del__(self) -> None:
        self.close()  # for a server that does not, as PEP 3333 asks


def make_export(request: Request) -> FileDocument:
    """All that is kept about the caller, as it was at one moment. Unavailable if there is no room for it on the disk."""
    file = ExportFile(request.export_turn)
    try:
        with request.services.exports.making(request.deadline):
            size, tag = request.db.snapshot(partial(_write, request, file), time.monotonic() + MAX_SECONDS)
    except BaseException as error:
        with suppress(OSError):  # it writes what is left in its buffer
            file.close()
        if not isinstance(error, OSError):
            raise
        logger.error("an export could not be written to %s: %s", tempfile.gettempdir(), error)
        raise errors.Unavailable("The service has no room for the export; try again later.") from error
    return FileDocument(file, size, tag, request.takes_gzip)


def _write(request: Request, file: ExportFile, conn: Connection) -> tuple[int, str]:
    """Write the export from its beginning, as an attempt before may have ended half-way; the size of the file, and the ETag."""
    file.seek(0)
    file.truncate()
    hashed, packer = new_hash(), gzip_packer(_LEVEL) if request.takes_gzip else None
    for piece in _pieces(request, conn):
        hashed.update(piece)
        file.write(packer.compress(piece) if packer else piece)
    file.write(packer.flush() if packer else b"")
    size = file.tell()
    file.seek(0)  # writes what is left in its buffer
    return size, etag(hashed)


def _pieces(request: Request, conn: Connection) -> Iterator[bytes]:
    user_id = request.user.id
    profile = users.get_user(conn, user_id=user_id)
    if profile is None:
        raise errors.LoginEnded()
    yield b'{"profile":' + _encode(request, profile)
    members: dict[str, Iterable[Any]] = {
        "sessions": sessions.list_sessions(conn, user_id=user_id),
        "invoices": _invoices(conn, user_id),
        "audit": audit.list_own_entries(conn, user_id=user_id),
        "idempotency_keys": idempotency.list_keys(conn, user_id=user_id),
    }
    for name, items in members.items():
        yield f',"{name}":['.encode()
        for number, item in enumerate(items):
            yield (b"," if number else b"") + _encode(request, item)
        yield b"]"
    yield b"}\n"


def _encode(request: Request, value: Any) -> bytes:
    return request.encode(value)[:-1]  # without its line feed


def _invoices(conn: Connection, user_id: int) -> Iterator[dict[str, Any]]:
    before = 0
    while rows := invoices.list_invoices(conn, user_id=user_id, before=before, limit=_INVOICES):
        yield from full_invoices(conn, rows)
        before = rows[-1].id
