"""`petstore psql`, and `petstore sql`, which runs one file of sql/ in psql."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import groupby
from urllib.parse import unquote, urlsplit

from petstore import embedded
from petstore.cli.connect import clear_cache, open_shop
from petstore.cli.output import CommandError, report
from petstore.db.queries import Query, load_queries, load_reports, load_tools
from petstore.settings import Settings

_TOP = "tools/top_queries"
_TOP_NEEDS = (
    "if pg_stat_statements is missing: name it in shared_preload_libraries (postgresql.conf), restart PostgreSQL, "
    "and run sql/roles.sql as a superuser; the extension must be in the schema public"
)
_WIDTH = 130  # characters of a line of the list
_FIRST_WORD = re.compile(r"\A((?:\s|--[^\n]*\n|/\*.*?\*/)*)(\w+)", re.DOTALL)  # the comments before it, and the word
# psql runs one of these after the statement. A transaction has an id once it has written something or locked a row.
_COMMIT = r"""
\set QUIET on
COMMIT;
\warn 'petstore: committed'
"""
_ROLL_BACK = r"""
\set QUIET on
SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS wrote \gset
ROLLBACK;
\if :wrote
    \warn 'petstore: rolled back, its changes are not kept (--commit keeps them)'
\endif
"""


def _files() -> Mapping[str, Query]:
    return {**load_queries(), **load_reports(), **load_tools()}


def psql(settings: Settings, options: argparse.Namespace) -> None:
    """Run psql on the service's database as petstore_app, or as --owner or --report. All other arguments go to psql."""
    with embedded.attach(settings, report) as attached:
        url = getattr(attached, f"{options.role}_url")
        if not url:
            raise CommandError(f"set PETSTORE_{options.role.upper()}_URL to use --{options.role}")
        status = _run_psql(url, options.rest)
    raise SystemExit(status)


def sql(settings: Settings, options: argparse.Namespace) -> None:
    """Run one file of sql/ in psql, in a transaction that is rolled back. Without a name, list all files."""
    name, given = options.name, options.parameters
    if options.top is not None:
        if name:
            raise CommandError(f"--top takes no name: it runs {_TOP}")
        name, given = _TOP, [f"limit={options.top}"]
    if name is None:
        if options.explain or options.commit:
            raise CommandError("name the file to run; `petstore sql` lists them all")
        print(_list())
        return
    query = _find(name)
    values = _values(query, given)
    with open_shop(settings) as (settings, _, shop):
        url = (settings.report_url if name in load_reports() else None) or settings.database_url or ""
        try:
            # The time that petstore_app has is for requests; petstore_report has enough.
            status = _run_file(url, query, values, options, unlimited=url == settings.database_url)
        finally:  # also when psql was killed: it may have committed
            if options.commit:
                clear_cache(settings, shop.identity)
    if status and name == _TOP:
        report(_TOP_NEEDS)
    raise SystemExit(status)


def _list() -> str:
    """Every file with the sentence of its header, by folder."""
    width = max(map(len, _files())) + 2
    folders = [
        "\n".join(
            textwrap.fill(_files()[name].sentence, _WIDTH, initial_indent=name.ljust(width), subsequent_indent=" " * width)
            for name in names
        )
        for _, names in groupby(_files(), lambda name: name.partition("/")[0])
    ]
    return "\n\n".join(folders)


def _find(name: str) -> Query:
    if name not in _files():
        near = get_close_matches(name, _files(), cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise CommandError(f"there is no {name}; {hint}`petstore sql` lists them all")
    return _files()[name]


def _values(query: Query, given: Sequence[str]) -> dict[str, str]:
    """A value for each parameter, from `name=value`. A nullable one can be left out. CommandError with all faults."""
    values: dict[str, str] = {}
    faults = []
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            faults.append(f"{word} is not NAME=VALUE")
        elif name not in query.parameters:
            faults.append(f"it has no parameter {name}")
        elif name in values:
            faults.append(f"{name} is given twice")
        elif not value and not query.parameters[name].nullable and query.parameters[name].type != "text":
            faults.append(f"{name} is empty")
        else:
            values[name] = value
    faults += [f"{name} is missing" for name, one in query.parameters.items() if not one.nullable and name not in values]
    if faults:
        raise CommandError("\n".join([f"{query.name}: {fault}" for fault in faults] + _parameter_list(query)))
    return {name: values.get(name, "") for name in query.parameters}


def _parameter_list(query: Query) -> list[str]:
    """The parameters of a query, one per line."""
    if not query.parameters:
        return ["it takes no parameters"]
    names, types = (max(map(len, words)) for words in zip(*((p.name, p.type) for p in query.parameters.values()), strict=True))
    return [
        "its parameters:",
        *(f"  {p.name.ljust(names)}  {p.type.ljust(types)}  {p.meaning}" for p in query.parameters.values()),
    ]


def _run_file(url: str, query: Query, values: Mapping[str, str], options: argparse.Namespace, *, unlimited: bool) -> int:
    """Run a file in psql; its exit status. The name goes behind the first word, as in the service, for pg_stat_statements."""
    explain = "EXPLAIN (ANALYZE, BUFFERS) " if options.explain else ""
    statement = _FIRST_WORD.sub(rf"\1{explain}\2 /* {query.name} */", query.text, count=1)
    arguments = ["-X", "-q", "-v", "ON_ERROR_STOP=1"]
    for name, value in values.items():
        arguments += ["-v", f"{name}={value}"]
    arguments += ["-c", "BEGIN"]
    if unlimited:
        arguments += ["-c", "SET LOCAL statement_timeout = 0"]
    arguments += ["-c", r"\set QUIET off", "-f", "-"]
    # The semicolon ends a file that has none; a second one does no harm.
    return _run_psql(url, arguments, statement + "\n;" + (_COMMIT if options.commit else _ROLL_BACK))


def _run_psql(url: str, arguments: Sequence[str], text: str | None = None) -> int:
    """Run psql with `text` or this process's standard input as its input; its exit status."""
    url, environment = _without_password(url)
    signal.signal(signal.SIGINT, lambda *_: None)  # psql gets it too, and cancels its query
    command = [embedded.find_program("psql"), "-d", url, *arguments]
    status = subprocess.run(command, env=environment, input=None if text is None else text.encode()).returncode
    return status if status >= 0 else 128 - status


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its password, which the list of processes would show to all users, and an environment that has it."""
    parts = urlsplit(url)
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    if not colon:
        return url, dict(os.environ)
    netloc = f"{user}@{parts.netloc.rpartition('@')[2]}"
    return parts._replace(netloc=netloc).geturl(), {**os.environ, "PGPASSWORD": unquote(password)}
