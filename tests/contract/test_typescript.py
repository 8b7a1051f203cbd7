"""The storefront in TypeScript: over types that openapi-typescript makes of the document, the right one compiles and misspelt ones do not."""

import re

import pytest

from petstore.cli import seeding
from tests.contract.typescript import NODE, compile_strictly, needs_node, project, run
from tests.factories import PASSWORD

pytestmark = [pytest.mark.slow, needs_node]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return project(tmp_path_factory.mktemp("storefront"))


def test_the_storefront_compiles_and_sells(folder, make, service):
    assert compile_strictly(folder, "storefront.ts") == ""
    seeding.seed_demo(make.conn, 2)
    make.user("ana@example.com")
    said = run(str(NODE), "storefront.js", "http://{}:{}".format(*service[1].address), "ana@example.com", PASSWORD, folder=folder)
    assert said.splitlines() == ["pending 5.49 USD", "only 319 of product 1: take fewer"]
    assert make.conn.execute("SELECT count(*) FROM invoices").fetchone() == (1,)


MISSPELT = {
    'case "/problems/edit-conflict"': ('case "/problems/edit-conflct"', "TS2678"),  # no such type
    '"/problems/price-changed": "look': ('"/problems/price-changd": "look', "TS2353"),
    '"/problems/key-in-use": "wait"': ('"/problems/stock-limit": "wait"', "TS2353"),  # no answer to a purchase
    "problem.current_version": ("problem.current_stock", "TS2339"),  # a member of another error
    "problem.allowed.join": ("problem.permitted.join", "TS2339"),
}


def test_a_misspelt_problem_does_not_compile(folder):
    lines = (folder / "storefront.ts").read_text("utf-8").splitlines()
    expected = set()
    # Each in a program of its own, as one error may hide another; tsc takes all at once.
    for number, (right, (wrong, error)) in enumerate(MISSPELT.items()):
        assert sum(right in line for line in lines) == 1
        (folder / f"misspelt{number}.ts").write_text("\n".join(lines).replace(right, wrong), "utf-8")
        (at,) = (at for at, line in enumerate(lines, 1) if right in line)
        expected.add((f"misspelt{number}.ts", at, error))
    said = compile_strictly(folder, *(file for file, _, _ in expected))
    found = {(file, int(at), error) for file, at, error in re.findall(r"^(\w+\.ts)\((\d+),\d+\): error (TS\d+)", said, re.M)}
    assert expected <= found
    assert {file for file, _, _ in found} == {file for file, _, _ in expected}  # and client.ts is right
