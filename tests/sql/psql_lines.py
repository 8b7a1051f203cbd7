"""The psql lines that the headers of SQL files end with, and what psql makes of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from itertools import pairwise

from psycopg import sql

from petstore.db.queries import Query


def line(query: Query) -> str:
    """The line that runs the file."""
    return str(re.findall(r"^-- (psql .*)$", query.path.read_text("utf-8"), re.MULTILINE)[-1])


def values(query: Query) -> dict[str, str]:
    """What the line gives to each parameter: `-v name=value`."""
    words = shlex.split(line(query))
    return dict(word.split("=", 1) for flag, word in pairwise(words) if flag == "-v")


def statement(query: Query, given: Mapping[str, str]) -> str:
    """The statement that psql sends, with each :'name' as a literal."""
    return query.sql % {name: sql.quote(text) for name, text in given.items()}
