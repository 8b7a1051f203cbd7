"""Loads the SQL files of sql/queries, sql/reports and sql/tools. A query's name is `<folder>/<file>`: products/get_product.

Each file begins with a header, which is its contract: a sentence, the parameters, the locks, the command that runs it in psql.
A file named `_*.sql` is no query: others include it for the list of columns that they share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

_PACKAGE = Path(__file__).resolve().parent.parent


# What psql replaces (:'name' is a parameter, :name a variable of \set) or obeys (\ir, \set), and what it does not look into.
_TOKEN = re.compile(
    r"""
      :'(?P<name>[a-z_][a-z0-9_]*)'
    | ::
    | :(?P<variable>[a-z_][a-z0-9_]*)
    | ^\\(?P<command>[^\n]*)\n
    | --[^\n]*
    | /\*.*?\*/
    | (?<![A-Za-z0-9_])[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | \$(?P<tag>(?:[A-Za-z_][A-Za-z0-9_]*)?)\$.*?\$(?P=tag)\$
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_COMMAND = re.compile(
    r"ir (?P<file>(?:\.\./[a-z_]+/)?_[a-z_]+\.sql)|set (?P<variable>[a-z_][a-z0-9_]*)(?P<words>( ('[^'\\]*'|:[a-z_][a-z0-9_]*))+)"
)
_WORD = re.compile(r"'(?P<text>[^'\\]*)'|:(?P<variable>[a-z_][a-z0-9_]*)")
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

    text: the file, with what it includes
    sentence: what it does, the first line of the header
    parameters: as declared in the header, in its order
    sql: the statement for psycopg, with `%(name)s` instead of `:'name'`
    names: the parameters that the statement uses, in order of appearance
    """

    name: str
    path: Path
    text: str
    sentence: str
    parameters: Mapping[str, Parameter]
    sql: str
    names: tuple[str, ...]

    def numbered(self) -> str:
        """The statement with `$1`, `$2`, ... instead of `%(name)s`, as the wire protocol needs it."""
        numbers = {name: f"${number}" for number, name in enumerate(self.names, 1)}
        return re.sub(r"%\((\w+)\)s|%%", lambda match: numbers[match[1]] if match[1] else "%", self.sql)


def parse_query(name: str, text: str, path: Path = Path()) -> Query:
    """Turn a file that psql runs into a Query that psycopg runs. ValueError if it is not one statement, or an include is missing.

    Comments are dropped. The name is added as one: PostgreSQL's log and its statistics views show it.
    """
    text = _expand(text, path.parent, {})
    statement, names = _translate(text)
    words = statement.split(None, 1)
    if len(words) < 2:
        raise ValueError("it has no statement")
    return Query(
        name=name,
        path=path,
        text=text,
        sentence=text.partition("\n")[0].removeprefix("-- "),
        parameters=_parameters(text),
        # Not at the very beginning: pg_stat_statements 18 drops a leading comment.
        sql=f"{words[0]} /* {name} */ {words[1]}",
        names=names,
    )


def _translate(text: str) -> tuple[str, tuple[str, ...]]:
    """The statement without comments and with psycopg's placeholders, and the names of its parameters."""
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
    return "".join(parts).strip().removesuffix(";"), tuple(names)


def split_statements(text: str) -> list[str]:
    """The statements of a file without variables, as psql divides it: at each `;` that is not quoted. Without comments."""
    statements, end = [""], 0
    for token in _TOKEN.finditer(text + "\n--"):
        first, *others = text[end : token.start()].split(";")
        statements[-1] += first
        statements += others
        if not token[0].startswith(("--", "/*")):
            statements[-1] += token[0]
        end = token.end()
    return [stripped for statement in statements if (stripped := statement.strip())]


def _expand(text: str, folder: Path, variables: dict[str, str]) -> str:
    r"""Do what psql does with `\ir FILE` (beside this one, or in a folder beside), `\set NAME TEXT` and `:NAME`."""

    def value(name: str) -> str:
        if name not in variables:
            raise ValueError(f"there is no variable {name}")
        return variables[name]

    def expand(token: re.Match[str]) -> str:
        if token["command"] is None:
            return value(token["variable"]) if token["variable"] else token[0]
        command = _COMMAND.fullmatch(token["command"])
        if command is None:
            raise ValueError(f"\\{token['command']} is not understood here")
        if command["file"]:
            if not (folder / command["file"]).is_file():
                raise ValueError(f"there is no {command['file']} beside it")
            return _expand((folder / command["file"]).read_text("utf-8"), folder, variables)
        words = _WORD.finditer(command["words"])
        variables[command["variable"]] = "".join(value(word["variable"]) if word["variable"] else word["text"] for word in words)
        return ""

    return _TOKEN.sub(expand, text)


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
    return load_files("queries/*/[!_]*.sql")


@cache
def load_reports() -> Mapping[str, Query]:
    """The reports (sql/reports), by name."""
    return load_files("reports/*.sql")


@cache
def load_tools() -> Mapping[str, Query]:
    """The DBA's tools (sql/tools), by name: they ask about the server, not about the shop."""
    return load_files("tools/*.sql")
