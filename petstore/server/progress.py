"""Whether a slow client makes progress, and how much is sent to one client before the others get their turn."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios

PROGRESS_BYTES = 10_000  # of a body or an answer: in PETSTORE_READ_SECONDS a client moves so much, or what is left
FLUSH_BYTES = 1_048_576  # that the I/O thread sends to one client at a time


def unacknowledged(connection: socket.socket) -> int:
    """Bytes that the system has taken to send and the other side has not acknowledged (tcp(7)); 0 if the system does not tell.

    They may be megabytes, and nothing more can be sent until a good part of them is acknowledged.
    """
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except (OSError, ValueError):
        return 0
