"""Health checks, and the public keys."""

from __future__ import annotations

from petstore import errors
from petstore.cache.document import Document
from petstore.db.errors import WrongDatabase, WrongVersion
from petstore.db.migrations import OLDEST_VERSION, newest_version
from petstore.repository.system import get_shop, is_housekeeping_late
from petstore.request import Request


def livez(request: Request) -> Document:
    """The process answers."""
    return request.document({"status": "ok"})


def jwks(request: Request) -> Document:
    """The public keys that access tokens are verified with (RFC 7517)."""
    return request.document(request.services.tokens.keyring.now().published())


def readyz(request: Request) -> Document:
    """The database is reachable and is the right one. Without Redis or housekeeping, or with drift, it is degraded, and ready."""
    cache = request.cache.check()
    try:
        request.db.check()
        shop, late = request.read(get_shop), request.read(is_housekeeping_late)
    except WrongVersion as error:
        detail = "Not ready: this release does not serve the schema version of this database."
        raise errors.Unavailable(detail, database="wrong", schema=_schema(error.version), cache=cache) from error
    except WrongDatabase as error:
        raise errors.Unavailable("Not ready: this is not the right database.", database="wrong", cache=cache) from error
    except errors.Problem as problem:
        raise errors.Unavailable("Not ready: the database cannot be reached.", database="down", cache=cache) from problem
    drift = request.services.drift.sentences(request.read)
    return request.document(
        {
            "status": "degraded" if cache == "down" or late or drift else "ready",
            "database": "ok",
            "schema": _schema(shop.version),
            "drift": drift,
            "cache": cache,
            "housekeeping": "late" if late else "ok",
        }
    )


def _schema(version: int) -> dict[str, int]:
    return {"version": version, "oldest": OLDEST_VERSION, "newest": newest_version()}
