"""The command line: `petstore serve` and the commands for operators."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from petstore import __version__, db, signals
from petstore.auth import signing_keys
from petstore.cli import logs
from petstore.cli.accounts import create_admin, set_password
from petstore.cli.check import check
from petstore.cli.child import Supervised
from petstore.cli.database import migrate, seed
from petstore.cli.housekeep import housekeep
from petstore.cli.keys import generate_keys, rotate_keys
from petstore.cli.output import CommandError, report
from petstore.cli.serve import serve, worker
from petstore.cli.sql import psql, sql
from petstore.db.queries import QueryFileError
from petstore.db.schema import MigrationError
from petstore.embedded import EmbeddedError
from petstore.settings import Settings, SettingsError, load_settings, parse_workers


def main(arguments: list[str] | None = None) -> None:
    """Run one command. Exit status 2, with a message, when it cannot be carried out."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    options.supervisor = Supervised(getattr(options, "pipe", None))
    fail = partial(_fail, options.supervisor)
    logs.configure_process()
    signals.raise_interrupted()
    try:
        settings = load_settings()
        logs.set_levels(settings.access_log)
        options.command(settings, options)
    except (SettingsError, CommandError, EmbeddedError, QueryFileError, MigrationError, signing_keys.KeyFault) as error:
        fail(str(error))
    except db.Error as error:
        fail(f"the database {'refused' if error.sqlstate else 'cannot be used'}: {str(error).strip()}")
    except BrokenPipeError:  # the reader of standard output, such as head(1), has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        fail(f"{error.filename or 'the system refused'}: {error.strerror or error}")
    except signals.Interrupted as interrupt:
        fail("interrupted", interrupt.status)


def _fail(supervisor: Supervised, text: str, status: int = 2) -> NoReturn:
    if not supervisor.told(text):
        for line in text.splitlines():
            report(line, logging.ERROR if status == 2 else logging.WARNING)
    raise SystemExit(status)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _parser()
    if arguments[:1] == ["psql"] and not {"-h", "--help"} & set(arguments[1:2]):  # all other arguments are psql's
        role = {"--owner": "owner", "--report": "report"}.get("".join(arguments[1:2]), "database")
        return argparse.Namespace(command=psql, role=role, rest=arguments[1 if role == "database" else 2 :])
    if arguments[:1] == ["sql"]:  # options may come after the name, which argparse does not support here
        arguments = ["sql", *sorted(arguments[1:], key=lambda word: not word.startswith("-"))]
    return parser.parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="petstore", description="A pet shop's backend.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function: Callable[[Settings, argparse.Namespace], None]) -> argparse.ArgumentParser:
        sentence = (function.__doc__ or "").splitlines()[0]
        name = function.__name__.replace("_", "-")
        subparser = commands.add_parser(name, help=sentence, description=sentence, allow_abbrev=False)
        subparser.set_defaults(command=function)
        return subparser

    _add_serve_options(command(serve), commands.add_parser("worker"))  # a command without help is not listed
    _add_migrate_options(command(migrate))
    command(check)
    seed_parser = command(seed)
    for what in ("products", "users", "invoices"):
        seed_parser.add_argument(f"--{what}", type=_count, default=0, metavar="N", help=f"add N {what}, for load tests")
    command(create_admin).add_argument("email", metavar="EMAIL")
    command(set_password).add_argument("email", metavar="EMAIL")
    _add_housekeep_options(command(housekeep))
    _add_key_options(command(generate_keys), command(rotate_keys))
    psql_parser = command(psql)
    psql_parser.add_argument("--owner", action="store_true", help="as the owner of the schema; must be the first argument")
    psql_parser.add_argument("--report", action="store_true", help="as petstore_report, read-only; must be the first argument")
    _add_sql_options(command(sql))
    return parser


def _add_serve_options(serving: argparse.ArgumentParser, working: argparse.ArgumentParser) -> None:
    serving.add_argument("--setup", action="store_true", help="first make what is missing: servers, key, schema, demo catalogue")
    serving.add_argument("--demo", action="store_true", help="add the demo catalogue if the database is empty")
    serving.add_argument("--reset", action="store_true", help="first delete the data of the embedded database")
    serving.add_argument("--workers", type=_workers, metavar="N", help="number of worker processes (PETSTORE_WORKERS)")
    working.set_defaults(command=worker)
    for name in ("listener", "pipe"):
        working.add_argument(name, type=int)


def _add_migrate_options(migrating: argparse.ArgumentParser) -> None:
    migrating.add_argument("--plan", action="store_true", help="only show what it would run, with the locks")
    migrating.add_argument("--to", type=_count, metavar="N", help="stop at schema version N")


def _add_housekeep_options(housekeeping: argparse.ArgumentParser) -> None:
    housekeeping.add_argument("--once", action="store_true", help="run once; exit status 1 if something could not be removed")
    housekeeping.add_argument("--pipe", type=int, help=argparse.SUPPRESS)  # to the supervisor


def _add_key_options(generating: argparse.ArgumentParser, rotating: argparse.ArgumentParser) -> None:
    generating.add_argument("--replace", action="store_true", help="replace the present keys, which ends every access token")
    rotating.add_argument(
        "--publish-seconds",
        type=_count,
        default=signing_keys.PUBLISH_SECONDS,
        metavar="N",
        help="how long the new key is published before it signs; verifiers may cache the old keys for so long",
    )
    for parser in (generating, rotating):
        parser.add_argument("--bits", type=int, default=signing_keys.MINIMUM_BITS, help="size of the RSA key")


def _add_sql_options(parser: argparse.ArgumentParser) -> None:
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--explain", action="store_true", help="run it, and show its query plan with times (EXPLAIN ANALYZE)")
    modes.add_argument("--commit", action="store_true", help="commit what it changes, and clear the cache")
    modes.add_argument("--top", type=_count, nargs="?", const=20, metavar="N", help="list the N (20) most expensive statements")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the file, such as products/get_product")
    parser.add_argument("parameters", nargs="*", metavar="PARAMETER=VALUE", help="a nullable parameter can be left out")


def _workers(text: str) -> int:
    try:
        return parse_workers(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    digits = text.replace("_", "").replace(",", "")
    if not digits.isascii() or not digits.isdigit():
        raise argparse.ArgumentTypeError("must be a whole number, 0 or more")
    return int(digits)


if __name__ == "__main__":
    main()
