"""Two workers of one service; a service behind a proxy."""

import pytest

from petstore.limits import failed_attempts
from tests.client import Client
from tests.routes.street import Clock, opened
from tests.services import running


@pytest.fixture(scope="module")
def second(settings):
    """Another worker of the same service: same database, Redis and keys, and a memory of its own."""
    with running(settings) as (_, server):
        yield server.address


@pytest.fixture
def both(anyone, second):
    """A client of each worker."""
    with Client(second) as other:
        yield [anyone, other]


@pytest.fixture(scope="module")
def behind_proxy(settings):
    """A Street: a service to which a trusted proxy tells its clients' addresses."""
    with opened(settings) as one:
        yield one


@pytest.fixture
def still_clock(monkeypatch):
    """A clock of our own for the counters of failed attempts."""
    monkeypatch.setattr(failed_attempts, "time", Clock())
