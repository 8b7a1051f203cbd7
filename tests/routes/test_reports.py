"""The reports of sql/reports over HTTP."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone

import pytest

from petstore.db.queries import load_reports, sql_folder
from tests import openapi_contract as contract
from tests.client import Client
from tests.waiting import eventually

NAMES = sorted(name.removeprefix("reports/") for name in load_reports())


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_answered_with_its_sentence_and_an_etag(admin, name):
    answer = admin.get(f"/admin/reports/{name}")
    assert answer.status == 200
    assert answer["Cache-Control"] == "private, no-cache"
    shown = answer.json()
    assert (shown["name"], shown["description"]) == (name, load_reports()[f"reports/{name}"].sentence)
    assert isinstance(shown["items"], list)
    assert admin.get(f"/admin/reports/{name}", headers={"If-None-Match": answer["ETag"]}).status == 304


def test_days_are_days_and_money_is_exact(make, admin, ana):
    product_id = make.product("Tree", "19.90")
    invoice_id = make.invoice(ana.id, {product_id: 3}, status="paid")
    make.conn.execute("UPDATE invoices SET created_at = '2020-02-01T23:59:59.999999Z' WHERE id = %s", (invoice_id,))
    make.invoice(ana.id, {product_id: 1}, status="paid")
    row = {"day": "2020-02-01", "product_id": product_id, "name": "Tree", "currency": "USD", "pieces": 3}
    expected = [row | {"gross": "59.70", "credited": "0.00", "net": "59.70"}]
    path = "/admin/reports/revenue_by_day_and_product?from=2020-02-01&to=2020-02-02T00:00:00Z&limit=1000"
    assert admin.get(path).json()["items"] == expected
    assert len(admin.get("/admin/reports/revenue_by_day_and_product?from=2020-02-01").json()["items"]) == 2
    assert len(admin.get("/admin/reports/revenue_by_day_and_product?from=2020-02-01&limit=1").json()["items"]) == 1


def test_what_is_not_given_is_left_to_the_report_and_50_rows_are_shown(make, admin):
    for stock in range(52):
        make.product(stock=stock % 12)
    whole, cut = (admin.get(f"/admin/reports/low_stock{query}").json() for query in ("", "?stock=11"))
    assert (len(whole["items"]), whole["truncated"]) == (48, False)
    assert (len(cut["items"]), cut["truncated"]) == (50, True)
    assert [item["stock"] for item in admin.get("/admin/reports/low_stock?stock=0&limit=2").json()["items"]] == [0, 0]


def test_ages_are_told_in_whole_days(make, admin, ana):
    old, new = (make.invoice(ana.id, {make.product(price="5.00"): 1}) for _ in range(2))
    made = datetime.now(timezone.utc) - timedelta(days=8, hours=1)
    make.conn.execute("UPDATE invoices SET created_at = %s WHERE id = %s", (made, old))
    shown = admin.get("/admin/reports/unpaid_invoices").json()["items"]
    assert [(item["id"], item["age_days"]) for item in shown] == [(old, 8), (new, 0)]
    assert admin.get("/admin/reports/unpaid_invoices?older_than_days=8").json()["items"] == [
        {"id": old, "user_id": ana.id, "email": "Ana@example.com", "total": "5.00", "currency": "USD"}
        | {"created_at": made.isoformat(timespec="microseconds").replace("+00:00", "Z"), "age_days": 8}
    ]


def test_what_is_no_report_is_not_there(admin):
    for name in ("none", "reports%2Flow_stock", "low_stock.sql", "Low_stock", "..%2Fproducts%2Fget_product", "%00"):
        assert admin.get(f"/admin/reports/{name}").status == 404


@pytest.mark.parametrize(
    ("query", "named"),
    [
        *(("low_stock?stok=1", "stok"), ("low_stock?stock=1&stock=1", "stock"), ("low_stock?stock=", "stock")),
        *(
            (f"low_stock?stock={text}", "stock")
            for text in ("-1", "+1", "1.0", "01", "x", "2147483648", "9" * 30, "%D9%A4", "1%0A")
        ),
        *((f"low_stock?limit={text}", "limit") for text in ("0", "1001", "-1", "x", "10000")),
        *((f"best_customers?from={text}", "from") for text in ("yesterday", "2026-02-30", "infinity", "2026-01-01T12:00")),
        ("best_customers?since=2026-01-01", "since"),
        ("best_customers?until=2026-01-01", "until"),
        ("best_customers?to=now", "to"),
        ("best_customers?stock=1", "stock"),  # which another report takes
        ("stock_value?limit=1", "there are: none"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_a_400_that_names_it(admin, query, named):
    answer = admin.get(f"/admin/reports/{query}")
    assert answer.status == 400
    assert named in answer.json()["detail"]


def test_the_bounds_of_parameters_are_answered_too(admin):
    for query in ("low_stock?stock=2147483647&limit=1000", "unpaid_invoices?older_than_days=2147483647&limit=1"):
        assert admin.get(f"/admin/reports/{query}").status == 200
    for name in ("best_customers", "revenue_by_day_and_product"):
        assert admin.get(f"/admin/reports/{name}?from=0001-01-01&to=9999-12-31").status == 200


# ── a file that somebody drops in ────────────────────────────────────────────────────────────────────────────────────────

DROPPED = """-- What it was given, and more.
--
--   wanted  text         any text
--   number  bigint       a number
--   since   timestamptz  a time; NULL (empty in psql) for none
--   most    bigint       a number; NULL (empty in psql) for none
--
-- Locks: none.
-- psql -v wanted=x -v number=1 -v since= -v most= -f sql/reports/dropped.sql
SELECT
    :'wanted'::text AS wanted,
    :'number'::bigint AS number,
    nullif(:'since'::text, '')::timestamptz AS since,
    nullif(:'most'::text, '')::bigint AS most,
    '2026-01-31'::date AS day,
    1.5 AS amount,
    '{a,b}'::text [] AS some,
    current_setting('transaction_read_only')::boolean AS read_only;
"""
ODD = "-- Takes what a URL does not.\n--\n--   ratio  numeric  a ratio\n--\nSELECT 1 AS one WHERE :'ratio'::numeric > 1;\n"
SECRET = "-- What nobody is to report.\nSELECT email, password FROM users;\n"
FAULTY = "-- A number that is not exact.\nSELECT 1::float8 AS number;\n"


SERVE = (sys.executable, "-m", "petstore", "serve")


@contextmanager
def serving(environment, folder):
    """The service of a checkout in this folder; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    environment = {**environment, "PETSTORE_LISTEN": f"{address[0]}:{address[1]}"}
    process = subprocess.Popen(SERVE, cwd=folder, env=environment, stderr=subprocess.DEVNULL)

    def answers():
        assert process.poll() is None
        with suppress(OSError), Client(address) as client:
            return client.get("/readyz").status == 200
        return False

    try:
        eventually(answers)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_a_file_dropped_into_the_folder_is_a_report_without_any_python(make, settings, service, boss, tmp_path, monkeypatch):
    monkeypatch.setattr(contract, "check", lambda *_: None)  # its document is another one
    for source in (sql_folder().parent / "petstore", sql_folder()):
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sql/reports/dropped.sql").write_text(DROPPED)
    token = service[0].tokens.issue(boss)
    ours = {"PETSTORE_LISTEN": "127.0.0.1:0", "PETSTORE_DATABASE_URL": settings.database_url, "PETSTORE_KEYS": str(settings.keys)}
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PETSTORE_")} | ours
    with serving(environment, tmp_path) as address, Client(address, token) as client:
        shown = client.get("/admin/reports/dropped?wanted=%C3%A9%25&number=9223372036854775807&from=2026-01-31T12:00:00%2B02:00")
        assert shown.json() == {
            "name": "dropped",
            "description": "What it was given, and more.",
            "items": [
                {"wanted": "é%", "number": 2**63 - 1, "since": "2026-01-31T10:00:00.000000Z", "most": None}
                | {"day": "2026-01-31", "amount": "1.50", "some": ["a", "b"], "read_only": True}
            ],
            "truncated": False,
        }
        assert client.get("/admin/reports/dropped?wanted=x&number=0&most=7").json()["items"][0]["most"] == 7
        for missing, left in (("wanted", "number=1"), ("number", "wanted=1")):
            answer = client.get(f"/admin/reports/dropped?{left}")
            assert (answer.status, f"{missing} is missing" in answer.json()["detail"]) == (400, True)
        assert client.get("/admin/reports/dropped?wanted=x&number=9223372036854775808").status == 400
        assert client.get("/admin/reports/low_stock?number=1").status == 400
    for name, text, fault in (
        ("faulty", FAULTY, "cannot be answered: column number is double precision"),
        ("odd", ODD, "cannot be answered: parameter ratio is numeric in the header and numeric in PostgreSQL"),
        ("secret", SECRET, "cannot be run as petstore_report: permission denied for table users"),
    ):
        path = tmp_path / f"sql/reports/{name}.sql"
        path.write_text(text)
        done = subprocess.run(SERVE, cwd=tmp_path, env=environment, capture_output=True, text=True)
        path.unlink()
        assert done.returncode == 2
        assert f"sql/reports/{name}.sql {fault}" in done.stderr
