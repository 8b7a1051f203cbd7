"""What the repository says of itself, kept true by the machine."""

import ast
import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from jsonschema import Draft202012Validator

from petstore import app, errors
from petstore.app import create_router
from petstore.settings import OTHER_VARIABLES, Settings, variable
from petstore.web.openapi import EXPLANATIONS
from petstore.web.validation import SCHEMAS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "petstore"
README, API, SETTINGS, ARCHITECTURE = (
    (ROOT / page).read_text("utf-8") for page in ("README.md", "docs/api.md", "docs/settings.md", "docs/architecture.md")
)

# Who may import what: from the left to the right only, and inside its own package. What stands between commas is side by side.
STAIRCASE = (
    "__main__, wsgi > cli > server > app > routes > web > domain > request > services > repository > auth > limits, embedded"
    " > db, settings > cache, errors, emails, signals > texts"
)
STEPS = [set(step.split(", ")) for step in STAIRCASE.split(" > ")]


@cache
def imports(path):
    """The modules that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def step(module):
    return next((number for number, names in enumerate(STEPS) if module.split(".")[1] in names), None)


MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "petstore.__init__"])
def test_imports_go_down_the_staircase_only(module):
    own = step(module)
    assert own is not None, f"{module} has no place in STAIRCASE"
    for name in imports(MODULES[module]):
        top, *rest = name.split(".")
        if top == "petstore" and rest[0] not in ("__version__", module.split(".")[1]):
            assert step(name) is not None, name
            assert step(name) > own, f"{module} imports {name}"


def test_one_module_alone_knows_each_library():
    owners = {
        "psycopg": {
            "petstore.db.connect_faults",
            "petstore.db.connection",
            "petstore.db.connections",
            "petstore.db.describe",
            "petstore.db.errors",
            "petstore.db.pool",
            "petstore.db.schema",
            "petstore.db.session_settings",
            "petstore.db.write_guard",
        },
        "psycopg_pool": {"petstore.db.connections", "petstore.db.errors"},
        "redis": {"petstore.cache.redis_connection"},
        "bottle": {"petstore.app", "petstore.web.compression", "petstore.web.plugin", "petstore.web.responses"},
        "jwt": {"petstore.auth.signing_keys", "petstore.auth.tokens"},
        "email_validator": {"petstore.emails"},
        "waitress": {
            "petstore.server.hashing_lane",
            "petstore.server.lanes",
            "petstore.server.waitress",
            "petstore.server.waitress_channel",
            "petstore.server.waitress_parser",
            "petstore.server.waitress_task",
        },
        "jsonschema": {"petstore.web.validation"},
        "iso4217": {"petstore.settings"},
    }
    for library, owner in owners.items():
        assert {name for name, path in MODULES.items() if any(i.split(".")[0] == library for i in imports(path))} == owner


def test_routes_know_no_other_resources_routes():
    for module in (name for name in MODULES if name.startswith("petstore.routes.") and name != "petstore.routes.__init__"):
        assert not {name for name in imports(MODULES[module]) if name.startswith("petstore.routes.") and name.count(".") > 2}


def test_a_route_without_facts_does_not_start():
    unknown = (
        {"body": "no_such_schema"},
        {"returns": "no_such_schema"},
        {"query": ("nothing",)},
        {"refuses": ("no-such-problem",)},
    )
    for facts in ({}, {"auth": "everyone"}, *({"auth": "user", **fact} for fact in unknown)):
        with pytest.raises(ValueError, match="GET /x"):
            app._check_facts(SimpleNamespace(method="GET", rule="/x", config=facts))


def test_every_route_stands_on_the_page_of_the_api():
    for route in create_router(None).routes:
        path = re.sub("<.*?>|(?<=/reports/).*", "X", route.rule)
        assert re.search(rf"\| `{route.method} {re.escape(path)}[`? ]", API), f"{route.method} {path}"


def test_every_setting_stands_on_its_page_with_its_default():
    table = dict(re.findall(r"^\| `(PETSTORE_[A-Z_]+)` \| ([^|]*) \|", SETTINGS, re.MULTILINE))
    assert set(table) == {variable(field.name) for field in fields(Settings)} | set(OTHER_VARIABLES)
    for field in fields(Settings):
        shown = table[variable(field.name)].strip().strip("`")
        default = field.default
        if default == ():
            default = None
        elif isinstance(default, tuple):
            default = f"{default[0]}:{default[1]}"
        elif isinstance(default, bool):
            default = "on" if default else "off"
        assert shown == ("–" if default is None else str(default)), field.name


def test_every_package_stands_in_the_architecture_page_and_every_script_there_or_in_the_readme():
    for path in PACKAGE.iterdir():
        if path.suffix == ".py" or path.is_dir():
            name = f"{path.name}/" if path.is_dir() else path.name
            assert path.name in ("__init__.py", "__pycache__") or f"`{name}`" in ARCHITECTURE, path
    for script in (ROOT / "scripts").iterdir():
        if script.is_file() and not script.name.startswith("_"):
            assert f"scripts/{script.name}" in README + ARCHITECTURE, script


def test_few_modules_lie_directly_in_the_package():
    assert len([*PACKAGE.glob("*.py")]) <= 10


def test_every_error_has_a_title_and_a_slug_of_its_own():
    def below(kind):
        return [kind, *(sub for child in kind.__subclasses__() for sub in below(child))]

    kinds = below(errors.Problem)[1:]
    assert {kind.slug: kind for kind in kinds} == errors.PROBLEMS
    assert len(kinds) == len(errors.PROBLEMS) == len(EXPLANATIONS)
    for kind in kinds:
        assert re.fullmatch("[a-z]+(-[a-z]+)*", kind.slug)
        assert kind.__doc__
        assert kind.title()[0].isupper()
        said = {name for name, text in EXPLANATIONS[kind.slug].items() if text or name == "example"}
        assert said - {"sometimes"} == {"means", "do", "example"}
        assert f"`{kind.slug}`" in API, f"{kind.slug} is not in the table of errors of docs/api.md"


BODIES = {route.config["body"] for route in create_router(None).routes if "body" in route.config}
OPEN = {"problem", "openapi"}  # a problem may have members of its own; what OpenAPI is, others say


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_json_schema_is_valid_and_closed(name):
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert name in OPEN or schema["additionalProperties"] is False
    assert schema["title"]
    assert schema["description"]

    def walk(node):
        if isinstance(node, dict):
            if "pattern" in node:
                assert node["description"], "a pattern is explained to a client by its description"
            if node.get("type") == "string" and name in BODIES:
                assert "maxLength" in node or node["description"]
            if node.get("type") == "array" and name in BODIES:
                assert list(node).index("maxItems") < list(node).index("items"), "a list that is too long is not walked through"
            for child in node.values():
                walk(child)

    walk(schema)


def test_every_json_schema_is_that_of_a_body_or_an_answer_or_part_of_one():
    answers = {route.config.get(fact) for route in create_router(None).routes for fact in ("returns", "pages")}
    parts = set(re.findall(r'"([a-z_]+)\.json"', json.dumps(dict(SCHEMAS))))
    assert set(SCHEMAS) == BODIES | {name for name in answers if name and "/" not in name} | parts | {"parameters", "problem"}


def test_modules_and_functions_stay_small():
    for name, path in MODULES.items():
        text = path.read_text("utf-8")
        assert text.count("\n") <= 250, f"{name} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 30, f"{name}.{node.name}"


def test_files_of_tests_stay_small():
    for path in (ROOT / "tests").rglob("*.py"):
        count = path.read_text("utf-8").count("\n")
        assert count <= 500, f"{path} has {count} lines"


def test_every_public_function_and_class_says_what_it_is():
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text("utf-8"))
        assert ast.get_docstring(tree) or (path.name == "__init__.py" and not tree.body), name
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"
