"""The database schema: its version, whether it is there, and how it is created."""

from __future__ import annotations

import re
from functools import cache

import psycopg

from petstore.db.connection import Connection, connect
from petstore.db.queries import sql_folder


@cache
def schema_version() -> int:
    """The version that this service needs: the one that sql/schema.sql makes."""
    text = (sql_folder() / "schema.sql").read_text("utf-8")
    (version,) = re.findall(r"INSERT INTO schema_version \(version\) VALUES \(([0-9]+)\);", text)
    return int(version)


def schema_exists(conn: Connection) -> bool:
    """Whether the schema is there, and the connection's role may read its version."""
    try:
        row = conn.execute(_MAY_READ).fetchone()
    except psycopg.errors.InsufficientPrivilege:  # on the schema itself
        return False
    return row is not None and row[0] is True


_MAY_READ = """
    SELECT has_table_privilege(to_regclass('m2_be_project.shop'), 'SELECT')
        AND has_table_privilege(to_regclass('m2_be_project.schema_version'), 'SELECT')
"""


def create_schema(url: str, *, currency: str, minor_digits: int) -> bool:
    """Create roles and schema; False if the schema was there already. url: of the database's owner or a superuser."""
    with connect(url) as conn:
        conn.execute("SELECT pg_advisory_lock(hashtext('petstore schema'))")  # if two start at once, one creates it
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
