"""Whether the service lives and is ready, and the keys that it is known by."""

from __future__ import annotations

from petstore import errors
from petstore.calls import Call
from petstore.db import WrongDatabase
from petstore.documents import Document


def livez(call: Call) -> Document:
    """The process answers."""
    return call.document({"status": "ok"})


def jwks(call: Call) -> Document:
    """The public keys that access tokens are verified with (RFC 7517)."""
    return call.document(call.services.tokens.keyring.now().published())


def readyz(call: Call) -> Document:
    """The database is reachable and is the right one. Without Redis the service is degraded, and ready."""
    cache = call.cache.check()
    try:
        call.db.check()
    except WrongDatabase as error:
        detail = "Not ready: this is not the database that this version needs."
        raise errors.Unavailable(detail, database="wrong", cache=cache) from error
    except errors.Problem as problem:
        raise errors.Unavailable("Not ready: the database cannot be reached.", database="down", cache=cache) from problem
    return call.document({"status": "degraded" if cache == "down" else "ready", "database": "ok", "cache": cache})
