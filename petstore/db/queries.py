"""Loads the SQL files of sql/queries, sql/reports and sql/tools. A query's name is `<folder>/<file>`: products/get_product.

Each file begins with a header, which is its contract: a sentence, the parameters, the locks, the command that runs it in psql.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

_PACKAGE = Path(__file__).resolve().parent.parent


# :'name' (psql's quoted variable), or something in which it means nothing: a comment, a string, a quoted name, a dollar quote.
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
# In a header: `--   product_id  bigint  the product`.
_PARAMETER = re.compile(r"^--   (?P<name>[a-z_][a-z0-9_]*) +(?P<type>[a-z]+(?:\[\])?)  +(?P<meaning>\S.*)$", re.MULTILINE)


class QueryFileError(Exception):
    """A file of sql/ is missing or cannot be used. The text says which, and why."""


@cache
def sql_folder() -> Path:
    """The folder sql/: beside the package in a checkout, inside it when installed from a wheel."""
    for folder in (_PACKAGE / "sql", _PACKAGE.parent / "sql"):
        if (folder / "schema.sql").is_file():
            return folder
    raise QueryFileError(f"there is no folder sql beside or in {_PACKAGE}: install petstore again")


@dataclass(frozen=True)
class Parameter:
    """A parameter, as declared in the header of its file. type: PostgreSQL's name; nullable: an empty value means NULL."""

    name: str
    type: str
    meaning: str
    nullable: bool


@dataclass(frozen=True)
class Query:
    """One SQL file.

    sentence: what it does, the first line of the header
    parameters: as declared in the header, in its order
    sql: the statement for psycopg, with `%(name)s` instead of `:'name'`
    names: the parameters that the statement uses, in order of appearance
    """

    name: str
    path: Path
    sentence: str
    parameters: Mapping[str, Parameter]
    sql: str
    names: tuple[str, ...]

    def numbered(self) -> str:
        """The statement with `$1`, `$2`, ... instead of `%(name)s`, as the wire protocol needs it."""
        numbers = {name: f"${number}" for number, name in enumerate(self.names, 1)}
        return re.sub(r"%\((\w+)\)s|%%", lambda match: numbers[match[1]] if match[1] else "%", self.sql)


def parse_query(name: str, text: str, path: Path = Path()) -> Query:
    """Turn a file that psql runs into a Query that psycopg runs. ValueError if it is not one statement.

    Comments are dropped. The name is added as one: PostgreSQL's log and its statistics views show it.
    """
    names: dict[str, None] = {}
    parts, end, code = [], 0, ""
    for token in _TOKEN.finditer(text + "\n--"):  # a last token, so that the text before it is not lost
        between, end = text[end : token.start()], token.end()
        code += between
        parts.append(between.replace("%", "%%"))
        if token["name"]:
            names[token["name"]] = None
            parts.append(f"%({token['name']})s")
        elif not token[0].startswith(("--", "/*")):
            parts.append(token[0].replace("%", "%%"))
    if ";" in code.strip().removesuffix(";"):
        raise ValueError("it has more than one statement")
    words = "".join(parts).strip().removesuffix(";").split(None, 1)
    if len(words) < 2:
        raise ValueError("it has no statement")
    return Query(
        name=name,
        path=path,
        sentence=text.partition("\n")[0].removeprefix("-- "),
        parameters=_parameters(text),
        # Not at the very beginning: pg_stat_statements 18 drops a leading comment.
        sql=f"{words[0]} /* {name} */ {words[1]}",
        names=tuple(names),
    )


def _parameters(text: str) -> Mapping[str, Parameter]:
    header = text[: end.start()] if (end := re.search("^(?!--)", text, re.MULTILINE)) else text
    found = [Parameter(**match.groupdict(), nullable="NULL (empty in psql)" in match[0]) for match in _PARAMETER.finditer(header)]
    return MappingProxyType({parameter.name: parameter for parameter in found})


def load_files(pattern: str, folder: Path | None = None) -> Mapping[str, Query]:
    """The queries whose files match, by name. QueryFileError if one cannot be used."""
    found = {}
    for path in sorted((folder or sql_folder()).glob(pattern)):
        name = f"{path.parent.name}/{path.stem}"
        try:
            found[name] = parse_query(name, path.read_text("utf-8"), path)
        except ValueError as error:
            raise QueryFileError(f"{path} cannot be used: {error}") from None
    return MappingProxyType(found)


@cache
def load_queries() -> Mapping[str, Query]:
    """The queries that the service runs (sql/queries), by name."""
    return load_files("queries/*/*.sql")


@cache
def load_reports() -> Mapping[str, Query]:
    """The reports (sql/reports), by name."""
    return load_files("reports/*.sql")


@cache
def load_tools() -> Mapping[str, Query]:
    """The DBA's tools (sql/tools), by name: they ask about the server, not about the shop."""
    return load_files("tools/*.sql")
