"""The ER diagram shows tables and keys as the schema has them, and no line runs through a table."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from petstore import db


@pytest.fixture
def er(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/_er_diagram.py as a module."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    return importlib.import_module("_er_diagram")


@pytest.fixture
def schema(cluster: Any, template: str) -> Iterator[Any]:
    """A connection as petstore_owner to a copy of the schema that a test may change."""
    with cluster.database("er", template) as name, db.connect(cluster.url("petstore_owner", name)) as conn:
        conn.execute("SET search_path = m2_be_project")
        yield conn


@pytest.fixture
def text(er: ModuleType, cluster: Any, template: str) -> str:
    """The Mermaid block for the schema as it is now."""
    with db.connect(cluster.url("petstore_owner", template)) as conn:
        return er.mermaid(*er.read_model(conn))


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE users ADD COLUMN nickname text",
        "ALTER TABLE users ALTER COLUMN role DROP NOT NULL",
        "ALTER TABLE invoices DROP CONSTRAINT invoices_user_id_fkey",
        "COMMENT ON TABLE users IS 'Somebody else.'",
    ],
)
def test_a_change_of_the_schema_makes_the_diagrams_stale(er, text, schema, change):
    schema.execute(change)
    assert er.mermaid(*er.read_model(schema)) != text


def test_ends_and_marks_follow_from_keys_and_nulls(er, schema):
    schema.execute(
        """
        CREATE TABLE profiles (
            user_id bigint PRIMARY KEY REFERENCES users,
            referrer_id bigint REFERENCES users,
            favourite_id bigint UNIQUE REFERENCES products,
            width numeric(9, 2) NOT NULL
        )
        """
    )
    text = er.mermaid(*er.read_model(schema))
    assert '    users ||--o| profiles : "user_id"\n' in text
    assert '    users |o--o{ profiles : "referrer_id"\n' in text
    assert '    products |o--o| profiles : "favourite_id"\n' in text
    assert '        bigint user_id PK, FK\n        bigint referrer_id FK "may be null"\n' in text
    assert '        bigint favourite_id FK, UK "may be null"\n        numeric(9_2) width\n' in text


def test_no_line_runs_through_a_table_however_many_there_are(er, schema):
    assert crossings(er, schema) == []
    for number in range(6):
        schema.execute(
            f"""
            CREATE TABLE more_{number} (
                id bigint PRIMARY KEY,
                product_id bigint REFERENCES products,
                user_id bigint REFERENCES users,
                status text REFERENCES invoice_statuses,
                more_id bigint REFERENCES more_{number // 2}
            )
            """
        )
    assert crossings(er, schema) == []


def crossings(er: ModuleType, conn: Any) -> list[str]:
    """Where a line of the picture meets the inside of a table, or two tables meet."""
    tables, foreign_keys = er.read_model(conn)
    boxes = er.layout(tables)
    assert boxes.keys() == {table.name for table in tables}
    found = []
    for key, x, y in er.lines(foreign_keys, boxes):
        for (x1, y1), (x2, y2) in pairwise(zip(x, y, strict=True)):
            found += [f"{key} meets {name}" for name in _met(er, boxes, min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2))]
    for one, box in boxes.items():
        met = _met(er, boxes, box.left, box.left + er.WIDTH, box.top, box.bottom)
        found += [f"{one} meets {name}" for name in met if name != one]
    return found


def _met(er: ModuleType, boxes: dict[str, Any], left: float, right: float, top: float, bottom: float) -> list[str]:
    return [
        name
        for name, box in boxes.items()
        if left < box.left + er.WIDTH and right > box.left and top < box.bottom and bottom > box.top
    ]
