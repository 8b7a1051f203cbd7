"""Health checks, and the public keys."""

from __future__ import annotations

from petstore import errors
from petstore.auth import key_agreement
from petstore.cache.document import Document
from petstore.db import Connection, Error
from petstore.db.errors import LOCK_NOT_AVAILABLE, WrongDatabase, WrongVersion
from petstore.db.migrations import OLDEST_VERSION, newest_version
from petstore.repository.system import get_shop, get_write_fault, is_housekeeping_late
from petstore.request import Request

_WRONG_VERSION = "Not ready: this release does not serve the schema version of this database."


def livez(request: Request) -> Document:
    """The process answers.

    It says nothing about database and Redis; that is GET /readyz.
    """
    return request.document({"status": "ok"})


def jwks(request: Request) -> Document:
    """The public keys that access tokens are verified with (RFC 7517).

    Each with its `kid`, which is in the head of a token. A key is here before the first token is signed with it.
    """
    return request.document(request.services.tokens.keyring.now().published())


def readyz(request: Request) -> Document:
    """The database can be read and written, and is the right one. With anything else amiss, it is degraded, and ready.

    For load balancers and monitoring. A 503 says what is wrong: with the `database`, or `service`: it is about to stop.
    """
    if request.services.process.stopping:
        raise errors.Unavailable("Not ready: the service is about to stop.", service="stopping")
    cache = request.cache.check()
    try:
        request.db.check()
        shop, fault, late = request.read(get_shop), request.read(get_write_fault), request.snapshot(_is_housekeeping_late)
    except WrongVersion as error:
        raise errors.Unavailable(_WRONG_VERSION, database="wrong", schema=_schema(error.version), cache=cache) from error
    except WrongDatabase as error:
        raise errors.Unavailable("Not ready: this is not the right database.", database="wrong", cache=cache) from error
    except errors.Problem as problem:
        raise _unreachable(request, cache) from problem
    if fault == "read-only":
        raise errors.Unavailable("Not ready: the database is read-only.", database=fault, cache=cache)
    drift, keys = request.services.drift.sentences(request.read), request.services.key_agreement.check()
    amiss = cache == "down" or fault or late or drift or keys == key_agreement.DIFFER
    parts = {
        "database": fault or "ok",
        "schema": _schema(shop.version),
        "drift": drift,
        "cache": cache,
        "housekeeping": "unknown" if late is None else "late" if late else "ok",
        "keys": keys,
    }
    return request.document({"status": "degraded" if amiss else "ready", **parts})


def _is_housekeeping_late(conn: Connection) -> bool | None:
    """As the query, but None if a lock on one of its tables is not free soon: a probe must not wait for that."""
    conn.queue_command("SET LOCAL lock_timeout = 200")
    try:
        return is_housekeeping_late(conn)
    except Error as error:
        if error.sqlstate == LOCK_NOT_AVAILABLE:
            return None
        raise


def _unreachable(request: Request, cache: str) -> errors.Unavailable:
    if (fault := request.db.fault) is None:
        return errors.Unavailable("Not ready: the database does not answer in time.", database="busy", cache=cache)
    detail = "Not ready: the database cannot be reached."
    return errors.Unavailable(detail, database="down", reason=fault.kind, cache=cache)


def _schema(version: int) -> dict[str, int]:
    return {"version": version, "oldest": OLDEST_VERSION, "newest": newest_version()}
