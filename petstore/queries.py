"""Loads sql/queries: one file is one query, named `<resource>/<verb>_<noun>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

_PACKAGE = Path(__file__).resolve().parent
# In a checkout sql/ lies beside the package, in a wheel inside it.
SQL_FOLDER = next(folder for folder in (_PACKAGE / "sql", _PACKAGE.parent / "sql") if (folder / "schema.sql").is_file())

# What a :'name' may not be found in, and :'name' itself (psql's quoted variable).
_TOKEN = re.compile(
    r"""
      :'(?P<name>[a-z_][a-z0-9_]*)'
    | --[^\n]*
    | /\*.*?\*/
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | \$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Query:
    """One file of sql/queries.

    name: `products/get_product`; sql: what psycopg runs, with `%(name)s` in the place of `:'name'`; parameters: their names in
    order of appearance.
    """

    name: str
    sql: str
    parameters: tuple[str, ...]

    def numbered(self) -> str:
        """The statement with `$1`, `$2`, ... for its parameters, as the wire protocol wants it."""
        numbers = {name: f"${number}" for number, name in enumerate(self.parameters, 1)}
        return re.sub(r"%\((\w+)\)s|%%", lambda match: numbers[match[1]] if match[1] else "%", self.sql)


def parse_query(name: str, text: str) -> Query:
    """Turn the text of a file, which psql runs as it is, into what psycopg runs. Comments are left out."""
    parameters: dict[str, None] = {}
    parts, end = [], 0
    for token in _TOKEN.finditer(text):
        parts.append(text[end : token.start()].replace("%", "%%"))
        end = token.end()
        if token["name"]:
            parameters[token["name"]] = None
            parts.append(f"%({token['name']})s")
        elif not token[0].startswith(("--", "/*")):
            parts.append(token[0].replace("%", "%%"))
    parts.append(text[end:].replace("%", "%%"))
    statement = "".join(parts).strip().removesuffix(";")
    # The name goes with the statement, so that PostgreSQL's log and pg_stat_activity tell which file is running.
    return Query(
        name=name,
        sql=f"/* {name} */ {statement}",
        parameters=tuple(parameters),
    )


def load_queries(folder: Path = SQL_FOLDER / "queries") -> Mapping[str, Query]:
    """Every query by its name."""
    found = {}
    for path in sorted(folder.glob("*/*.sql")):
        name = f"{path.parent.name}/{path.stem}"
        found[name] = parse_query(name, path.read_text("utf-8"))
    return MappingProxyType(found)


QUERIES = load_queries()
