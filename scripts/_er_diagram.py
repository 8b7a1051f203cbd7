"""The entity-relationship diagram, as a picture and as Mermaid text, both read from the catalogue of a live database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

# The place and colour of the tables. Other tables go into further rows, in grey.
BLUE, BROWN, GREEN, GREY, PURPLE = "#1d4ed8", "#b45309", "#0f766e", "#475569", "#7e22ce"
GRID = [
    {"products": GREEN, "invoice_details": BLUE, "invoices": BLUE, "users": PURPLE},
    {"": GREY, "invoice_statuses": BROWN, "invoice_transitions": BROWN, "invoice_events": BLUE},
    {"shop": GREY, "schema_version": GREY},
]
# UNIT is in inches, the others in units: width of a table, space beside and below it, the part of that space for lines, and the
# distance between two lines.
UNIT, WIDTH, BESIDE, BELOW, ROOM, APART = 0.116, 23, 10, 6, 5.7, 1.25
# An index on an expression such as lower(email) makes the columns in it unique too: pg_depend has them.
_KEYS = """ WITH keys AS (SELECT indrelid, indisprimary, CASE WHEN indexprs IS NULL THEN (indkey::int2[])[0:indnkeyatts - 1]
        ELSE array(SELECT refobjsubid::int2 FROM pg_depend WHERE objid = indexrelid AND refobjid = indrelid AND refobjsubid > 0)
        END AS columns FROM pg_index WHERE indisunique AND indpred IS NULL)"""
_COLUMNS = """ SELECT relname, coalesce(obj_description(pg_class.oid, 'pg_class'), ''), attname, NOT attnotnull,
        translate(replace(replace(format_type(atttypid, atttypmod), 'm2_be_project.', ''), ' with time zone', 'tz'), ' ,', '__'),
        array(SELECT 'PK' FROM keys WHERE indrelid = attrelid AND indisprimary AND attnum = ANY (columns))
        || array(SELECT DISTINCT 'FK' FROM pg_constraint WHERE conrelid = attrelid AND contype = 'f' AND attnum = ANY (conkey))
        || array(SELECT DISTINCT 'UK' FROM keys WHERE indrelid = attrelid AND NOT indisprimary AND columns = ARRAY[attnum])
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
    WHERE relnamespace = 'm2_be_project'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1, attnum"""
_FOREIGN_KEYS = """ SELECT child.relname, parent.relname,
        array(SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey) ORDER BY attnum),
        EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey) AND NOT attnotnull),
        EXISTS (SELECT FROM keys WHERE indrelid = conrelid AND columns <@ conkey)
    FROM pg_constraint JOIN pg_class AS child ON child.oid = conrelid JOIN pg_class AS parent ON parent.oid = confrelid
    WHERE contype = 'f' AND conparentid = 0 AND child.relnamespace = 'm2_be_project'::regnamespace
        AND parent.relnamespace = child.relnamespace ORDER BY child.relname, conkey, parent.relname"""


@dataclass(frozen=True)
class Column:
    """A column. marks: PK (in the primary key), FK (in a foreign key), UK (unique)."""

    name: str
    nullable: bool
    type: str
    marks: list[str]


@dataclass(frozen=True)
class Table:
    """A table. comment: its lines; columns: in table order."""

    name: str
    comment: list[str]
    columns: list[Column]


@dataclass(frozen=True)
class ForeignKey:
    """table(columns) REFERENCES target. nullable: one of the columns is; unique: at most one row refers to each row of target."""

    table: str
    target: str
    columns: list[str]
    nullable: bool
    unique: bool


def read_model(conn: Any) -> tuple[list[Table], list[ForeignKey]]:
    """Read the schema m2_be_project from the catalogue: tables by name, foreign keys by table and columns."""
    tables: dict[str, Table] = {}
    for name, comment, *column in conn.execute(_KEYS + _COLUMNS):
        tables.setdefault(name, Table(name, wrap(comment, 46, break_on_hyphens=False), [])).columns.append(Column(*column))
    return list(tables.values()), [ForeignKey(*row) for row in conn.execute(_KEYS + _FOREIGN_KEYS)]


def mermaid(tables: list[Table], foreign_keys: list[ForeignKey]) -> str:
    """The diagram as a fenced block of Markdown, without a newline at its end."""
    lines = ["```mermaid", "erDiagram"]
    for table in tables:
        lines += [f"    %% {' '.join(table.comment)}", f"    {table.name} {{"]
        for column in table.columns:
            words = [column.type, column.name, ", ".join(column.marks), '"may be null"' * column.nullable]
            lines.append("        " + " ".join(filter(None, words)))
        lines.append("    }")
    for key in foreign_keys:
        ends = ("|o" if key.nullable else "||") + "--" + ("o|" if key.unique else "o{")
        lines.append(f'    {key.target} {ends} {key.table} : "{", ".join(key.columns)}"')
    return "\n".join([*lines, "```"])


class Box(NamedTuple):
    """The place of a table. columns: name -> y of its middle."""

    left: float
    top: float
    bottom: float
    columns: dict[str, float]
    colour: str


def layout(tables: list[Table]) -> dict[str, Box]:
    """The place of each table, by name. The tables of a row are aligned at the top, so that lines can pass between rows."""
    others = [table.name for table in tables if not any(table.name in row for row in GRID)]
    boxes: dict[str, Box] = {}
    for row in [*GRID, *(dict.fromkeys(others[i : i + 4], GREY) for i in range(0, len(others), 4))]:
        top = max((box.bottom for box in boxes.values()), default=-2) + BELOW
        for table in (table for table in tables if table.name in row):
            first = top + 5 + 1.3 * len(table.comment)
            columns = {column.name: first + 2 * i for i, column in enumerate(table.columns)}
            left = 6 + list(row).index(table.name) * (WIDTH + BESIDE)
            boxes[table.name] = Box(left, top, first + 2 * len(columns) + 0.2, columns, row[table.name])
    return boxes


def lines(foreign_keys: list[ForeignKey], boxes: dict[str, Box]) -> Iterator[tuple[ForeignKey, list[float], list[float]]]:
    """The points (x, y) of each foreign key's line, from its columns to its target, around all other tables."""
    used: Counter[Any] = Counter()
    for key in sorted(foreign_keys, key=lambda key: boxes[key.table].columns[key.columns[0]]):
        box, to = boxes[key.table], boxes[key.target]
        x, aisle = (box.left + WIDTH,) * 2 if to.left >= box.left else (box.left, box.left - BESIDE)
        to_x, to_aisle = (to.left + WIDTH,) * 2 if to.left <= box.left else (to.left, to.left - BESIDE)
        used.update({aisle, to_aisle, (key.target, to_x), ("below", box.top)})
        y = sum(box.columns[name] for name in key.columns) / len(key.columns) + (0.2 if x > box.left else -0.2)
        down = APART * used[key.target, to_x] % (to.bottom - to.top - 1)
        to_y = to.bottom - down if box.top > to.top else to.top + down
        turn, to_turn = (side + 8 - APART * used[side] % ROOM for side in (aisle, to_aisle))
        below = max(other.bottom for other in boxes.values() if other.top == box.top)
        between = y if aisle == to_aisle else below + APART * used["below", box.top] % ROOM
        yield key, [x, turn, turn, to_turn, to_turn, to_x], [y, y, between, between, to_y, to_y]


def mark(tables: list[Table], foreign_keys: list[ForeignKey]) -> str:
    """What the picture of these is marked with, which tells whether it is up to date: the SHA-256 of the Mermaid text."""
    return sha256(mermaid(tables, foreign_keys).encode()).hexdigest()


def draw(tables: list[Table], foreign_keys: list[ForeignKey], path: Path) -> None:
    """Draw the picture. Its Description is its mark."""
    from matplotlib.figure import Figure

    boxes = layout(tables)
    wide, high = 6 + 4 * (WIDTH + BESIDE), max(box.bottom for box in boxes.values()) + BELOW
    figure = Figure(figsize=(wide * UNIT, high * UNIT), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(high, 0), xticks=(), yticks=(), frame_on=False)
    for table in tables:
        _draw_table(axes, table, boxes[table.name])
    for key, x, y in lines(foreign_keys, boxes):
        colour = boxes[key.target].colour
        axes.plot(x, y, color=colour)
        _draw_end(axes, x[:2], y[0], colour, many=not key.unique, optional=True)
        _draw_end(axes, x[:-3:-1], y[-1], colour, many=False, optional=key.nullable)
    figure.savefig(path, metadata={"Software": None, "Description": mark(tables, foreign_keys)})


def _draw_table(axes: Any, table: Table, box: Box) -> None:
    axes.bar(box.left, [box.bottom - box.top, 3], WIDTH, box.top, align="edge", fc=["white", box.colour], ec=box.colour, lw=1.6)
    axes.text(box.left + 1, box.top + 1.5, table.name, color="white", weight="bold", size=12, va="center")
    axes.text(box.left + 1, box.top + 3.7, "\n".join(table.comment), color=GREY, style="italic", size=7.5, va="top")
    for column, y in zip(table.columns, box.columns.values(), strict=True):
        axes.text(box.left + 1, y, " ".join(column.marks), color=box.colour, weight="bold", size=7.5, va="center")
        axes.text(box.left + 5, y, column.name, size=10, va="center", weight="bold" if "PK" in column.marks else "normal")
        axes.text(box.left + WIDTH - 1, y, column.type + " null" * column.nullable, color=GREY, size=9, va="center", ha="right")


def _draw_end(axes: Any, x: list[float], y: float, colour: str, *, many: bool, optional: bool) -> None:
    """A crow's foot for many or a bar for one; before it a ring for "or none" or a bar for "at least"."""
    way = 1 if x[1] > x[0] else -1
    axes.plot([x[0], x[0] + 1.4 * way, x[0]] if many else [x[0] + 0.8 * way] * 3, [y - 0.55, y, y + 0.55], color=colour)
    mark, size, distance = ("o", 5, 1.9) if optional else ("|", 9, 1.5)
    axes.plot(x[0] + distance * way, y, mark, color=colour, markerfacecolor="white", markeredgewidth=1.5, markersize=size)
