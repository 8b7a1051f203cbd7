"""Schemathesis makes up requests from the OpenAPI document, and finds no answer that breaks a promise of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from petstore.app import create_router
from petstore.cli import seeding
from petstore.web.pages import asset
from petstore.web.plugin import ROLES
from tests.client import Client
from tests.contract.test_openapi import COMMITTED

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).with_name("schemathesis.toml")
# Nobody is to have the password of who asks, whose login has to last; the refresh token of another login is found by luck only.
OUT_OF_REACH = {"POST /me/password", "POST /me/delete", "POST /refresh"}
_BRACES = str.maketrans("<>", "{}")
ACCESS = {f"{route.method} {route.rule}".translate(_BRACES): route.config["auth"] for route in create_router(None).routes}


@pytest.fixture
def people(make):
    """A shop with something to find in it, and who asks it."""
    customer = make.user("customer@example.com")
    for _ in range(9):
        make.user()  # so that no id of the customer's neighbourhood is the admin's
    admin = make.user("admin@example.com", role="admin")
    seeding.seed_demo(make.conn, 2)
    for status in ("pending", "paid", "shipped", "delivered", "cancelled", "refunded"):
        make.invoice(customer.id, {1: 2, 2: 1}, status)
    return {"anyone": None, "user": customer, "admin": admin}


@pytest.mark.parametrize("role", ROLES)
def test_schemathesis_finds_no_broken_promise(role, people, with_settings, tmp_path):
    with with_settings(rate_limit=0) as (services, server):
        token = services.tokens.issue(people[role]) if people[role] else None
        report = _run(server.address, token, tmp_path)
        if token:
            with Client(server.address, token) as client:
                assert client.get("/me").json()["role"] == role, "who asked is not who that was"
    accepted = {name for name, phases in report["valid_rates"].items() if any(phase["accepted"] for phase in phases.values())}
    allowed = {name for name, auth in ACCESS.items() if auth == "anyone" or role in ROLES[auth]}
    assert accepted <= allowed
    assert allowed - accepted <= OUT_OF_REACH, "what is never done right is hardly tested"


def _run(address, token, folder):
    """The report of `schemathesis run`, which has found nothing."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.read_text("utf-8").replace("docs.js", asset("docs.js").rpartition("/")[2]), "utf-8")
    options = [
        "--checks=all",
        "--url=http://{}:{}".format(*address),
        "--report=json",
        f"--report-json-path={folder / 'report.json'}",
    ]
    if token:
        options.append(f"--header=Authorization: Bearer {token}")
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run", COMMITTED, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "report.json").read_text("utf-8"))
