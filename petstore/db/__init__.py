"""PostgreSQL: the pool, transactions, connections, query files. Only this package imports psycopg."""

from petstore.db.connection import Connection, Error, connect
from petstore.db.connections import server_options
from petstore.db.pool import REQUEST_SECONDS, Database
from petstore.db.run import enqueue, execute, many, one, one_or_none, rows, scalar

__all__ = [
    "REQUEST_SECONDS",
    "Connection",
    "Database",
    "Error",
    "connect",
    "enqueue",
    "execute",
    "many",
    "one",
    "one_or_none",
    "rows",
    "scalar",
    "server_options",
]
