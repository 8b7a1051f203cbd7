"""The limits of the server: size of headers, duration of a shutdown, number of connections."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket

from petstore.settings import Settings

MAX_HEADERS = 32_768  # bytes
BACKLOG = 1024  # connections that wait to be accepted
DRAIN_SECONDS = 10  # a shutdown waits so long for requests in progress; each has a deadline of 3 s
RETIRE_SECONDS = 5  # a retiring server waits so long for the next request of each keep-alive connection
NEW_CONNECTION_SECONDS = 0.5  # the first request of a connection that is younger may be on its way: a shutdown waits for it
PARTIAL_REQUEST_SECONDS = 1  # a shutdown waits so long for the rest of a request that has arrived in part
logger = logging.getLogger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server((str(address[0]), port), family=family, backlog=BACKLOG)


def max_connections(settings: Settings) -> int:
    """The connections of the settings, or fewer if the limit of open files (RLIMIT_NOFILE) cannot be raised far enough."""
    others = settings.pool_size + settings.threads + 64  # files for the database, Redis, logs
    wanted = settings.connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        higher = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS may refuse a value under its hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (higher, hard))
            soft = higher
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings.connections
    fitting = max(soft - others, 16)
    text = "the limit of %d open files leaves room for %d connections, not %d: raise it (ulimit -n) or lower PETSTORE_CONNECTIONS"
    logger.warning(text, soft, fitting, settings.connections)
    return fitting
