"""How much memory the service takes, after what people do with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from petstore.web.pages import asset
from tests.cli.shops import PASSWORD, Shop
from tests.client import Client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
MEMORY = 80_000_000  # bytes of a process
PAGES = ("/", "/docs", "/openapi.json", asset("docs.js"), "/problems", "/products?limit=100", "/readyz")


def resident(process: Path) -> int:
    """Bytes of memory that a process holds (proc(5), VmRSS)."""
    [kilobytes] = [line.split()[1] for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(kilobytes) * 1024


def family(pid: int) -> list[Path]:
    """A process of the service, and those it has begun that are the service too."""
    process = Path(f"/proc/{pid}")
    children = [int(child) for task in (process / "task").iterdir() for child in (task / "children").read_text().split()]
    ours = [child for child in children if b"-m\0petstore\0" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return [process, *(one for child in ours for one in family(child))]


def test_a_process_of_the_service_stays_under_80_megabytes(shop: Shop):
    shop.start()
    account = {"email": "ana@example.com", "password": PASSWORD}
    with Client(shop.address) as client:
        client.post("/register", account)
        for _ in range(20):
            client.token = client.post("/login", account).json()["access_token"]
        for path in PAGES:
            assert client.get(path).status == 200
        for product_id in range(1, 41):
            client.post("/purchase_product", {"products": [{"product_id": product_id, "quantity": 1}]})
            assert client.get("/invoices").status == 200
    assert {process.name: resident(process) for process in family(shop.process.pid) if resident(process) >= MEMORY} == {}
    assert shop.stop() == 0
