"""From nothing to a service: a checkout, a wheel, an ordinary user and root."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from tests.cli.shops import PASSWORD, ROOT, Shop, checkout, login
from tests.client import Client
from tests.commands import petstore
from tests.processes import workers

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def ordinary_user() -> tuple[str, dict[str, object]]:
    """A Python for an ordinary user, and how to run as one: nobody if we are root and nobody has one that makes a .venv."""
    if os.geteuid() == 0:
        how = {"user": pwd.getpwnam("nobody").pw_uid, "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        for python in ("/usr/bin/python3", sys._base_executable):
            wanted = "import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 10))"
            with contextlib.suppress(OSError):
                if subprocess.run([python, "-c", wanted], capture_output=True, cwd="/", **how).returncode == 0:
                    return python, how
    return sys._base_executable, {}


def memory(pid: int) -> float:
    """Resident memory in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@pytest.mark.slow
def test_an_ordinary_user_gets_from_an_empty_checkout_to_a_purchase(folder):
    python, how = ordinary_user()
    place = checkout(folder / "a long name with spaces" / ("x" * 120))
    if how:
        subprocess.run(["chown", "-R", str(how["user"]), folder], check=True)
    shop = Shop(folder, **how, umask=0o077)
    shop.command = (python, str(place / "scripts/serve"))
    shop.environ = {name: text for name, text in shop.environ.items() if name not in ("PETSTORE_HOME", "PETSTORE_KEYS")}
    shop.environ["HOME"] = str(folder)
    shop.begin().wait_for("  bottle")
    assert shop.stop() == 128 + signal.SIGTERM
    shop.leaves_nothing()
    shutil.rmtree(place / ".venv")

    began = time.monotonic()
    shop.start(seconds=240)
    first = time.monotonic() - began
    for step in (
        "making .venv",
        "installing",
        "making a database",
        "PostgreSQL runs",
        "signing key",
        "schema made",
        "demo products",
    ):
        assert step in shop.said
    assert (place / "var").is_dir()
    assert stat.S_IMODE((place / "keys/private.pem").stat().st_mode) == 0o600
    password = re.search("password, shown this once: (.+)", shop.said)[1]

    answers = [json.loads(subprocess.check_output(["bash", "-c", line])) for line in shop.lines]
    assert len(answers) == 3
    assert [len(answers[0]["items"]), answers[1]["role"], answers[2]["details"][0]["quantity"]] == [3, "user", 2]
    with Client(shop.address) as client:
        assert login(client, "admin@petstore.example", password) == 200
        assert client.get("/products")["X-Cache"] in ("MISS", "HIT")
        for number in range(10):
            client.post("/register", {"email": f"u{number}@example.com", "password": PASSWORD})
            assert login(client, f"u{number}@example.com", PASSWORD) == 200
    used = max(memory(pid) for pid in (shop.process.pid, *workers(shop.process.pid)))
    assert shop.stop(signal.SIGINT) == 0
    assert "stopped" in shop.said

    assert shop.start().stop() == 0
    assert "password" not in shop.said
    shop.leaves_nothing()
    print(f"\nfirst answer after {first:.1f} s, {used:.0f} MB resident after logins")
    assert first < 60
    assert used < 100


@pytest.mark.slow
@pytest.mark.alone
def test_a_shop_that_was_made_before_serves_within_three_seconds(shop):
    shop.command = (sys.executable, str(ROOT / "scripts/serve"))
    began = time.monotonic()
    shop.start()
    seconds = time.monotonic() - began
    assert shop.stop() == 0
    assert seconds < 3


@pytest.mark.slow
@root_only
def test_root_can_serve_from_under_a_folder_that_only_root_may_enter(folder):
    private = folder / "private place"
    private.mkdir(mode=0o700)
    accounts = Path("/etc/passwd").read_text()
    shop = Shop(folder, umask=0o077)
    shop.environ |= {"PETSTORE_HOME": str(private / "var"), "PETSTORE_KEYS": str(private / "keys")}
    data = None
    try:
        shop.start()
        data = (private / "var/postgres").resolve()
        assert data.parent == Path("/var/lib/petstore")
        assert shop.sql("SELECT count(*) > 200 FROM products") == "t"
        assert shop.stop() == 0
        shop.start()
        assert "demo products" not in shop.said
        assert (private / "var/postgres").resolve() == data
        assert shop.stop() == 0
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert Path("/etc/passwd").read_text() == accounts
        shop.leaves_nothing()
        shop.start("--reset")
        assert "demo products" in shop.said
        assert shop.stop() == 0
    finally:
        shutil.rmtree(data or "/nonexistent", ignore_errors=True)
        with contextlib.suppress(OSError):  # it was not ours alone
            Path("/var/lib/petstore").rmdir()


@pytest.mark.slow
def test_a_wheel_that_is_installed_elsewhere_serves_too(folder):
    place = checkout(folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, place], check=True)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(place)
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv/bin/python"
    site = Path(
        subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip()
    )
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    # What it needs is here already; the checkout itself, which is linked in there by name, is not seen from there.
    (site / "needs.pth").write_text(str(Path(pytest.__file__).parent.parent) + "\n")
    shop = Shop(folder, cwd=folder / "tmp")
    shop.command = (str(python), "-m", "petstore", "serve", "--setup")
    shop.start()
    where = subprocess.check_output(
        [python, "-c", "import petstore.db.queries as q; print(q.sql_folder())"], cwd=folder, text=True
    )
    assert where.strip() == str(site / "petstore/sql")
    listed = subprocess.check_output([python, "-m", "petstore", "sql"], cwd=folder, text=True)
    assert listed == petstore("sql").stdout  # every file has come along
    with Client(shop.address) as client:
        assert client.get("/readyz").status == 200
        assert client.get("/products?id=1").status == 200
        assert client.post("/register", {"email": "ana", "password": ""}).status == 422
    assert shop.stop() == 0


@pytest.mark.slow
def test_the_password_of_the_admin_is_shown_only_when_it_was_made(folder):
    chosen = "chosen by the operator"
    shop = Shop(folder).start(PETSTORE_ADMIN_PASSWORD=chosen, PETSTORE_ADMIN_EMAIL="boss@example.com")
    with Client(shop.address) as client:
        assert login(client, "boss@example.com", chosen) == 200
        assert client.post("/create_product", {"name": "Ball", "price": "1", "stock": 1}).status == 201
    assert shop.stop() == 0
    assert "demo products" in shop.said
    assert "password" not in shop.said
    assert chosen not in shop.said
