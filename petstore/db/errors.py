"""What can go wrong below the handlers, and what the client is told: CAUSES is the only table of both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from petstore import errors
from petstore.errors import Problem

LOCK_NOT_AVAILABLE = "55P03"  # lock_timeout
QUERY_CANCELED = "57014"  # statement_timeout, also after two waits for locks in one statement
READ_ONLY = "25006"
logger = logging.getLogger(__name__)


def _down() -> Problem:
    return errors.Unavailable("The database cannot be reached; try again.")


def _writes_refused() -> Problem:
    return errors.Unavailable("The database takes no changes right now; reads go on. Try again.")


class Cause(NamedTuple):
    """answer: the error that a client gets, None if it notices nothing. retried: the transaction is, unless COMMIT was sent."""

    answer: Callable[[], errors.Problem] | None
    retried: bool = False


# Keys: the name of a constraint; a SQLSTATE (PostgreSQL manual, appendix A) or its class, the first two characters; words for
# the rest. A constraint or SQLSTATE that is not here is a bug of ours: 500.
CAUSES: Mapping[str, Cause] = {
    # constraints
    "users_email_key": Cause(errors.EmailTaken),
    "users_actor_active": Cause(errors.LoginEnded),  # ended while the request ran
    # SQLSTATE
    "08": Cause(errors.Unavailable, retried=True),  # connection exception
    "25P03": Cause(errors.Unavailable, retried=True),  # idle_in_transaction_session_timeout: this process was frozen
    READ_ONLY: Cause(errors.Unavailable, retried=True),  # read-only: a standby, or a primary that is being demoted
    "40": Cause(errors.Unavailable),
    "40001": Cause(errors.Unavailable, retried=True),  # serialization failure
    "40P01": Cause(errors.Unavailable, retried=True),  # deadlock
    "53": Cause(errors.Unavailable),  # out of disk, memory, connections
    LOCK_NOT_AVAILABLE: Cause(errors.Unavailable),  # lock_timeout
    "57": Cause(errors.Unavailable),  # statement_timeout
    "57P01": Cause(errors.Unavailable, retried=True),  # an administrator ended the connection
    "57P02": Cause(errors.Unavailable, retried=True),  # a crash of the server ended it
    "57P03": Cause(errors.Unavailable, retried=True),  # the server is starting
    "58": Cause(errors.Unavailable),  # I/O error of the server
    # no SQLSTATE
    "connection lost": Cause(errors.Unavailable, retried=True),  # the socket was closed, or the server does not answer
    "no connection": Cause(errors.Unavailable),  # none was free within a second
    "database down": Cause(_down),  # none can be made: circuit breaker in db/connections.py
    "writes refused": Cause(_writes_refused),  # read-only, or COMMITs are not answered: db/write_guard.py
    "wrong database": Cause(errors.Unavailable),
    "no answer to COMMIT": Cause(errors.OutcomeUnknown),  # and the Idempotency-Key did not tell its outcome
    # not of the database: handled in cache/redis_cache.py (FAULTS) and web/validation.py
    "no answer from Redis": Cause(None),
    "no JSON": Cause(errors.MalformedJSON),
}


def problem(cause: Cause) -> errors.Problem:
    """The error that a client gets."""
    return (cause.answer or errors.InternalError)()


class DatabaseDown(psycopg.OperationalError):
    """The database is known to be down: it is not asked (db/connections.py)."""


class WritesRefused(psycopg.OperationalError):
    """The database takes no writes. The text is why, as system/get_write_fault has it."""


# Subclasses of psycopg.Error that are raised here, not by PostgreSQL.
_NO_CONNECTION = (PoolTimeout, PoolClosed, TooManyRequests)
NOT_RETRIED = (*_NO_CONNECTION, DatabaseDown, WritesRefused)


class WrongDatabase(Exception):
    """The database answers, but does not fit this release or these settings. The text says what to do."""


class WrongVersion(WrongDatabase):
    """The schema has a version that this release does not serve."""

    def __init__(self, text: str, version: int) -> None:
        super().__init__(text)
        self.version = version


class WrongQuery(WrongDatabase):
    """A query file does not fit the database or its Python function: one of them was changed."""


def cause_of(error: psycopg.Error) -> Cause:
    """The row of CAUSES for an error of psycopg."""
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError):
        return CAUSES["connection lost"]
    sqlstate = error.sqlstate or ""
    keys = (error.diag.constraint_name or "", sqlstate, sqlstate[:2])
    return next((CAUSES[key] for key in keys if key in CAUSES), Cause(errors.InternalError))


def refusal(error: psycopg.Error) -> Problem:
    """What a client gets for an error of psycopg. It is logged if it is not the client's fault."""
    found = problem(cause_of(error))
    if found.status >= 500:
        logger.warning("database error %s: %s", error.sqlstate, error.diag.message_primary or error)
    return found


@contextmanager
def translated_errors(wrong_database: bool = True) -> Iterator[None]:
    """Turn errors of psycopg and its pool into those of petstore.errors. Their text goes to the log only.

    wrong_database: translate WrongDatabase as well, instead of raising it.
    """
    try:
        yield
    except WrongDatabase as error:  # db.pool has logged it
        if not wrong_database:
            raise
        raise problem(CAUSES["wrong database"]) from error
    except DatabaseDown as error:  # db.connections has logged why
        raise problem(CAUSES["database down"]) from error
    except WritesRefused as error:  # as has db.write_guard
        raise problem(CAUSES["writes refused"]) from error
    except _NO_CONNECTION as error:
        logger.warning("no database connection: %s", error)
        raise problem(CAUSES["no connection"]) from error
    except psycopg.Error as error:
        raise refusal(error) from error
