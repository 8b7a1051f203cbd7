"""The scripts, and what they run."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys

import pytest

from tests.cli.shops import ROOT
from tests.commands import environment, petstore

# ── the scripts themselves ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_bootstrap_is_read_by_any_python_3():
    tree = ast.parse((ROOT / "scripts/_bootstrap.py").read_text(), feature_version=(3, 4))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Starred, ast.AsyncFunctionDef)
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, newer) or getattr(node, "annotation", None)] == []


def test_a_python_that_is_too_old_says_what_is_needed():
    script = "import sys; sys.version_info = (3, 9, 0); import _bootstrap; _bootstrap.run(['-c', 'print(1)'])"
    environ = environment(PATH="/nonexistent", PYTHONPATH=str(ROOT / "scripts"))
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Python 3.10 or newer is needed" in done.stderr


def test_every_script_is_executable_and_says_what_it_does():
    for path in (ROOT / "scripts").iterdir():
        if path.is_file() and not path.name.startswith("_"):
            assert os.access(path, os.X_OK), path
            assert ast.get_docstring(ast.parse(path.read_text())), path


@pytest.mark.parametrize("arguments", [["serve", "--res"], ["seed", "extra"]])
def test_an_option_is_written_out_and_what_is_unknown_is_refused(arguments):
    done = petstore(*arguments, PETSTORE_DATABASE_URL="postgresql://127.0.0.1:1/none", PETSTORE_KEYS="/nonexistent")
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


# ── scripts/test ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tests_run_on_no_database_without_test_in_its_name():
    url = "postgresql://petstore_test@127.0.0.1:1/pet_ecommerce"
    command = [sys.executable, "-m", "pytest", "-q", "tests/routes/test_products.py"]
    done = subprocess.run(
        command, env=environment(PETSTORE_TEST_DATABASE_URL=url), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "only on a database with _test in its name" in done.stdout + done.stderr
    assert "connection" not in done.stdout


def scripts_test(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts/test", *arguments]
    return subprocess.run(command, env=environment(**environ), cwd="/", capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_scripts_test_leaves_out_what_is_slow_unless_it_is_asked_for():
    def collected(*arguments):
        done = scripts_test("--collect-only", "-q", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return {line.split("[")[0] for line in done.stdout.splitlines() if "::" in line}

    files = "tests/cli/test_seeding.py", "tests/history/test_history.py"
    quick, every, deep = collected(*files), collected("--all", *files), collected("--deep", *files)
    assert quick < every < deep
    assert not any("test_a_million_products" in name for name in quick)
    assert any("test_a_million_products" in name for name in every)
    assert not any("test_a_long_history" in name for name in every)
    assert any("test_a_long_history" in name for name in deep)
    one = "tests/cli/test_seeding.py::test_a_million_products_are_loaded_in_less_than_a_minute"
    assert collected(one) == {one}
    assert all("bootstrap" in name for name in collected("-k", "bootstrap", "tests/cli"))


@pytest.mark.slow
def test_scripts_test_touches_neither_the_database_nor_the_redis_of_the_service():
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.1)
        at = f"127.0.0.1:{trap.getsockname()[1]}"
        poison = {"PETSTORE_DATABASE_URL": f"postgresql://{at}/shop_test", "PETSTORE_REDIS_URL": f"redis://{at}"}
        done = scripts_test("-q", "tests/routes/test_products.py", **poison, PETSTORE_OWNER_URL=poison["PETSTORE_DATABASE_URL"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
        with pytest.raises(TimeoutError):
            trap.accept()
