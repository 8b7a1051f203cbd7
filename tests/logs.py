"""Everything that is written to a log while the tests run, in this process and in those that they start; and what must not be in it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
from contextlib import suppress
from typing import Any

from petstore.auth.passwords import password_fault
from petstore.settings import Settings
from tests.factories import PASSWORD

LOGGERS = "petstore", "psycopg", "psycopg.pool", "redis", "waitress"
SECRETS = re.compile(r"eyJ[\w-]{5,}\.eyJ|\bBearer |\$argon2id\$|\bAuthorization\b", re.IGNORECASE)
TOKEN = 96  # characters of a refresh token
_RUN = re.compile(rf"[\w-]{{{TOKEN},}}", re.ASCII)
_MEMBERS = "password", "current_password", "new_password", "refresh_token", "access_token"


class Collector(logging.Handler):
    """Keeps the log records of this process, as formatted, and the files that programs write to as their output."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[str] = []
        self.given = {PASSWORD}  # passwords that were sent, tokens that were given out
        self._files: list[_File] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))

    def begin(self) -> None:
        """Listen: before each test, as some of them start the service's own logging, with its levels."""
        logging.getLogger().addHandler(self)
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.DEBUG)

    def watch_programs(self) -> None:
        """Watch the output of every program that is started from now on."""
        start = subprocess.Popen.__init__

        def watched(process: Any, *arguments: Any, **how: Any) -> None:
            start(process, *arguments, **how)
            names = {str(getattr(how.get(stream), "name", "")) for stream in ("stdout", "stderr")}
            self._files += [_File(name, process) for name in names - {""}]

        subprocess.Popen.__init__ = watched  # type: ignore[method-assign]

    def read(self) -> None:
        """Take what the files have got since."""
        for file in self._files:
            file.read()

    def remember(self, sent: bytes | None, answer: bytes) -> None:
        """Note the passwords of a request and the tokens of its answer."""
        for text in (sent or b"", answer):
            if b'password"' in text or b'_token"' in text:
                with suppress(ValueError):
                    members = json.loads(text)
                    self.given |= {members[name] for name in _MEMBERS if isinstance(members.get(name), str)}

    def texts(self) -> list[tuple[str, str]]:
        """What was written: where, and the text."""
        self.read()
        return [("log of the tests", "\n".join(self.records))] + [
            (one.name, one.text.decode(errors="replace")) for one in self._files
        ]


class _File:
    """What a program writes as its output, also when the file is removed before we look."""

    def __init__(self, name: str, process: Any) -> None:
        self.name, self.text = name, b""
        self._process, self._number, self._read = process, os.open(name, os.O_RDONLY), 0

    def read(self) -> None:
        if self._process is None:
            return
        ended = self._process.poll() is not None
        if os.fstat(self._number).st_size < self._read:  # begun anew
            self._read = 0
        while part := os.pread(self._number, 1 << 20, self._read):
            self.text, self._read = self.text + part, self._read + len(part)
        if ended:
            os.close(self._number)
            self._process = None


def without_what_is_written_on_purpose(name: str, text: str) -> str:
    """What remains of a log without what tests do in SQL, and without what `serve` shows to who starts it."""
    text = text.replace("\n\t", " ")  # PostgreSQL's lines that go on
    if name.endswith("postgres.log"):
        # Tests that write wrong rows into users themselves. The service names itself in its connections, and is in no such line.
        theirs = r"^\S+ \S+ UTC \[\d+\] <(psql|\[unknown\])?> (DETAIL|STATEMENT): .*"
        text = re.sub(theirs, lambda line: line[0].replace("$argon2id$", ""), text, flags=re.M)
    # To paste: a login with an account that was made up for it, and nobody has.
    text = text.replace('-H "Authorization: Bearer $(curl -s ', "")
    return re.sub(r"(?<=: the admin's password, shown this once: )\S+$", "", text, flags=re.M)


def secrets_in(text: str, given: set[str]) -> list[str]:
    """The lines that tell what no log may."""
    # What the service would refuse is no password, and "x" * 256 is no secret: some of those are in every text.
    wanted = {secret.lower() for secret in given if len(set(secret)) > 5 and not password_fault(secret[:256], "", Settings())}
    tokens = {secret for secret in wanted if _RUN.fullmatch(secret) and len(secret) == TOKEN}
    told = re.compile("|".join([SECRETS.pattern, *map(re.escape, sorted(wanted - tokens))]), SECRETS.flags)
    return [line for line in text.splitlines() if told.search(line) or _has_token(line.lower(), tokens)]


def _has_token(line: str, tokens: set[str]) -> bool:
    """Whether one of thousands is in it: an expression of them all would take minutes."""
    return any(run[at : at + TOKEN] in tokens for run in _RUN.findall(line) for at in range(len(run) - TOKEN + 1))


collector = Collector()
