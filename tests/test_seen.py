"""Runs last: what the document says can be refused was refused to somebody in these tests."""

import pytest

from petstore.app import create_router
from tests.openapi_contract import SEEN


def test_every_problem_of_a_routes_own_was_answered(request):
    folders = {str(item.path.parent) for item in request.session.items}
    if not any(folder.endswith("tests/routes") for folder in folders) or len(request.session.items) < 2000:
        pytest.skip("only when all the tests run")
    refused = {(r.callback.__name__, slug) for r in create_router(None).routes for slug in r.config.get("refuses", ())}
    assert refused - SEEN == set()
