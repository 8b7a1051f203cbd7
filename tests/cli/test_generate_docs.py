"""scripts/generate_docs: what it writes is up to date, and what is not is named and written again."""

from __future__ import annotations

import csv
import importlib
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from petstore import db
from petstore.db import catalog as catalog_of_db
from petstore.db.differences import differences
from petstore.db.migrations import load_folder, newest_version

ROOT = Path(__file__).parents[2]
FILES = ("OPENAPI", "DATABASE", "SETTINGS", "PICTURE", "CATALOG")


@pytest.fixture
def docs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/_generate_docs.py as a module."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("_generate_docs")


@pytest.fixture
def copies(docs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The same, on copies of the files that it writes."""
    for name in FILES:
        path = tmp_path / getattr(docs, name).name
        shutil.copy(getattr(docs, name), path)
        monkeypatch.setattr(docs, name, path)
    return docs


@pytest.fixture
def schema(cluster: Any, template: str) -> Iterator[Any]:
    """A connection as petstore_owner to a copy of the schema that a test may change."""
    with cluster.database("docs", template) as name, db.connect(cluster.url("petstore_owner", name)) as conn:
        conn.execute("SET search_path = m2_be_project")
        yield conn


@pytest.fixture(scope="module")
def catalog(cluster: Any) -> str:
    """The text of sql/catalog.csv, as it has to be."""
    with pytest.MonkeyPatch.context() as patch, cluster.database("catalog") as name, cluster.changing_roles():
        patch.syspath_prepend(ROOT / "scripts")
        return importlib.import_module("_catalog").catalog_text(cluster.url("postgres", name))


def test_what_is_generated_is_up_to_date(docs, schema, catalog):
    assert docs.out_of_date(schema, catalog) == [], "run scripts/generate_docs"


@pytest.mark.parametrize("name", ["OPENAPI", "DATABASE", "SETTINGS", "CATALOG"])
def test_a_text_that_is_out_of_date_is_named_and_written_as_it_was(copies, schema, catalog, name):
    path = getattr(copies, name)
    whole = path.read_text("utf-8")
    path.write_text(whole.replace("currency", "money").replace("PETSTORE_CURRENCY", "PETSTORE_MONEY"), "utf-8")
    assert path.read_text("utf-8") != whole
    assert copies.out_of_date(schema, catalog) == [path]
    assert copies.generate(schema, catalog) == [path]
    assert path.read_text("utf-8") == whole
    assert copies.generate(schema, catalog) == []


def test_a_change_of_the_schema_is_drawn_and_written(copies, schema, catalog):
    pytest.importorskip("matplotlib")
    schema.execute("ALTER TABLE users ADD COLUMN nickname text")
    before = copies.PICTURE.read_bytes()
    assert copies.generate(schema, catalog) == [copies.DATABASE, copies.PICTURE]
    assert copies.out_of_date(schema, catalog) == []
    assert "text nickname" in copies.DATABASE.read_text("utf-8")
    assert copies.PICTURE.read_bytes() != before


def test_what_has_no_definition_cannot_be_written(docs, cluster, tmp_path, monkeypatch):
    catalog = importlib.import_module("_catalog")
    baseline = tmp_path / "baseline.sql"
    baseline.write_text(f"{catalog.BASELINE.read_text('utf-8')}CREATE TYPE m2_be_project.mood AS ENUM ('good');", "utf-8")
    monkeypatch.setattr(catalog, "BASELINE", baseline)
    with (
        cluster.database("catalog") as name,
        cluster.changing_roles(),
        pytest.raises(SystemExit, match="no definition of type mood,"),
    ):
        catalog.catalog_text(cluster.url("postgres", name))


TRIAL = """-- What it does is put back later.
--
-- Locks: ACCESS EXCLUSIVE on invoices, for milliseconds.
-- Rewrites: nothing.
-- Safe: yes
{change}
INSERT INTO schema_version (version, name, safe) VALUES ({version}, 'trial', true);
"""
CALL = "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $function${body}$function$;"


def test_what_goes_and_comes_again_has_a_row_for_each_time(docs, cluster, tmp_path, monkeypatch, template):
    newest = newest_version()
    with db.connect(cluster.url("postgres", template)) as conn:
        (body,) = conn.execute("SELECT prosrc FROM pg_proc WHERE proname = 'refuse_change'").fetchone()
    changes = [
        "DROP INDEX invoices_age;" + CALL.format(body="BEGIN RETURN new; END"),
        "CREATE INDEX invoices_age ON invoices (created_at, id);" + CALL.format(body=body),
    ]
    for version, change in enumerate(changes, newest + 1):
        (tmp_path / f"{version:04}_trial.sql").write_text(TRIAL.format(change=change, version=version), "utf-8")
    with cluster.database("catalog") as name, cluster.changing_roles():
        trial = load_folder(tmp_path)
        text = importlib.import_module("_catalog").catalog_text(cluster.url("postgres", name), trial)
        rows = [row for row in csv.reader(io.StringIO(text)) if row[3] in ("invoices.invoices_age", "refuse_change()")]
        (tmp_path / "catalog.csv").write_text(text, "utf-8")
        monkeypatch.setattr(catalog_of_db, "sql_folder", lambda: tmp_path)
        catalog_of_db._rows.cache_clear()
        try:
            with db.connect(cluster.url("postgres", name)) as conn:
                assert differences(conn, newest + 2, 2) == []
                assert {one.name for one in differences(conn, newest + 1, 2) if one.kind in ("index", "function")} == {
                    "invoices.invoices_age",
                    "refuse_change()",
                }
        finally:
            catalog_of_db._rows.cache_clear()
    spans = [("5", str(newest + 1)), (str(newest + 2), "")]
    assert sorted(row[:2] for row in rows if row[2] == "index") == sorted(map(list, spans))
    assert sorted(row[:2] for row in rows if row[2] == "function") == sorted(
        map(list, [*spans, (str(newest + 1), str(newest + 2))])
    )


def test_what_stands_around_a_block_stays_and_a_page_without_its_comments_is_refused(docs, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n<!-- x:begin -->\nold\n<!-- x:end -->\nTwo\n")
    assert docs.between(page, {"x": "new"}) == "# One\n<!-- x:begin -->\nnew\n<!-- x:end -->\nTwo\n"
    page.write_text("# One\n<!-- x:begin -->\n")
    with pytest.raises(SystemExit, match=r"page\.md needs the lines <!-- x:begin --> and <!-- x:end -->"):
        docs.between(page, {"x": "new"})


@pytest.mark.slow
def test_the_check_makes_a_database_of_its_own_and_writes_nothing():
    command = [sys.executable, ROOT / "scripts/_generate_docs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
