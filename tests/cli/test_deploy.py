"""The files of docs/deploy: nginx takes them, systemd takes them, and a restart of one node after the other refuses nothing."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from petstore.repository.reports import run_report
from tests import activation, nginx
from tests.buyers import Buyers
from tests.cli.test_supervisor import ask_to_buy
from tests.client import Client
from tests.commands import of
from tests.nodes import Node, started
from tests.processes import connections, workers
from tests.waiting import eventually

pytestmark = pytest.mark.slow
needs_nginx = pytest.mark.skipif(not nginx.PROGRAM, reason=nginx.MISSING)

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
VERIFY = shutil.which("systemd-analyze")
DRAIN = 7  # seconds: more than keepalive_timeout of the upstream
FAIL_TIMEOUT = 2  # seconds, of a node


# ── the files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_nginx
def test_nginx_takes_its_file(tmp_path):
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(timezone.utc)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    certificate = built.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    (tmp_path / "petstore.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "petstore.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    command = nginx.write(tmp_path / "nginx", {"/etc/nginx/petstore": str(tmp_path / "petstore")})
    done = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert (done.returncode, "[warn]" in done.stderr) == (0, False), done.stderr


@pytest.mark.skipif(not VERIFY, reason="there is no systemd-analyze: apt-get install systemd")
def test_systemd_takes_its_files(tmp_path):
    for name in ("petstore.service", "petstore.socket"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/petstore/bin/petstore", sys.executable))
    files = [tmp_path / "petstore.service", tmp_path / "petstore.socket"]
    done = subprocess.run([VERIFY, "verify", "--man=no", *files], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "petstore" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_drain_is_longer_than_nginx_keeps_a_connection_and_shorter_than_systemd_waits():
    """With the time that the files recommend: more than 5 s, and less than TimeoutStopSec by the 15 s of a stop."""
    conf, unit = (DEPLOY / "nginx.conf").read_text(), (DEPLOY / "petstore.service").read_text()
    kept = min(map(int, re.findall(r"^ *keepalive_timeout (\d+)s;", conf, re.MULTILINE)))
    (drain,) = map(int, re.findall(r"PETSTORE_DRAIN_SECONDS=(\d+)", conf))
    (stop,) = map(int, re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE))
    assert kept < DRAIN <= drain < stop - 15


# ── two nodes behind nginx ───────────────────────────────────────────────────────────────────────────────────────────────


class Shop:
    """Two nodes behind nginx, and accounts and products for buyers."""

    def __init__(self, make, service, proxy, nodes):
        self.make, self.proxy, self.nodes = make, proxy, nodes
        self.products = [make.product(stock=1_000_000) for _ in range(20)]
        self.tokens = [service[0].tokens.issue(make.user(f"buyer{number}@example.com")) for number in range(12)]

    def check_books(self, bought):
        """Each acknowledged purchase is there once, as it was answered, and nothing else."""
        rows = self.make.rows("SELECT id, total::text FROM invoices ORDER BY id")
        assert rows == sorted((invoice["id"], invoice["total"]) for invoice in bought.values())
        assert run_report(self.make.conn, "ledger_proof") == []


@pytest.fixture(params=["port", "socket"])
def shop(make, service, settings, tmp_path, request):
    environ = {
        **of(settings),
        "PETSTORE_TRUSTED_PROXIES": "127.0.0.1",
        "PETSTORE_RATE_LIMIT": "0",
        "PETSTORE_DRAIN_SECONDS": str(DRAIN),
    }
    with ExitStack() as stack:
        own = [stack.enter_context(activation.listening()) if request.param == "socket" else None for _ in "ab"]
        nodes = [Node(tmp_path / name, environ, listener=listener) for name, listener in zip("ab", own, strict=True)]
        stack.enter_context(started(*nodes))
        proxy = stack.enter_context(nginx.Nginx(tmp_path / "nginx", [node.address for node in nodes]))
        yield Shop(make, service, proxy, nodes)


@needs_nginx
def test_a_restart_of_one_node_after_the_other_refuses_nothing_and_no_purchase_is_lost_or_doubled(shop):
    with Buyers([shop.proxy.address], shop.tokens, shop.products, pause=0.2, keyed=False, patience=40) as buyers:
        time.sleep(2)
        for node in shop.nodes:
            assert node.stop() == 0
            node.start()
            time.sleep(FAIL_TIMEOUT + 1)
    print(f"\n{buyers.longest()}")
    assert buyers.faults() == []
    assert buyers.resent == 0
    assert len(buyers.bought) > 100
    shop.check_books(buyers.bought)
    assert "no live upstreams" not in shop.proxy.errors


@needs_nginx
@pytest.mark.parametrize("shop", ["port"], indirect=True)
def test_a_purchase_whose_node_dies_is_not_sent_to_the_other_one(shop):
    """Without a key, nobody could tell whether it was made; a read is asked of the other one."""
    make, product_id = shop.make, shop.products[0]
    assert product_id == 1  # which ask_to_buy buys
    with make.conn.transaction(), Client(shop.proxy.address, shop.tokens[0]) as client:
        make.conn.execute("SELECT FROM products WHERE id = 1 FOR UPDATE")
        asked = ask_to_buy(client)
        eventually(lambda: make.scalar("SELECT count(*) FROM pg_locks WHERE NOT granted") == 1)
        (busy,) = (node for node in shop.nodes if is_busy(node))
        busy.stop(signal.SIGKILL)
        make.conn.execute("ROLLBACK")
        assert asked() == 502
    assert make.scalar("SELECT count(*) FROM invoices") == 0
    for _ in range(4):
        connection = http.client.HTTPConnection(*shop.proxy.address, timeout=10)
        with closing(connection):
            connection.request("GET", "/products?id=1")
            assert connection.getresponse().status == 200


def is_busy(node):
    """Whether nginx has a connection to it."""
    return any(connections(pid, node.address[1]) for pid in workers(node.process.pid))
