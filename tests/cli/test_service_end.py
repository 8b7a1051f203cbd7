"""The end of a service: by a signal at any moment, by kill -9, by the end of its database."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.shops import PASSWORD, Shop, login, processes
from tests.client import Client
from tests.processes import workers


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_service_with_all_that_it_started(shop, how):
    shop.start()
    assert len(processes(shop.folder)) > 5
    assert shop.stop(how) == 0
    shop.leaves_nothing()
    assert not (shop.folder / "var/running.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_initdb_runs_ends_that_too(folder, how):
    shop = Shop(folder).begin()
    shop.wait_for("making a database")
    while not any(b"initdb" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes(folder)):
        assert shop.process.poll() is None
    assert shop.stop(how) == 128 + how
    assert shop.said.endswith("interrupted\n")
    shop.leaves_nothing()
    shop.start()
    assert shop.stop() == 0


@pytest.mark.slow
def test_a_signal_at_any_moment_of_a_start_ends_all_that_was_started(shop):
    shop.start().stop()
    began = time.monotonic()
    shop.start()
    whole = time.monotonic() - began
    shop.stop()
    statuses = []
    for part in range(4, 24):
        shop.begin()
        time.sleep(whole * part / 20)
        statuses.append(shop.stop(signal.SIGTERM))
        shop.leaves_nothing()
        assert "Traceback" not in shop.said
    assert set(statuses) <= {0, 128 + signal.SIGTERM, -signal.SIGTERM}  # the last: Python itself was still starting
    assert 128 + signal.SIGTERM in statuses
    assert shop.start().stop() == 0


@pytest.mark.slow
def test_nohup_lets_a_service_live_when_the_terminal_ends(shop):
    shop.command = ("nohup", *shop.command)
    shop.start()
    before = workers(shop.process.pid)
    shop.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    with Client(shop.address) as client:
        assert client.get("/livez").status == 200
    assert workers(shop.process.pid) == before  # deaf, as it was told to be: neither a stop nor a reload
    assert shop.stop() == 0


@pytest.mark.slow
def test_a_service_that_was_killed_recovers_at_the_next_start(shop):
    shop.start()
    with Client(shop.address) as client:
        assert client.post("/register", {"email": "ana@example.com", "password": PASSWORD}).status == 201
    shop.stop(signal.SIGKILL)
    orphan, left = shop.postmaster(), set(shop.temporary())
    assert orphan in processes(shop.folder)
    assert len(left) == 2
    shop.start()
    assert shop.postmaster() != orphan
    assert orphan not in processes(shop.folder)
    assert not left & set(shop.temporary())
    with Client(shop.address) as client:
        assert login(client, "ana@example.com", PASSWORD) == 200
    shop.stop(signal.SIGKILL)
    shop.start("--reset")
    assert "demo products" in shop.said
    assert shop.stop() == 0
    shop.leaves_nothing()


@pytest.mark.slow
def test_a_second_service_on_the_same_folder_is_refused_and_commands_join_the_first(shop):
    shop.start()
    done = subprocess.run(shop.command, env=shop.environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert f"another petstore is running on {shop.folder}/var" in done.stderr
    assert done.stderr.count("\n") == 1
    with Client(shop.address) as client:
        assert [client.get("/products")["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
        done = subprocess.run([*shop.command[:3], "seed", "--products", "7"], env=shop.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert client.get("/products")["X-Cache"] == "MISS"
    assert shop.stop() == 0
    done = subprocess.run([*shop.command[:3], "seed", "--products", "7"], env=shop.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert shop.sql("SELECT count(*) FROM products WHERE name LIKE '%, no. %'") == "14"
    shop.leaves_nothing()


@pytest.mark.slow
def test_a_service_whose_postgresql_ends_stays_up_and_says_so(shop):
    shop.start()
    os.kill(shop.postmaster(), signal.SIGKILL)
    shop.wait_for("PostgreSQL stopped unexpectedly")
    with Client(shop.address) as client:
        assert client.get("/products?id=1").status == 503
        assert client.get("/readyz").status == 503
        assert client.get("/livez").status == 200
    assert shop.stop() == 0
    shop.leaves_nothing()
    shop.start()
    with Client(shop.address) as client:
        assert client.get("/products?id=1").status == 200
    assert shop.stop() == 0
