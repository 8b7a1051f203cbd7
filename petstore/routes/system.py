"""Whether the service lives and is ready, and the keys that it is known by."""

from __future__ import annotations

from petstore import errors
from petstore.calls import Answer, Call
from petstore.db import WrongDatabase
from petstore.keyring import PUBLISH_SECONDS


def livez(call: Call) -> Answer:
    """The process answers."""
    return Answer(200, {"status": "ok"})


def jwks(call: Call) -> Answer:
    """The public keys that access tokens are verified with."""
    keys = call.services.tokens.keyring.now().published()
    return Answer(200, keys, {"Cache-Control": f"public, max-age={PUBLISH_SECONDS}"})


def readyz(call: Call) -> Answer:
    """The database is reachable and is the right one. Without Redis the service is degraded, and ready."""
    cache = call.cache.check()
    try:
        call.db.check()
    except WrongDatabase as error:
        detail = "Not ready: this is not the database that this version needs."
        raise errors.Unavailable(detail, database="wrong", cache=cache) from error
    except errors.Problem as problem:
        raise errors.Unavailable("Not ready: the database cannot be reached.", database="down", cache=cache) from problem
    return Answer(200, {"status": "degraded" if cache == "down" else "ready", "database": "ok", "cache": cache})
