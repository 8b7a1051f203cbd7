"""Socket activation, as in sd_listen_fds(3): systemd opens the listening socket and keeps it while the service restarts.

Clients that connect meanwhile wait in its backlog: none is refused.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from petstore.cli.output import CommandError

_FIRST = 3  # SD_LISTEN_FDS_START
_PROCESS, _COUNT = "LISTEN_PID", "LISTEN_FDS"
_OTHERS = ("LISTEN_FDNAMES", "LISTEN_PIDFDID")


def inherited_listener(environ: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """The listening socket that systemd has passed to this process; None if it has passed none.

    CommandError when there are several, or when it is none for TCP. The variables are removed: they are not for child processes.
    """
    process, count = environ.pop(_PROCESS, ""), environ.pop(_COUNT, "")
    for name in _OTHERS:
        environ.pop(name, None)
    if process != str(os.getpid()):
        return None
    if count != "1":
        raise CommandError(
            f"{_COUNT} is {count or 'not set'}: the service needs one socket, so one ListenStream= in the socket unit"
        )
    try:
        listener = socket.socket(fileno=_FIRST)
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CommandError(f"{_COUNT} names no socket: {error.strerror}") from None
    if not is_listening or listener.family not in (socket.AF_INET, socket.AF_INET6):
        listener.close()
        # On a Unix socket there is no peer address: all clients would count as one.
        raise CommandError("the socket unit must listen on TCP: ListenStream=ADDRESS:PORT, with Accept=no")
    listener.set_inheritable(False)
    return listener
