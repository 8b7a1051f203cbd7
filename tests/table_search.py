"""Looks for a text in the whole database: what is said to be erased, or never kept, must not be anywhere."""

from __future__ import annotations

from typing import Any

_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'm2_be_project'::regnamespace AND relkind = 'r' ORDER BY relname"


def tables_with(conn: Any, text: str) -> list[str]:
    """The tables in which any column of any row holds the text, in whatever case; bytea columns are looked into as well."""
    # A row as text shows bytea in hexadecimal digits.
    found = "SELECT EXISTS (SELECT FROM {} AS t WHERE strpos(lower(t::text), %s) > 0 OR strpos(t::text, %s) > 0)"
    looked_for = (text.lower(), text.encode().hex())
    names = [name for (name,) in conn.execute(_TABLES).fetchall()]
    return [name for name in names if conn.execute(found.format(name), looked_for).fetchone()[0]]
