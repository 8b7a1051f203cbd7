"""What every session of the service needs set: deadlines of the server, and what its statements and values mean.

sql/roles.sql sets it on petstore_app, because a connection pooler passes no `options` on, and a SET does not hold behind one: the
next transaction may run in another session of PostgreSQL. So nothing is sent; what a session has is compared once a connection.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from petstore.db.connection import Connection, configure, connect
from petstore.db.errors import WrongDatabase

# The same in sql/roles.sql. Deadlines, each shorter than the one before: request 3 s (db.pool), statement, lock.
NEEDED: Mapping[str, str] = {
    "statement_timeout": "2500ms",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
    "search_path": "m2_be_project",
    "timezone": "UTC",
    "datestyle": "ISO",
}
_LOOK_SECONDS = 2.0  # as long as connecting may take
_WORD = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)


def wanted_settings(url: str) -> dict[str, str]:
    """NEEDED, and what the URL's own `options` set, which wins."""
    return {**NEEDED, **dict(_in_options(str(conninfo_to_dict(url).get("options") or "")))}


def _in_options(text: str) -> Iterator[tuple[str, str]]:
    """The settings in a connection's `options` (PostgreSQL manual, 34.1.2): `-c name=value` or `--name=value`."""
    words = (re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in _WORD.findall(text))
    for word in words:
        given = next(words, "") if word == "-c" else word[2:] if word.startswith(("-c", "--")) else ""
        name, equals, value = given.partition("=")
        if equals:
            yield name.replace("-", "_").lower(), value


def configure_session(conn: Connection, wanted: Mapping[str, str]) -> None:
    """Configure a new connection to run our queries with these settings. What it cannot have is its `fault`.

    One round trip if it has them. Not an exception: the pool would only try again, and nobody would hear of it.
    """
    configure(conn)
    conn.deadline = time.monotonic() + _LOOK_SECONDS
    conn.fault = _set_what_lacks(conn, wanted)
    conn.deadline = float("inf")


def connect_as_service(url: str, **options: Any) -> Connection:
    """A connection outside the pool, in autocommit mode, with what every session of the service needs, else WrongDatabase."""
    conn = connect(url, **options)
    configure_session(conn, wanted_settings(url))
    if conn.fault:
        conn.close()
        raise WrongDatabase(conn.fault)
    return conn


def _set_what_lacks(conn: Connection, wanted: Mapping[str, str]) -> str:
    """Set what the session lacks. Why it cannot be set; "" if nothing lacks any more."""
    given = list(wanted), list(wanted.values())
    try:
        found = conn.execute(_COMPARE, given).fetchall()
        lacks = {name: (has, needed) for name, has, needed, _ in found if has != needed}
        if not lacks:
            return ""
        if found[0][-1] == conn.pgconn.backend_pid:
            conn.execute(_SET, (list(lacks), [needed for _, needed in lacks.values()]))
            return ""
    except psycopg.Error as error:
        if conn.closed or error.sqlstate is None:
            raise
        return f"a setting of this connection cannot be used: {error.diag.message_primary}"
    differ = "; ".join(f"{name} is {has or 'nothing'}, needed is {needed}" for name, (has, needed) in sorted(lacks.items()))
    return (
        f"behind this connection pooler, where a SET does not hold, the sessions of the service lack settings ({differ}): run"
        " sql/roles.sql as a superuser, then let the pooler connect anew (PgBouncer: RECONNECT). What the options of"
        " PETSTORE_DATABASE_URL set has to be set on the role, too (ALTER ROLE petstore_app SET)"
    )


# set_config(..., true) tells how PostgreSQL writes a value, and ends with the statement. `role` is not in pg_settings. Settings
# of another context are fixed when a session begins.
_COMPARE = """
    SELECT w.name, current_setting(w.name, true), set_config(w.name, w.value, true), pg_backend_pid()
    FROM unnest(%s::text[], %s::text[]) AS w (name, value) LEFT JOIN pg_catalog.pg_settings AS s ON w.name = lower(s.name)
    WHERE s.context IS NULL OR s.context IN ('user', 'superuser')
"""
_SET = "SELECT set_config(w.name, w.value, false) FROM unnest(%s::text[], %s::text[]) AS w (name, value)"
