"""How PostgreSQL runs every SQL file in a big shop: none walks a big table, and docs/plans has the plans, for whoever keeps a database.

A plan that is meant to change is written down anew by scripts/generate_docs --plans, which sets RECORD_PLANS.
"""

import difflib
import os

import pytest
from psycopg.sql import quote

from petstore import db
from petstore.db.queries import load_queries, load_reports, load_tools, sql_folder
from tests.sql.big_shop import BIG, LISTS, PAGE, SMALL, asked, deep_cursor, open_shop
from tests.sql.psql_lines import line, statement, values

pytestmark = pytest.mark.slow

CATALOG_ONLY = "tools/describe_schema"  # it reads no table of ours: its plan is a matter of PostgreSQL's statistics of its own
ALL = {name: query for name, query in {**load_queries(), **load_reports(), **load_tools()}.items() if name != CATALOG_ONLY}
FOLDER = sql_folder().parent / "docs/plans"
MAJOR = 18  # of the PostgreSQL whose plans are written down
MANY = 50_000  # rows
WALKS = {
    "reports/ledger_proof": "it proves every movement that there is",
    "reports/low_stock": "an index on stock would be paid for by every purchase",
    "reports/stock_value": "it is the sum of all",
}


@pytest.fixture(scope="module")
def shop(cluster, big_shop):
    with db.connect(cluster.url("postgres", big_shop)) as conn:
        yield conn


@pytest.fixture(scope="module")
def small_shop(cluster, template):
    with open_shop(cluster, template, SMALL) as conn:
        yield conn


def explain(conn, query, form, generic=False, given=None):
    """The plan for the values of the psql line (or those given), or for any values."""
    given = given or values(query)
    if not generic:
        return conn.execute(f"EXPLAIN ({form}) {statement(query, given)}").fetchall()
    with conn.transaction(force_rollback=True):
        conn.execute(f"SET LOCAL plan_cache_mode = force_generic_plan; PREPARE any_values AS {query.numbered()}")
        arguments = ", ".join(quote(given[name]) for name in query.names)
        try:
            return conn.execute(f"EXPLAIN ({form}) EXECUTE any_values" + (f" ({arguments})" if arguments else "")).fetchall()
        finally:
            conn.execute("DEALLOCATE any_values")


def nodes(plan, limited=False):
    """Each node, and whether a LIMIT above it may end it early."""
    yield plan, limited
    for child in plan.get("Plans", ()):
        yield from nodes(child, limited or plan["Node Type"] == "Limit")


def walks(conn, plan):
    """What of a plan goes through a big table or index without a condition, or has a great many rows at once."""
    sizes = dict(conn.execute("SELECT relname, reltuples FROM pg_class WHERE relkind IN ('r', 'i')").fetchall())
    for node, limited in nodes(plan):
        kind, source = node["Node Type"], node.get("Index Name", node.get("Relation Name"))
        unbounded = (
            kind.endswith("Scan") and kind != "Bitmap Heap Scan" and "Index Cond" not in node and sizes.get(source, 0) > MANY
        )
        many = node["Plan Rows"] > MANY and (not limited or kind in ("Sort", "Incremental Sort", "Hash", "Materialize"))
        if unbounded or many:
            yield f"{kind} of {source or 'what is below it'}"


@pytest.mark.parametrize("generic", [False, True], ids=["these values", "any values"])
@pytest.mark.parametrize("name", sorted(ALL))
def test_no_file_walks_a_big_table(shop, name, generic):
    [([plan],)] = explain(shop, ALL[name], "FORMAT JSON", generic)
    found = list(walks(shop, plan["Plan"]))
    assert bool(found) == (name in WALKS), found


def visited(plan):
    """How many rows the scans of a plan looked at, and how many pages of 8 kB were read for all of it, from memory or from disk."""
    scans = [node for node, _ in nodes(plan) if "Relation Name" in node]
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows = sum(node["Actual Loops"] * (node["Actual Rows"] + sum(node.get(name, 0) for name in removed)) for node in scans)
    return rows, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.mark.parametrize("generic", [False, True], ids=["these values", "any values"])
@pytest.mark.parametrize(("name", "filters"), LISTS, ids=str)
def test_a_page_costs_the_same_in_a_small_shop_and_in_a_big_one_however_far_behind(shop, small_shop, name, filters, generic):
    query = ALL[name]
    for conn, size in ((small_shop, SMALL), (shop, BIG)):
        first = asked(query, filters, size)
        for given in (first, asked(query, filters, size, deep_cursor(conn, query, first))):
            [([plan],)] = explain(conn, query, "ANALYZE, BUFFERS, FORMAT JSON", generic, given)
            rows, pages = visited(plan["Plan"])
            emails = PAGE * ("admin_columns" in query.path.read_text())  # each invoice's customer is looked up by primary key
            assert rows <= PAGE + emails + 2, (size, given)  # the shop's currency, and where the page before ended
            assert pages <= 2 * PAGE + 4 * emails + 20, (size, given)  # a row lies on a page, and there are the indexes' levels


def written_down(query, plan):
    return "\n".join([query.name, query.sentence, "", line(query), "", *(row for (row,) in plan), ""])


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_plan_is_the_one_that_is_written_down(shop, name):
    if shop.info.server_version // 10_000 != MAJOR:
        pytest.skip(f"the plans are those of PostgreSQL {MAJOR}")
    now = written_down(ALL[name], explain(shop, ALL[name], "COSTS OFF"))
    path = FOLDER / f"{name}.txt"
    if os.environ.get("RECORD_PLANS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(now, "utf-8")
    before = path.read_text("utf-8") if path.exists() else ""
    changed = "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), "written down", "now", lineterm=""))
    assert not changed, f"{changed}\nIf that is meant: scripts/generate_docs --plans"


def test_there_is_no_plan_of_what_is_no_longer_there():
    assert {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*.txt")} == set(ALL)
