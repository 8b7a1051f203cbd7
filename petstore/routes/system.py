"""Health checks, and the public keys."""

from __future__ import annotations

from petstore import errors
from petstore.cache.document import Document
from petstore.db.errors import WrongDatabase
from petstore.repository.system import is_housekeeping_late
from petstore.request import Request


def livez(request: Request) -> Document:
    """The process answers."""
    return request.document({"status": "ok"})


def jwks(request: Request) -> Document:
    """The public keys that access tokens are verified with (RFC 7517)."""
    return request.document(request.services.tokens.keyring.now().published())


def readyz(request: Request) -> Document:
    """The database is reachable and is the right one. Without Redis, or housekeeping, the service is degraded, and ready."""
    cache = request.cache.check()
    try:
        request.db.check()
        late = request.read(is_housekeeping_late)
    except WrongDatabase as error:
        detail = "Not ready: this is not the database that this version needs."
        raise errors.Unavailable(detail, database="wrong", cache=cache) from error
    except errors.Problem as problem:
        raise errors.Unavailable("Not ready: the database cannot be reached.", database="down", cache=cache) from problem
    status = "degraded" if cache == "down" or late else "ready"
    return request.document({"status": status, "database": "ok", "cache": cache, "housekeeping": "late" if late else "ok"})
