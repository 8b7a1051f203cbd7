"""A client that an existing generator makes of docs/openapi.json: it goes shopping by its typed functions and models alone."""

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from petstore.cli import seeding
from tests.contract.test_openapi import COMMITTED
from tests.factories import PASSWORD

pytestmark = pytest.mark.slow


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """The generated package can be imported, as petstore_client; what the generator said beside its folder."""
    folder = tmp_path / "petstore_client"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it lets ruff format what it made
    done = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", COMMITTED, "--output-path", folder, "--meta=none"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "".join((done.stdout + done.stderr).split()).removeprefix(f"Generating{folder}")


def test_a_generated_client_goes_shopping(generated, make, service):
    assert generated == "", "a warning"

    from petstore_client import AuthenticatedClient, Client
    from petstore_client.api.invoices import cancel_invoice, get_invoice, list_invoices
    from petstore_client.api.products import get_products
    from petstore_client.api.purchases import purchase_product
    from petstore_client.api.sessions import login
    from petstore_client.api.users import get_profile, register
    from petstore_client.models import (
        Credentials,
        Fault,
        Invoice,
        InvoiceCancel,
        InvoiceStatus,
        NewAccount,
        NotEnoughStockProblem,
        Product,
        Profile,
        Purchase,
        PurchaseLine,
        Role,
        UnauthorizedProblem,
    )

    seeding.seed_demo(make.conn, 2)
    url = "http://{}:{}".format(*service[1].address)
    with Client(url) as anyone:
        made = register.sync(client=anyone, body=NewAccount("ana@example.com", PASSWORD))
        assert isinstance(made, Profile)
        assert (made.role, made.created_at.utcoffset().seconds) == (Role.USER, 0)
        tokens = login.sync(client=anyone, body=Credentials("ana@example.com", PASSWORD))
        listed = get_products.sync(client=anyone, limit=2)
        assert [product.stock for product in listed.items] == [320, make.stock(2)]
        rest = get_products.sync(client=anyone, after=listed.next_)
        assert rest.items[0].id == 3
        first = get_products.sync(client=anyone, id=listed.items[0].id)
        assert isinstance(first, Product)
        refused = get_profile.sync_detailed(client=anyone)
        assert isinstance(refused.parsed, UnauthorizedProblem)
        assert (refused.status_code, refused.parsed.type_) == (401, "/problems/unauthorized")

    with AuthenticatedClient(url, tokens.access_token) as ana:
        wanted = Purchase([PurchaseLine(first.id, 2, expected_price=first.price), PurchaseLine(2, 1)])
        bought = purchase_product.sync(client=ana, body=wanted, idempotency_key="my first purchase")
        again = purchase_product.sync_detailed(client=ana, body=wanted, idempotency_key="my first purchase")
        assert isinstance(bought, Invoice)
        assert again.parsed == bought
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (bought.user_id, bought.status, bought.number) == (made.id, InvoiceStatus.PENDING, None)
        assert Decimal(bought.total) == sum(Decimal(line.unit_price) * line.quantity for line in bought.details)
        assert make.stock(first.id) == 318

        assert get_invoice.sync(bought.id, client=ana) == bought
        assert [invoice.id for invoice in list_invoices.sync(client=ana).items] == [bought.id]
        short = purchase_product.sync(client=ana, body=Purchase([PurchaseLine(first.id, 319)]))
        assert isinstance(short, NotEnoughStockProblem)
        assert (short.type_, short.status) == ("/problems/not-enough-stock", 409)
        assert short.errors == [
            Fault("only 318 in stock", "/products/0/quantity", product_id=first.id, requested=319, available=318)
        ]
        cancelled = cancel_invoice.sync(bought.id, client=ana, body=InvoiceCancel("ordered twice"))
        assert [event.to_status for event in cancelled.events] == [InvoiceStatus.CANCELLED]
