"""What the tests of the HTTP server share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture
def address(service):
    return service[1].address


@pytest.fixture
def complaints(caplog):
    """What has been logged as wrong so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
