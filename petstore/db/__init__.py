"""PostgreSQL: the pool, transactions, connections, query files. Only this package imports psycopg."""

from petstore.db.connection import Connection, Error, connect
from petstore.db.pool import REQUEST_SECONDS, Database, server_options
from petstore.db.run import execute, many, one, one_or_none, rows, run_later, scalar

__all__ = [
    "REQUEST_SECONDS",
    "Connection",
    "Database",
    "Error",
    "connect",
    "execute",
    "many",
    "one",
    "one_or_none",
    "rows",
    "run_later",
    "scalar",
    "server_options",
]
