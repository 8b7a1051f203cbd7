"""Shops that a test starts and stops as people do: each a `petstore serve --setup` with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from tests.client import Client
from tests.commands import environment

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"


def processes(folder: Path) -> list[int]:
    """What runs in the folder, or names it in its command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            where = os.readlink(process / "cwd").removesuffix(" (deleted)")
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if str(folder) in where or str(folder).encode() in said:
                found.append(int(process.name))
    return found


class Shop:
    """A `petstore serve --setup` of its own, with everything it makes in one folder."""

    command: tuple[str, ...] = (sys.executable, "-m", "petstore", "serve", "--setup")

    def __init__(self, folder: Path, **how) -> None:
        self.folder, self.how = folder, how
        self.environ = environment(
            PETSTORE_HOME=str(folder / "var"),
            PETSTORE_KEYS=str(folder / "keys"),
            PETSTORE_LISTEN="127.0.0.1:0",
            TMPDIR=str(folder / "tmp"),
        )
        (folder / "tmp").mkdir(exist_ok=True)
        (folder / "tmp").chmod(0o1777)
        self.process: subprocess.Popen | None = None

    def begin(self, *arguments: str, **environ: str) -> Shop:
        """Start it and do not wait."""
        with (self.folder / "stdout").open("w") as stdout, (self.folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [*self.command, *arguments],
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                **self.how,
            )
        return self

    def start(self, *arguments: str, seconds: float = 60, **environ: str) -> Shop:
        """Start it and wait until it serves."""
        self.begin(*arguments, **environ)
        match = self.wait_for(r"serves on http://([0-9.]+):(\d+)", seconds)
        self.address = match[1], int(match[2])
        with Client(self.address) as client:
            assert client.get("/livez").status == 200
        return self

    def wait_for(self, pattern: str, seconds: float = 30) -> re.Match:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.said):
                return match
            assert self.process.poll() is None or re.search(pattern, self.said), (
                f"ended with {self.process.returncode}: {self.said}"
            )
            time.sleep(0.01)
        raise AssertionError(f"no {pattern!r} after {seconds} s: {self.said}")

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def lines(self) -> list[str]:
        """The lines to paste."""
        return [line for line in (self.folder / "stdout").read_text().splitlines() if line.startswith("curl ")]

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(how)
        return self.process.wait(30)

    def refuses(self, *arguments: str, **environ: str) -> str:
        """What it says when it does not start."""
        assert self.begin(*arguments, **environ).process.wait(30) == 2, self.said
        assert "Traceback" not in self.said
        return self.said

    def leaves_nothing(self) -> None:
        """No process and no temporary file is left."""
        assert processes(self.folder) == []
        assert self.temporary() == []

    def temporary(self) -> list[str]:
        """The names of its temporary files, without the machine's turns at hashing, which are no service's own: locks of no bytes."""
        found = {path.name: path for path in (self.folder / "tmp").iterdir()}
        turns = [name for name in found if re.fullmatch("petstore-hashing-[0-9]+\\.[0-9]+", name)]
        assert all((found[name].stat().st_size, stat.S_IMODE(found[name].stat().st_mode)) == (0, 0o600) for name in turns)
        return sorted(found.keys() - set(turns))

    def sql(self, statement: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "petstore", "psql", "--owner", "-Atqc", statement],
            env=self.environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def postmaster(self) -> int:
        return int((self.folder / "var/postgres/data/postmaster.pid").read_text().split()[0])


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def login(client: Client, email: str, password: str) -> int:
    client.token = None
    answer = client.post("/login", {"email": email, "password": password})
    client.token = answer.json().get("access_token")
    return answer.status


# ── from nothing to a service ────────────────────────────────────────────────────────────────────────────────────────────


def checkout(folder: Path) -> Path:
    """What git has or would take, and nothing that was made since."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder
