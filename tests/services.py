"""The service in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from petstore.app import create_app
from petstore.server.waitress import Server
from petstore.services import Services, open_services
from petstore.settings import Settings


@contextmanager
def running(settings: Settings) -> Iterator[tuple[Services, Server]]:
    """The service in a thread of its own, on a free port, for the block."""
    with ExitStack() as stack:
        services = stack.enter_context(open_services(settings))
        server = Server(create_app(services), settings)
        thread = threading.Thread(target=server.run, name="server")
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.stop)
        yield services, server
