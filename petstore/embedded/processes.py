"""Child processes: stopped when this process ends, whatever signal ends it; leftovers of a killed run are found and stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from petstore import signals

START_SECONDS = 60  # enough for a crash recovery
STOP_SECONDS = 20
Command = Sequence[str | Path]
logger = logging.getLogger(__name__)


class EmbeddedError(Exception):
    """An embedded server cannot run. The text says why, and what to do."""


def run(command: Command, **how: Any) -> tuple[int, str]:
    """Run a program; its exit status and output. An interrupt kills it with all its child processes."""
    process: subprocess.Popen[str] | None = None
    try:
        with signals.deferred():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                **how,
            )
        printed, _ = process.communicate()
        return process.returncode, printed
    except BaseException:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise


class Server:
    """A server process with a private folder for its socket. When it stops unexpectedly, that is logged."""

    def __init__(self, name: str, log: Path) -> None:
        self._name, self._log = name, log
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._stopping = False

    @property
    def folder(self) -> Path:
        """The folder of the socket: only its account can enter it, and its path is short, as sockets need."""
        if self._folder is None:
            raise EmbeddedError(f"{self._name} is not running")
        return self._folder

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def make_folder(self, set_owner: Callable[[Path], None] = lambda folder: None) -> None:
        """Make the folder. set_owner: gives it to the account that the server runs as."""
        with signals.deferred():
            self._folder = Path(tempfile.mkdtemp(prefix=f"petstore-{self._name.lower()}-", dir=_short_temporary()))
            set_owner(self._folder)

    def start(self, command: Command, **how: Any) -> None:
        """Start the program, in its own session: Ctrl-C in the terminal does not reach it."""
        with self._open_log() as log, signals.deferred():
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **how
            )
        threading.Thread(target=self._watch, args=(self._process,), name=f"{self._name}-watch", daemon=True).start()

    def _open_log(self) -> BinaryIO:
        """For its owner alone: what clients send may be in it."""
        log = open(self._log, "ab", opener=partial(os.open, mode=0o600))  # noqa: SIM115 - the caller closes it
        with contextlib.suppress(PermissionError):  # of somebody else, who lets us write
            os.fchmod(log.fileno(), 0o600)  # an earlier release has made it readable by all
        return log

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Wait until the server answers. EmbeddedError with the end of its log when it stops or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                self._stopping = True
                log_end = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
                raise EmbeddedError(f"{self._name} did not start; the end of {self._log} says:\n{log_end}")
            time.sleep(0.02)

    def stop(self, gently: int, firmly: int) -> None:
        """Stop the program and remove the folder. gently: the first signal; firmly: the one after STOP_SECONDS."""
        self._stopping = True
        with signals.deferred():
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(gently)
                try:
                    self._process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    self._process.send_signal(firmly)
                    self._process.wait()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        if not self._stopping:
            logger.error("%s stopped unexpectedly (status %d): see %s, then start again", self._name, status, self._log)


def stop_orphan(pid: str, folder: Path, number: int) -> None:
    """Stop a server whose parent was killed, with this signal. Only if its working directory is `folder`: pids are reused."""
    deadline = time.monotonic() + STOP_SECONDS
    while pid.isdigit() and time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/cwd").resolve(strict=True) != folder.resolve():
                return
            os.kill(int(pid), number)
        except OSError:
            return
        time.sleep(0.1)


def lines(path: Path) -> list[str]:
    """The lines of a file; none if it does not exist."""
    return path.read_text().splitlines() if path.exists() else []


def _short_temporary() -> str:
    """The folder for temporary files; /tmp if its path is too long for a socket (107 bytes) or other accounts cannot enter it."""
    folder = tempfile.gettempdir()
    open_to_all = all(path.stat().st_mode & 0o001 for path in (Path(folder), *Path(folder).parents))
    return folder if re.fullmatch(r"[A-Za-z0-9/._-]{1,60}", folder) and open_to_all else "/tmp"  # noqa: S108 - mkdtemp() makes it
