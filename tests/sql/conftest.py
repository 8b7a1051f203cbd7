"""What the tests of the schema share."""

import pytest


@pytest.fixture
def pair(make):
    """Products 1 and 2, with 10 and 20 pieces."""
    return make.product(stock=10), make.product(stock=20)
