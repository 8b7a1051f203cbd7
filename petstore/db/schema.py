"""What a database is, to this version: whether it has the schema, what it says of each query, and how the schema is made."""

from __future__ import annotations

import psycopg

from petstore.db.connection import Connection, connect
from petstore.db.queries import sql_folder

SCHEMA_VERSION = 5  # what sql/schema.sql writes into schema_version


def schema_exists(conn: Connection) -> bool:
    """Whether the connection's role may use the schema and find out what is in it."""
    try:
        row = conn.execute(_MAY_READ).fetchone()
    except psycopg.errors.InsufficientPrivilege:  # not even the schema
        return False
    return row is not None and row[0] is True


_MAY_READ = """
    SELECT has_table_privilege(to_regclass('m2_be_project.shop'), 'SELECT')
        AND has_table_privilege(to_regclass('m2_be_project.schema_version'), 'SELECT')
"""


def create_schema(url: str, *, currency: str, minor_digits: int) -> bool:
    """Make roles and schema where there are none yet; False if the schema was there. `url`: owner or superuser."""
    with connect(url) as conn:
        conn.execute("SELECT pg_advisory_lock(hashtext('petstore schema'))")  # of two who start at once, one makes it
        if conn.execute("SELECT to_regnamespace('m2_be_project')").fetchone() != (None,):
            return False
        may_create_roles = "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user"
        if conn.execute(may_create_roles).fetchone() == (True,):
            conn.execute((sql_folder() / "roles.sql").read_bytes())
        conn.execute(
            "SELECT set_config('petstore.currency', %s, false), set_config('petstore.minor_digits', %s, false)",
            (currency, str(minor_digits)),
        )
        conn.execute((sql_folder() / "schema.sql").read_bytes())
    return True
