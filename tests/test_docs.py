"""README.md and docs/: they name what is there, their links lead somewhere, and their commands run."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from petstore.settings import OTHER_VARIABLES, Settings, variable
from tests.client import Client

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "petstore"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "keys/README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
ARCHITECTURE = PAGES["docs/architecture.md"]
FILE = re.compile(r"[\w./-]+\.(py|sql|json|lua|md|html|js|csv|cfg|toml|txt|png)")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def test_the_readme_is_one_page():
    assert PAGES["README.md"].count("\n") <= 130


# ── names and links ──────────────────────────────────────────────────────────────────────────────────────────────────────


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """What can stand behind # in a link to a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[page])):
        if re.match("https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text("utf-8")), target


def names_in(path: Path) -> set[str]:
    """Functions, classes and values of a module, and those of its classes as Class.name."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        found |= _bound(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in _bound(inner)}
    return found


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname for alias in node.names if alias.asname}  # what a package hands on: `import Problem as Problem`
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): names_in(path)
    for path in PACKAGE.rglob("*.py")
}


def is_there(dotted: str) -> bool:
    """Whether there is such a name: `module.function`, with packages before it or not, or `Class.method`."""
    parts = dotted.removeprefix("petstore.").split(".")
    for number in range(len(parts)):
        module, name = ".".join(parts[:number]), ".".join(parts[number:])
        ends = [names for full, names in MODULES.items() if not module or full == module or full.endswith(f".{module}")]
        if any(name in names for names in ends):
            return True
    return False


def test_a_name_is_known_by_its_module_or_class_and_no_other_is():
    assert all(
        map(is_there, ("transactions.transact", "routes.purchases.purchase_product", "Database.transact", "errors.Problem"))
    )
    assert not any(
        map(is_there, ("transactions.nothing", "domain.purchases.purchase_product", "Database.nothing", "pool.transact"))
    )


def test_every_file_and_function_that_the_architecture_page_names_is_there():
    words = set(re.findall(r"`([^`\s]+)`", prose(ARCHITECTURE)))
    files = {word for word in words if FILE.fullmatch(word)}
    assert len(files) > 20
    assert [name for name in files if not any((folder / name).exists() for folder in (PACKAGE, ROOT))] == []
    folders = {word for word in words if re.fullmatch(r"[\w/]+/", word)}
    assert [name for name in folders if not any((folder / name).is_dir() for folder in (PACKAGE, ROOT))] == []
    dotted = {word for word in words - files if DOTTED.fullmatch(word)}
    assert len(dotted) > 40
    assert [name for name in dotted if not is_there(name)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])  # which tells of what is gone, too
def test_every_script_command_and_setting_that_a_page_names_is_there(page):
    usage = subprocess.check_output([sys.executable, "-m", "petstore", "--help"], text=True, cwd=ROOT)
    for name in re.findall(r"scripts/([a-z_]+)\b", PAGES[page]):
        assert (ROOT / "scripts" / name).exists(), f"scripts/{name}"
    commands = re.findall(r"`petstore ([a-z][a-z-]*)", PAGES[page]) + re.findall(
        r"^petstore ([a-z-]+)", PAGES[page], re.MULTILINE
    )
    assert set(commands) <= set(re.findall(r"^    ([a-z][a-z-]*)(?: |$)", usage, re.MULTILINE))
    known = {variable(field.name) for field in fields(Settings)} | set(OTHER_VARIABLES)
    assert set(re.findall(r"\bPETSTORE_[A-Z_]+\b", PAGES[page])) <= known


# ── the modules that a request passes through ────────────────────────────────────────────────────────────────────────────


class Tracer:
    """Which modules of the package are entered, in order; in threads that are started inside `watching`."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            self.seen[str(path.relative_to(PACKAGE))] = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        threading.setprofile(self)
        try:
            yield
        finally:
            threading.setprofile(None)


def test_the_architecture_page_names_the_modules_that_a_request_passes_through(make, ana, with_settings):
    """As they are in a service that is warm: one connection, and nothing done for the first time."""
    tracer, found = Tracer(), {}
    first, second = make.product(), make.product()
    with (
        tracer.watching(),
        with_settings(threads=1, pool_size=1) as (services, server),
        Client(server.address, services.tokens.issue(ana)) as buyer,
        Client(server.address) as anyone,
    ):

        def buy(key: str) -> None:
            bought = {"products": [{"product_id": first, "quantity": 1}]}
            assert buyer.post("/purchase_product", bought, headers={"Idempotency-Key": key}).status == 201

        def read(product_id: int, cache: str) -> None:
            assert anyone.get(f"/products?id={product_id}")["X-Cache"] == cache

        services.watch.stop()  # a thread of its own, which asks while no request does
        services.db.check()
        for cache in ("MISS", "HIT", "HIT"):
            read(first, cache)
        buy("first")
        buy("second")  # at the end, as a login is remembered for 2 s only
        for name, ask in {
            "a purchase with a key": lambda: buy("third"),
            "a read that PostgreSQL answers": lambda: read(second, "MISS"),
            "a read that Redis answers": lambda: read(second, "HIT"),
            "a read that memory answers": lambda: read(second, "HIT"),
        }.items():
            server_is_idle(anyone)
            tracer.seen = {}
            ask()
            found[name] = list(tracer.seen)
    block = ARCHITECTURE.split("<!-- modules:begin -->\n")[1].split("<!-- modules:end -->")[0]
    (_, _, *names), _, (_, _, *numbers), *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in block.splitlines())
    marks = {name: {row[0].strip("`") for row in rows if row[2 + number]} for number, name in enumerate(names)}
    assert marks == {name: set(modules) for name, modules in found.items()}
    assert numbers == [str(len(found[name])) for name in names]


def server_is_idle(client: Client) -> None:
    """What a thread does after its answer was taken (a line in the log, say) is done by the time the next one is answered."""
    assert client.get("/livez").status == 200


# ── the commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def blocks(page: str, begins: str) -> list[str]:
    """The blocks of shell commands of a page that begin so."""
    found = re.findall(r"^```sh\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    return [block for block in found if block.startswith(begins)]


def test_the_first_purchase_of_the_readme_works_as_it_stands_there(make, service):
    products = [make.product(), make.product()]
    assert products == [1, 2]
    (block,) = blocks("README.md", "api=")
    host, port = service[1].address
    for _ in range(2):  # who pastes it again buys nothing twice
        commands = block.replace("http://127.0.0.1:8080", f"http://{host}:{port}")
        done = subprocess.run(["sh", "-eu"], input=commands, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1].count('"status":"pending"') == 1
    assert [make.stock(number) for number in products] == [8, 9]


@pytest.fixture
def in_checkout(tmp_path: Path, settings: Settings) -> dict[str, Any]:
    """How to run the commands of a page: in a folder like the checkout, on the database of the tests."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "sql").symlink_to(ROOT / "sql")
    for name in ("psql", "sql"):
        script = tmp_path / "scripts" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m petstore {name} "$@"\n')
        script.chmod(0o755)
    ours = {name: text for name, text in os.environ.items() if not name.startswith("PETSTORE_")}
    urls = {variable(name): getattr(settings, name) for name in ("database_url", "owner_url", "report_url", "redis_url")}
    return {"cwd": tmp_path, "env": {**ours, **urls, "PYTHONPATH": str(ROOT), "PAGER": "cat"}}


@pytest.mark.parametrize("page", ["README.md", "docs/database.md"])
def test_the_commands_for_dbas_run_as_they_stand_there(make, boss, counted, in_checkout, page):
    for _ in range(4):
        make.product()
    found = blocks(page, "scripts/")
    assert found
    for block in found:
        done = subprocess.run(["sh", "-eux"], input=block, capture_output=True, text=True, timeout=120, **in_checkout)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) > 3
