"""The migrations (sql/migrations/NNNN_words.sql): files that bring a database from each schema version to the next.

The header of a file tells its locks, what it rewrites, and whether it is safe: whether a release that does not know the file goes
on serving. Its last statement records it in schema_version, so psql alone can run it, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from petstore.db.queries import QueryFileError, split_statements, sql_folder

# The oldest schema version that the queries of this release work on: the last one of the release before. Raise it with a release.
OLDEST_VERSION = 5
_NAME = re.compile(r"(?P<version>[0-9]{4})_(?P<name>[a-z0-9]+(?:_[a-z0-9]+)*)\.sql")
_FACT = re.compile(r"^-- (Locks|Rewrites|Safe): (.*(?:\n--   .*)*)$", re.MULTILINE)


@dataclass(frozen=True)
class Migration:
    """One file. version: the schema version that it makes; locks, rewrites: as its header tells them.

    one_transaction: False if its statements run one by one (`-- no transaction`). statements: the last one records the migration.
    """

    version: int
    name: str
    sentence: str
    locks: str
    rewrites: str
    safe: bool
    one_transaction: bool
    text: str
    statements: tuple[str, ...]
    sha256: str

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.version:04}_{self.name}.sql"


def parse_migration(path: Path) -> Migration:
    """Read one file. ValueError if its name, its header or its last statement is not as it must be."""
    named, content = _NAME.fullmatch(path.name), path.read_bytes()
    if named is None:
        raise ValueError("its name is not NNNN_words.sql")
    text = content.decode()
    if text.startswith("\ufeff") or "\r" in text:
        raise ValueError("it begins with a BOM or has CRLF line ends: save it with LF, without BOM")
    header = text[: end.start()] if (end := re.search("^(?!--)", text, re.MULTILINE)) else text
    facts = {match[1]: re.sub(r"\n-- +", " ", match[2]).strip().removesuffix(".") for match in _FACT.finditer(header)}
    if len(facts) < 3 or facts["Safe"] not in ("yes", "no"):
        raise ValueError("its header does not tell `Locks:`, `Rewrites:` and `Safe: yes` or `Safe: no`")
    version, safe = int(named["version"]), facts["Safe"] == "yes"
    return Migration(
        version=version,
        name=named["name"],
        sentence=text.partition("\n")[0].removeprefix("-- "),
        locks=facts["Locks"],
        rewrites=facts["Rewrites"],
        safe=safe,
        one_transaction="\n-- no transaction\n" not in header,
        text=text,
        statements=_statements(text, f"({version}, '{named['name']}', {str(safe).lower()})"),
        sha256=sha256(content).hexdigest(),
    )


def _statements(text: str, row: str) -> tuple[str, ...]:
    """The statements of a file, the last of which must record it in schema_version by this row."""
    statements, record = tuple(split_statements(text)), f"INSERT INTO schema_version (version, name, safe) VALUES {row}"
    if statements[-1:] != (record,):
        raise ValueError(f"its last statement is not {record};")
    if any(re.match(r"(BEGIN|START|COMMIT|END|ROLLBACK|ABORT)\b", statement, re.IGNORECASE) for statement in statements):
        raise ValueError("the transaction is the runner's or psql's: no BEGIN, COMMIT or END here (a function's body goes in $$)")
    return statements


def load_folder(folder: Path) -> Mapping[int, Migration]:
    """The migrations in a folder, by version. QueryFileError if one cannot be used, or a number is missing or there twice."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        try:
            migration = parse_migration(path)
        except ValueError as error:
            raise QueryFileError(f"{path} cannot be used: {error}") from None
        expected = max(found) + 1 if found else migration.version
        if migration.version != expected:
            raise QueryFileError(f"{path} cannot be used: the next number is {expected:04}")
        found[migration.version] = migration
    return MappingProxyType(found)


@cache
def load_migrations() -> Mapping[int, Migration]:
    """The migrations of this release, by version."""
    return load_folder(sql_folder() / "migrations")


def newest_version() -> int:
    """The schema version that the migrations of this release, and its sql/schema.sql, make."""
    return max(load_migrations())
