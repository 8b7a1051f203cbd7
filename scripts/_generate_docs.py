"""Writes what docs/ takes from code, clients and sql/schema.sql, and sql/catalog.csv, or says which of it is out of date."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import _er_diagram
from _catalog import CATALOG, catalog_text

from petstore import db, embedded
from petstore.app import openapi_document
from petstore.db import schema
from petstore.db.queries import load_queries, load_reports, load_tools
from petstore.settings import OTHER_VARIABLES, Settings, variable

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OPENAPI, DATABASE, SETTINGS, PLANS = DOCS / "openapi.json", DOCS / "database.md", DOCS / "settings.md", DOCS / "plans"
API, CLIENTS = DOCS / "api.md", (DOCS / "clients" / "client.py", DOCS / "clients" / "client.ts")
PICTURE = DOCS / "images" / "ER_Diagram.png"


def out_of_date(conn: Any, catalog: str) -> list[Path]:
    """The files that are not as `generate` would make them.

    conn: to a database with the schema, as its owner. catalog: the text of sql/catalog.csv, as `catalog_text` gives it.
    """
    model = _er_diagram.read_model(conn)
    texts = {**_texts(model), CATALOG: catalog}
    found = [path for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text]
    return found if PICTURE.exists() and _er_diagram.mark(*model).encode() in PICTURE.read_bytes() else [*found, PICTURE]


def generate(conn: Any, catalog: str) -> list[Path]:
    """Write the files that are out of date; which ones. See `out_of_date`."""
    found, model = out_of_date(conn, catalog), _er_diagram.read_model(conn)
    for path in found:
        if path == PICTURE:
            _er_diagram.draw(*model, PICTURE)
        else:
            path.write_text({**_texts(model), CATALOG: catalog}[path], "utf-8")
    return found


def _texts(model: tuple[Any, Any]) -> dict[Path, str]:
    """The generated texts, each whole, by file."""
    return {
        OPENAPI: json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n",
        API: between(API, {file.name: f"```{file.suffix[1:]}\n{file.read_text('utf-8')}```" for file in CLIENTS}),
        DATABASE: between(DATABASE, {"er-diagram": _er_diagram.mermaid(*model)}),
        SETTINGS: between(SETTINGS, {"settings": settings_table()}),
    }


def between(path: Path, blocks: Mapping[str, str]) -> str:
    """The text of a file with each of these blocks between its comments `<!-- name:begin -->` and `<!-- name:end -->`."""
    text = path.read_text("utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{path} needs the lines {begin} and {end}")
        text = f"{before}{begin}\n{block}\n{end}{after}"
    return text


def settings_table() -> str:
    """Every variable of the environment with its default, as a table."""
    rows = [(variable(field.name), _shown(field.default), field.metadata["meaning"]) for field in fields(Settings)]
    rows += [(name, "–", meaning) for name, meaning in OTHER_VARIABLES.items()]
    lines = [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in rows]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *lines])


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "–"
    if isinstance(default, bool):
        return "`on`" if default else "`off`"
    return f"`{':'.join(map(str, default)) if isinstance(default, tuple) else default}`"


@contextmanager
def _own_database() -> Iterator[tuple[Any, str]]:
    """A connection to a new database with the schema, on a server that lives only for it; and the text of the catalog."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o711)  # a server that root starts runs as somebody else
        server = embedded.Postgres(home)
        try:
            server.start()
            server.create_database("catalog")
            catalog = catalog_text(server.url("postgres", "catalog"))
            server.create_database()
            schema.create_schema(server.url("postgres"), currency="USD", minor_digits=2)
            with db.connect(server.url("petstore_owner")) as conn:
                yield conn, catalog
        finally:
            server.stop()
            embedded.remove_data(home)


def _plans(check: bool) -> int:
    """Write the plans of all queries in a big shop, which the tests make, or compare them; the exit status."""
    known = {**load_queries(), **load_reports(), **load_tools()}
    for path in PLANS.glob("*/*.txt"):
        if not check and path.relative_to(PLANS).with_suffix("").as_posix() not in known:
            path.unlink()
    command = [sys.executable, "-m", "pytest", "-q", "tests/sql/test_plans.py", "-k", "plan_is_the_one or no_plan_of"]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "RECORD_PLANS": "" if check else "1"}).returncode


def main() -> None:
    """See the options."""
    parser = argparse.ArgumentParser(prog="scripts/generate_docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 when anything is out of date")
    parser.add_argument("--plans", action="store_true", help="also docs/plans, which takes minutes")
    options = parser.parse_args()
    with _own_database() as (conn, catalog):
        found = (out_of_date if options.check else generate)(conn, catalog)
    for path in found:
        print(f"{'out of date' if options.check else 'written'}: {path.relative_to(ROOT)}")
    if options.check and found:
        print("run scripts/generate_docs, look at what it changed, and commit it")
    status = int(options.check and bool(found))
    if options.plans:
        status = _plans(options.check) or status
    raise SystemExit(status)


if __name__ == "__main__":
    main()
