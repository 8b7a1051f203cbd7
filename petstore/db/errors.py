"""What can go wrong beneath the handlers, and what it means to a client: the one table of causes and answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from petstore import errors
from petstore.errors import Problem

logger = logging.getLogger(__name__)


class Cause(NamedTuple):
    """answer: the problem that a client gets; None: it is served as usual. retried: begun anew, if COMMIT was not sent yet."""

    answer: Callable[[], errors.Problem] | None
    retried: bool = False


# A constraint by its name; a SQLSTATE (PostgreSQL manual, appendix A) or its class of two letters; in words what is neither.
# A constraint or SQLSTATE that is not here is a bug of ours: 500.
CAUSES: Mapping[str, Cause] = {
    # constraints
    "users_email_key": Cause(errors.EmailTaken),
    "users_actor_active": Cause(errors.LoginEnded),  # while the request ran
    # SQLSTATE
    "08": Cause(errors.Unavailable, retried=True),  # the connection
    "25P03": Cause(errors.Unavailable, retried=True),  # the transaction stood still: this process was frozen
    "25006": Cause(errors.Unavailable),  # read-only: a standby, or on the way to becoming one
    "40": Cause(errors.Unavailable),
    "40001": Cause(errors.Unavailable, retried=True),  # serialization failure
    "40P01": Cause(errors.Unavailable, retried=True),  # dead-lock
    "53": Cause(errors.Unavailable),  # out of disk, memory, connections
    "55P03": Cause(errors.Unavailable),  # lock_timeout
    "57": Cause(errors.Unavailable),  # statement_timeout
    "57P01": Cause(errors.Unavailable, retried=True),  # the connection was ended by an administrator
    "57P02": Cause(errors.Unavailable, retried=True),  # by a crash
    "57P03": Cause(errors.Unavailable, retried=True),  # the server is starting
    "58": Cause(errors.Unavailable),  # the server's files
    # no SQLSTATE
    "connection lost": Cause(errors.Unavailable, retried=True),  # the socket, or the server behind it
    "no connection": Cause(errors.Unavailable),  # none was free within a second, or none could be made
    "wrong database": Cause(errors.Unavailable),
    "no answer to COMMIT": Cause(errors.OutcomeUnknown),  # after Idempotency-Key and a new connection did not tell either
    # decided where they happen: in cache.py (redis_link.FAULTS) and in validation.py
    "no answer from Redis": Cause(None),
    "no JSON": Cause(errors.MalformedJSON),
}


def of_database(sqlstate: str | None, constraint: str | None) -> Cause:
    """The cause that a refusal of PostgreSQL is."""
    names = (constraint or "", sqlstate or "", (sqlstate or "")[:2])
    return next((CAUSES[name] for name in names if name in CAUSES), Cause(errors.InternalError))


def problem(cause: Cause) -> errors.Problem:
    """What a client gets."""
    return (cause.answer or errors.InternalError)()


NO_CONNECTION = (PoolTimeout, PoolClosed, TooManyRequests)  # the pool's, which are psycopg.Error too


class WrongDatabase(Exception):
    """The database answers, but it is not the one that this version needs; the text says what to do."""


class WrongQuery(WrongDatabase):
    """A query file does not fit the database or its function: it was edited, or the database was."""


def cause_of(error: psycopg.Error) -> Cause:
    """The cause that an error of psycopg is."""
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError):
        return CAUSES["connection lost"]
    return of_database(error.sqlstate, error.diag.constraint_name)


def refusal(error: psycopg.Error) -> Problem:
    """The problem for an error of psycopg; what is not the client's fault goes to the log."""
    refusal = problem(cause_of(error))
    if refusal.status >= 500:
        logger.warning("database error %s: %s", error.sqlstate, error.diag.message_primary or error)
    return refusal


@contextmanager
def translated_errors(wrong_database: bool = True) -> Iterator[None]:
    """Turn what psycopg and its pool raise into the problems of the API; the details go to the log alone."""
    try:
        yield
    except WrongDatabase as error:
        logger.error("not ready: %s", error)
        if not wrong_database:
            raise
        raise problem(CAUSES["wrong database"]) from error
    except NO_CONNECTION as error:
        logger.warning("no database connection: %s", error)
        raise problem(CAUSES["no connection"]) from error
    except psycopg.Error as error:
        raise refusal(error) from error
