"""The bounds of the server: header bytes, seconds of a stop, open connections."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket

from petstore.settings import Settings

MAX_HEADERS = 32_768  # bytes
DRAIN_SECONDS = 10  # that a stop waits for requests under way: more than the 3 s any of them may take
RETIRE_SECONDS = 5  # that a server which retires leaves its clients for their next request
BEGUN_SECONDS = 1  # that a stop waits for the rest of a request whose beginning is here
logger = logging.getLogger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server((str(address[0]), port), family=family, backlog=1024)


def affordable(settings: Settings) -> int:
    """The connections that the settings allow, or fewer where the limit of open files (RLIMIT_NOFILE) cannot be raised so far."""
    others = settings.pool_size + settings.threads + 64  # database, Redis, logs
    wanted = settings.connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        higher = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS refuses what its hard limit seems to allow
            resource.setrlimit(resource.RLIMIT_NOFILE, (higher, hard))
            soft = higher
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings.connections
    fitting = max(soft - others, 16)
    logger.warning("the limit of %d open files leaves room for %d connections, not %d", soft, fitting, settings.connections)
    return fitting
