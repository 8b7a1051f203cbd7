"""The command line: `petstore serve`, and what operators need beside it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from petstore import __version__, db, signals
from petstore.auth import signing_keys
from petstore.cli.accounts import create_admin, set_password
from petstore.cli.database import migrate, seed
from petstore.cli.housekeep import housekeep
from petstore.cli.keys import generate_keys, rotate_keys
from petstore.cli.openapi import openapi
from petstore.cli.output import CommandError, report
from petstore.cli.serve import serve, worker
from petstore.cli.sql import psql, sql
from petstore.db.queries import QueryFileError
from petstore.embedded import EmbeddedError
from petstore.settings import Settings, SettingsError, load_settings, parse_workers


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what cannot be done is said in words, with status 2."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    # What our lines do not show is not looked for (Python's Logging HOWTO, "Optimization"): half of what a line costs.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # petstore.db says it once, not once per attempt
    signals.install()
    try:
        settings = load_settings()
        logging.getLogger("petstore").setLevel(logging.INFO if settings.access_log else logging.WARNING)
        options.command(settings, options)
    except (SettingsError, CommandError, EmbeddedError, QueryFileError, signing_keys.KeyFault) as error:
        _fail(str(error))
    except db.Error as error:
        _fail(f"the database {'refused' if error.sqlstate else 'cannot be used'}: {str(error).strip()}")
    except BrokenPipeError:  # who reads our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        _fail(f"{error.filename or 'the system refused'}: {error.strerror or error}")
    except signals.Interrupted as interrupt:
        _fail("interrupted", interrupt.status)


def _fail(text: str, status: int = 2) -> NoReturn:
    for line in text.splitlines():
        report(line)
    raise SystemExit(status)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _parser()
    if arguments[:1] == ["psql"] and not {"-h", "--help"} & set(arguments[1:2]):  # the rest is psql's, not argparse's
        role = {"--owner": "owner", "--report": "report"}.get("".join(arguments[1:2]), "database")
        return argparse.Namespace(command=psql, role=role, rest=arguments[1 if role == "database" else 2 :])
    if arguments[:1] == ["sql"]:  # its options may stand anywhere, which argparse leaves to who calls it
        arguments = ["sql", *sorted(arguments[1:], key=lambda word: not word.startswith("-"))]
    return parser.parse_args(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="petstore", description="A pet shop's backend.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function: Callable[[Settings, argparse.Namespace], None]) -> argparse.ArgumentParser:
        sentence = (function.__doc__ or "").splitlines()[0]
        added = commands.add_parser(function.__name__.replace("_", "-"), help=sentence, description=sentence, allow_abbrev=False)
        added.set_defaults(command=function)
        return added

    _add_serve_options(command(serve), commands.add_parser("worker"))  # the second without help: it is not shown
    command(migrate)
    loading = command(seed)
    for what in ("products", "users", "invoices"):
        loading.add_argument(f"--{what}", type=_count, default=0, metavar="N", help=f"so many {what} for load tests")
    command(create_admin).add_argument("email", metavar="EMAIL")
    command(set_password).add_argument("email", metavar="EMAIL")
    command(openapi)
    _add_housekeep_options(command(housekeep))
    _add_key_options(command(generate_keys), command(rotate_keys))
    connecting = command(psql)
    connecting.add_argument("--owner", action="store_true", help="as the owner of the schema; the first argument")
    connecting.add_argument("--report", action="store_true", help="as petstore_report, which only reads; the first argument")
    _add_sql_options(command(sql))
    return parser


def _add_serve_options(serving: argparse.ArgumentParser, working: argparse.ArgumentParser) -> None:
    serving.add_argument("--setup", action="store_true", help="make first what is missing: servers, key, schema, demo")
    serving.add_argument("--demo", action="store_true", help="put the demo catalogue into an empty database")
    serving.add_argument("--reset", action="store_true", help="throw the embedded database's data away first")
    serving.add_argument("--workers", type=_workers, metavar="N", help="processes that serve, in place of PETSTORE_WORKERS")
    working.set_defaults(command=worker)
    for name in ("listener", "line"):
        working.add_argument(name, type=int)


def _add_housekeep_options(keeping: argparse.ArgumentParser) -> None:
    keeping.add_argument("--once", action="store_true", help="do it once, and end: status 1 when something could not be removed")
    keeping.add_argument("--pipe", type=int, help=argparse.SUPPRESS)  # a socket of `serve`, whose end is that of this process


def _add_key_options(making: argparse.ArgumentParser, rotating: argparse.ArgumentParser) -> None:
    making.add_argument("--replace", action="store_true", help="in place of the present key, which ends every access token")
    rotating.add_argument(
        "--publish-seconds",
        type=_count,
        default=signing_keys.PUBLISH_SECONDS,
        metavar="N",
        help="how long the new key is shown before it signs: others may keep the old set so long",
    )
    for one in (making, rotating):
        one.add_argument("--bits", type=int, default=signing_keys.MINIMUM_BITS, help="size of the RSA key")


def _add_sql_options(running: argparse.ArgumentParser) -> None:
    how = running.add_mutually_exclusive_group()
    how.add_argument("--explain", action="store_true", help="show its plan, as it was carried out")
    how.add_argument("--commit", action="store_true", help="keep what it wrote, and clear the cache")
    how.add_argument("--top", type=_count, nargs="?", const=20, metavar="N", help="the N (20) statements that took most time")
    running.add_argument("name", nargs="?", metavar="NAME", help="such as products/get_product")
    running.add_argument("parameters", nargs="*", metavar="PARAMETER=VALUE", help="what may be NULL can be left out")


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
