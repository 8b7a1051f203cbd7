"""Loads the SQL files: sql/queries, named `<resource>/<verb>_<noun>`; sql/reports and sql/tools, named by folder and file.

Each begins with a header, which is its contract: a sentence, its parameters, its locks, the line that runs it in psql.
"""

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


# `--   product_id  bigint  the product`, in a header.
_PARAMETER = re.compile(r"^--   (?P<name>[a-z_][a-z0-9_]*) +(?P<type>[a-z]+(?:\[\])?)  +(?P<meaning>\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """A parameter as the header of its file tells it. type: as PostgreSQL spells it; nullable: an empty value means NULL."""

    name: str
    type: str
    meaning: str
    nullable: bool


@dataclass(frozen=True)
class Query:
    """One SQL file.

    name: `products/get_product`; path: the file; sentence: what it does; parameters: by name, in order of the header; sql: what
    psycopg runs, with `%(name)s` in the place of `:'name'`; names: the parameters' names in order of appearance.
    """

    name: str
    path: Path
    sentence: str
    parameters: Mapping[str, Parameter]
    sql: str
    names: tuple[str, ...]

    def numbered(self) -> str:
        """The statement with `$1`, `$2`, ... for its parameters, as the wire protocol wants it."""
        numbers = {name: f"${number}" for number, name in enumerate(self.names, 1)}
        return re.sub(r"%\((\w+)\)s|%%", lambda match: numbers[match[1]] if match[1] else "%", self.sql)


def parse_query(name: str, text: str, path: Path = Path()) -> Query:
    """Turn the text of a file, which psql runs as it is, into what psycopg runs. Comments are left out, but for the name.

    ValueError: it is not one statement.
    """
    names: dict[str, None] = {}
    parts, end, code = [], 0, ""
    for token in _TOKEN.finditer(text + "\n--"):  # which ends the last part
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
        # The name goes with the statement, so that PostgreSQL's log, pg_stat_activity and pg_stat_statements tell which file is
        # running; behind the first word, because pg_stat_statements (since PostgreSQL 18) leaves out what stands before it.
        sql=f"{words[0]} /* {name} */ {words[1]}",
        names=tuple(names),
    )


def _parameters(text: str) -> Mapping[str, Parameter]:
    header = text[: end.start()] if (end := re.search("^(?!--)", text, re.MULTILINE)) else text
    found = [Parameter(**match.groupdict(), nullable="NULL (empty in psql)" in match[0]) for match in _PARAMETER.finditer(header)]
    return MappingProxyType({parameter.name: parameter for parameter in found})


def load_queries(pattern: str, folder: Path = SQL_FOLDER) -> Mapping[str, Query]:
    """Every query whose file matches, by its name. One that cannot be read ends the program, with the name of the file."""
    found = {}
    for path in sorted(folder.glob(pattern)):
        name = f"{path.parent.name}/{path.stem}"
        try:
            found[name] = parse_query(name, path.read_text("utf-8"), path)
        except ValueError as error:
            raise SystemExit(f"petstore: {path} cannot be used: {error}") from None
    return MappingProxyType(found)


QUERIES = load_queries("queries/*/*.sql")
REPORTS = load_queries("reports/*.sql")
TOOLS = load_queries("tools/*.sql")  # what a DBA asks of the server, not of the shop
