"""`petstore.wsgi:app`: the API for any WSGI server, such as `gunicorn petstore.wsgi:app`.

The import opens nothing: a server may import it once and fork. The first request in a process opens what a worker of
`petstore serve` opens at its start.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from petstore import errors
from petstore.app import create_app
from petstore.auth import passwords
from petstore.auth.signing_keys import KeyFault, folder_fault
from petstore.cli import logs
from petstore.db.errors import WrongDatabase
from petstore.db.queries import QueryFileError
from petstore.limits.request_rate import RequestRate
from petstore.services import Services, start_services
from petstore.settings import Settings, SettingsError, load_settings
from petstore.web.middleware import WSGI, RequestMiddleware

_RETRY_SECONDS = 1.0  # between two attempts to open what cannot be opened
logger = logging.getLogger(__name__)


class _Process:
    """What one process serves with: opened once, by its first request. If that fails, a later request tries again."""

    def __init__(self) -> None:
        self._app: WSGI | None = None
        self._lock = threading.Lock()
        self._retry_at = 0.0  # time.monotonic()
        self._logged = ""  # the last fault

    def app(self) -> WSGI:
        """The application; while it cannot be opened, one that says so."""
        if self._app is not None:
            return self._app
        with self._lock:
            if self._app is None and time.monotonic() >= self._retry_at:
                self._app = self._try_to_open()
                self._retry_at = time.monotonic() + _RETRY_SECONDS
            return self._app or _UNAVAILABLE

    def _try_to_open(self) -> WSGI | None:
        logs.configure_guest()
        try:
            return _open()
        except (SettingsError, KeyFault, QueryFileError, OSError) as error:
            fault = str(error)
            if fault != self._logged:
                logger.error("the service cannot start: %s", fault)
            self._logged = fault
        except Exception:
            logger.exception("the service cannot start")
        return None


def _open() -> WSGI:
    settings = load_settings()
    logs.set_levels(settings.access_log)
    if settings.database_url is None:
        raise SettingsError("PETSTORE_DATABASE_URL is not set; only `petstore serve --setup` brings a database of its own")
    passwords.setup()
    # Not as a context manager: in a forked child its garbage collection would close the parent's connections.
    services = start_services(settings)
    try:
        if fault := folder_fault(settings.keys):
            logger.warning(fault)
        _check(services)
        application = create_app(services)
    except BaseException:
        services.close()
        raise
    atexit.register(_close, os.getpid(), services)
    return application


def _check(services: Services) -> None:
    """Log at once what is wrong with the database. Requests check it again until it is the right one."""
    try:
        services.db.check()
    except WrongDatabase as error:
        logger.error("not ready: %s", error)
    except errors.Problem:
        fault = services.db.fault
        logger.warning("the database cannot be used yet%s", f": {fault}" if fault else "")


def _close(pid: int, services: Services) -> None:
    """At exit, only in the process that opened them: a forked child would end its parent's sessions in PostgreSQL."""
    if os.getpid() == pid:
        services.close()


def _refuse(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    raise errors.Unavailable("The service cannot start yet; its log says why.")


_UNAVAILABLE = RequestMiddleware(_refuse, Settings(), RequestRate(0))
# By process id: a forked child opens its own, and leaves its parent's alone.
_processes: dict[int, _Process] = {}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    environ.setdefault("petstore.received_at", time.monotonic())  # the time of the opening counts, too
    process = _processes.get(os.getpid()) or _processes.setdefault(os.getpid(), _Process())
    return process.app()(environ, start_response)
