"""Why no connection to PostgreSQL can be made: the kind of the fault, and what to do about it."""

from __future__ import annotations

import re
from typing import NamedTuple

import psycopg


class ConnectFault(NamedTuple):
    """kind: one word for clients of /readyz; text: what PostgreSQL said, in one line; advice: for the operator."""

    kind: str
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}"


_URL = "PETSTORE_DATABASE_URL"
_NO_PRIMARY = "none of the servers takes writes: start the primary, or promote a standby"
# The kind, the words by which its message is known (libpq and PostgreSQL give no code at this point), and the advice.
_KINDS = (
    (
        "read-only",
        "session is read-only|session is not read-only|hot standby mode",
        f"name the primary in {_URL}, or all servers with target_session_attrs=read-write",
    ),
    (
        "starting",
        "the database system is|not yet accepting connections|not accepting connections",
        "PostgreSQL starts or stops: wait",
    ),
    (
        "too-many-connections",
        "too many clients|remaining connection slots|too many connections",
        "raise max_connections or the role's CONNECTION LIMIT, or lower PETSTORE_POOL_SIZE or PETSTORE_WORKERS",
    ),
    (
        "login-refused",
        "authentication failed|no password supplied|pg_hba.conf|role .* does not exist|not permitted to log "
        "in|permission denied for database",
        f"check role and password in {_URL}, and pg_hba.conf",
    ),
    (
        "no-database",
        "database .* does not exist",
        f"name the database in {_URL}, or create it",
    ),
    (
        "unsupported-parameter",
        "unsupported startup parameter|unrecognized configuration parameter|invalid value for parameter|"
        "invalid command-line argument|permission denied to set parameter",
        f"check `options` in {_URL}, and PgBouncer's ignore_startup_parameters",
    ),
    (
        "unknown-host",
        "could not translate host name|failed to resolve host|Name or service not known",
        f"check the host name in {_URL}",
    ),
    (
        "no-answer",
        "timeout|timed out|does not answer",
        "the server is frozen, or the network drops its packets",
    ),
    (
        "refused",
        "refused|No such file or directory|No route to host|Network is unreachable|closed the connection",
        f"start PostgreSQL, or correct host and port in {_URL}",
    ),
)


def connect_fault(error: psycopg.Error) -> ConnectFault:
    """The fault that an error of connecting tells. Of several hosts, what each of them says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["unknown"]
    hosts = [line.partition(": connection failed: ")[2] or line for line in lines if line.startswith("- host: ")]
    text = "; ".join(hosts) or " / ".join(lines)
    for kind, words, advice in _KINDS:
        if re.search(words, text):
            return ConnectFault(kind, text, _NO_PRIMARY if hosts and kind == "read-only" else advice)
    return ConnectFault("unreachable", text, "the message is PostgreSQL's")
