"""Two workers of one service."""

import pytest

from tests.client import Client
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
