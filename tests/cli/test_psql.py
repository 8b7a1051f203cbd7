"""`petstore psql`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from petstore.settings import Settings
from tests.cli.shops import ROOT
from tests.commands import environment, of


def psql(settings: Settings, *arguments: str, text: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "petstore", "psql", *arguments]
    return subprocess.run(command, env=environment(**of(settings)), input=text, capture_output=True, text=True, timeout=60)


def test_psql_takes_its_own_arguments_as_they_are(make, settings, tmp_path):
    make.product("Cat tree")
    file = tmp_path / "a query.sql"
    file.write_text("SELECT :'words';\n")
    done = psql(settings, "-At", "-v", 'words=don\'t "panic" --owner', "-f", str(file), "-c", "SELECT name FROM products")
    assert done.stdout == 'don\'t "panic" --owner\nCat tree\n', done.stderr
    done = psql(settings, "-v", "ON_ERROR_STOP=1", text="SELECT broken;\n")
    assert done.returncode == 3
    query = ROOT / "sql/queries/products/get_product.sql"
    assert "Cat tree" in psql(settings, "-v", "product_id=1", "-f", str(query)).stdout


def test_psql_is_the_services_role_or_that_of_an_option(make, settings):
    make.product()
    assert "permission denied" in psql(settings, "-c", "DELETE FROM products").stderr
    assert "UPDATE 1" in psql(settings, "--owner", "-c", "UPDATE products SET created_at = now()").stdout
    assert psql(settings, "--report", "-Atc", "SELECT current_user").stdout == "petstore_report\n"
    for role in ("owner", "report"):
        unset = psql(replace(settings, **{f"{role}_url": None}), f"--{role}", "-c", "SELECT 1")
        assert f"set PETSTORE_{role.upper()}_URL" in unset.stderr


def test_psql_keeps_the_password_of_a_url_out_of_the_list_of_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "psql"
    program.write_text('#!/bin/sh\necho "$@" "$PGPASSWORD"\n')
    program.chmod(0o755)
    url = "postgresql://ana:s%2Fe%40cret@db.example.com:5433/shop?sslmode=require"
    done = psql(Settings(database_url=url), "-l")
    assert done.stdout == "-d postgresql://ana@db.example.com:5433/shop?sslmode=require -l s/e@cret\n"
