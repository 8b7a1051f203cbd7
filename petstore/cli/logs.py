"""How the service logs: one line per event, on standard error. A line begins with the time in UTC, the level and who says it.

    2026-03-01T12:00:00.123Z ERROR petstore.web.plugin: request 5f1c... failed\\nTraceback (most recent call last):\\n ...

A line break in a message or a traceback is written as \\n: `sed 's/\\\\n/\\n/g'` shows it as it was. What is said again and again
is limited (LineHandler).
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Hashable
from types import TracebackType

from petstore.cli.output import LineFormatter

REPEAT_SECONDS = 10.0  # in which the same fault is one line, and a count of the others
_MOST_FAULTS = 500  # that are remembered at the same time; further ones are not limited
# Never limited: requests; what is about security (each line tells of another address or login, and failed_attempts limits them);
# and that Redis or the database is gone or back, which is told once for each time.
_UNLIMITED = (
    "petstore.access",
    "petstore.domain.credentials",
    "petstore.domain.logins",
    "petstore.cache.redis_cache",
    "petstore.db.connections",
    "petstore.db.write_guard",
)
_OURS = logging.getLogger("petstore")


class LineHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes records to standard error. A fault is one line in REPEAT_SECONDS; how often it was repeated is told after them.

    It is the same fault if logger, level and message are, without what is filled in, and class and place of its exception.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(LineFormatter())
        self._faults: dict[Hashable, _Fault] = {}

    def emit(self, record: logging.LogRecord) -> None:  # called with the handler's lock
        if record.name in _UNLIMITED:
            super().emit(record)
            return
        now, key = time.monotonic(), _key(record)
        fault = self._faults.get(key)
        if fault is None or now >= fault.until:
            self._tell(key)
            if len(self._faults) < _MOST_FAULTS or self._forget(now):
                self._faults[key] = _Fault(now + REPEAT_SECONDS)
            super().emit(record)
            return
        fault.repeated += 1
        fault.last = record
        if fault.timer is None:  # it may have been the last one: then nobody else would tell
            fault.timer = threading.Timer(fault.until - now, self._time_is_over, [key, fault])
            fault.timer.daemon = True
            fault.timer.start()

    def close(self) -> None:
        """Tell what was not told yet."""
        self.acquire()
        try:
            for key in list(self._faults):
                self._tell(key)
        finally:
            self.release()
        super().close()

    def _time_is_over(self, key: Hashable, fault: _Fault) -> None:
        self.acquire()
        try:
            if self._faults.get(key) is fault:
                self._tell(key)
        finally:
            self.release()

    def _forget(self, now: float) -> bool:
        """Forget the faults whose time is over; whether there is room now."""
        for key in [key for key, fault in self._faults.items() if now >= fault.until]:
            self._tell(key)
        return len(self._faults) < _MOST_FAULTS

    def _tell(self, key: Hashable) -> None:
        """Forget a fault, and tell how often it was repeated: the last time with all its words, but without its traceback."""
        fault = self._faults.pop(key, None)
        if fault is None or fault.last is None:
            return
        if fault.timer:
            fault.timer.cancel()
        last = fault.last
        text = f"repeated {fault.repeated} times in {REPEAT_SECONDS:.0f} s, the last time: {last.getMessage()}"
        super().emit(logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, text, (), None))


class _Fault:
    """A fault that was told. until: time.monotonic() until which it is not told again; last: its last repetition."""

    def __init__(self, until: float) -> None:
        self.until, self.repeated = until, 0
        self.last: logging.LogRecord | None = None
        self.timer: threading.Timer | None = None


def _key(record: logging.LogRecord) -> Hashable:
    place = None
    if record.exc_info and record.exc_info[1] is not None:
        trace = record.exc_info[2]
        while trace and trace.tb_next:
            trace = trace.tb_next
        place = (record.exc_info[0], trace and (trace.tb_frame.f_code, trace.tb_lineno))
    return record.name, record.levelno, str(record.msg), place


def configure_process() -> None:
    """For a `petstore` command: the whole process logs to standard error, also exceptions that nobody catches."""
    logging.basicConfig(handlers=[LineHandler()], level=logging.WARNING)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda end: _log_uncaught(end.exc_type, end.exc_value, end.exc_traceback, end.thread)
    # The format shows neither caller nor thread nor process: not collecting them halves the cost of a line (Logging HOWTO).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _log_uncaught(
    kind: type[BaseException],
    error: BaseException | None,
    trace: TracebackType | None,
    thread: threading.Thread | None = None,
) -> None:
    if error is not None and not issubclass(kind, SystemExit):
        where = f"the thread {thread.name}" if thread else "the process"
        _OURS.critical("%s ends by an exception", where, exc_info=(kind, error, trace))


def configure_guest() -> None:
    """For another WSGI server: only our loggers get a handler, and only if the server's configuration has none for them."""
    if not _OURS.hasHandlers():
        _OURS.addHandler(LineHandler())


def set_levels(access_log: bool) -> None:
    """Set levels where none is set. access_log: with a line per request."""
    levels = {"petstore": logging.INFO if access_log else logging.WARNING, "psycopg.pool": logging.ERROR}
    for name, level in levels.items():  # psycopg.pool would log every attempt; petstore.db logs one line
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
