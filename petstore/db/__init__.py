"""PostgreSQL: the pool, transactions, connections, query files. Only this package imports psycopg."""

from petstore.db.connection import Connection, Error, connect
from petstore.db.pool import REQUEST_SECONDS, Database
from petstore.db.run import enqueue, enqueue_identity, execute, many, one, one_or_none, rows, scalar, stream
from petstore.db.session_settings import connect_as_service

__all__ = [
    "REQUEST_SECONDS",
    "Connection",
    "Database",
    "Error",
    "connect",
    "connect_as_service",
    "enqueue",
    "enqueue_identity",
    "execute",
    "many",
    "one",
    "one_or_none",
    "rows",
    "scalar",
    "stream",
]
