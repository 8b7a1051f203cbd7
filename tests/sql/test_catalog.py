"""sql/tools/describe_schema.sql and sql/catalog.csv: the same database is described in the same way, wherever and by whomever."""

from __future__ import annotations

import subprocess

import pytest

from petstore import db
from petstore.db import catalog, schema
from petstore.db.differences import differences
from petstore.db.migrations import newest_version
from petstore.db.queries import sql_folder
from tests.databases import first_release, newest_program

ROLES = (sql_folder() / "roles.sql").read_bytes()
VERSIONS = range(5, newest_version() + 1)


def described(url):
    with db.connect(url) as conn:
        return catalog.describe(conn)


def test_every_role_is_told_the_same(cluster, template):
    first, *others = (described(cluster.url(f"petstore_{role}", template)) for role in ("app", "owner", "report"))
    assert len(first) > 500
    assert others == [first, first]


@pytest.mark.parametrize("path", ["m2_be_project", "public", "''", "pg_temp, public, m2_be_project"])
def test_the_search_path_changes_nothing_in_it_and_is_afterwards_as_it_was(cluster, template, path):
    with db.connect(cluster.url("petstore_owner", template)) as conn:
        (session,), usual = conn.execute("SHOW search_path").fetchone(), catalog.describe(conn)
        with conn.transaction():
            conn.execute(f"SET LOCAL search_path = {path}; CREATE TEMPORARY TABLE users ()".encode())
            before = conn.execute("SHOW search_path").fetchone()
            assert catalog.describe(conn) == usual
            assert conn.execute("SHOW search_path").fetchone() == before
        assert conn.execute("SHOW search_path").fetchone() == (session,)


def test_each_fact_is_there_once(cluster, template):
    facts = described(cluster.url("petstore_app", template))
    assert len({fact.key for fact in facts}) == len(facts)


def restore(source, target, custom):
    """Dump and restore as docs/operations.md says."""
    dumped = subprocess.run([newest_program("pg_dump"), f"-F{'c' if custom else 'p'}", source], capture_output=True, check=True)
    with db.connect(target) as conn:
        conn.execute(ROLES)
    into = [newest_program("pg_restore")] if custom else [newest_program("psql"), "-X", "-q"]
    done = subprocess.run([*into, "-d", target], input=dumped.stdout, capture_output=True)
    # An older server does not know a setting that a newer program sets first.
    errors = [line for line in done.stderr.decode().splitlines() if "ERROR" in line and "transaction_timeout" not in line]
    assert errors == []
    with db.connect(target) as conn:
        conn.execute(ROLES)


@pytest.mark.parametrize(
    ("version", "custom"),
    [
        pytest.param(VERSIONS[0], False, id="oldest-plain"),
        pytest.param(VERSIONS[-1], True, id="newest-custom"),
        pytest.param(VERSIONS[0], True, id="oldest-custom", marks=pytest.mark.slow),
        pytest.param(VERSIONS[-1], False, id="newest-plain", marks=pytest.mark.slow),
    ],
)
def test_a_dump_and_restore_changes_nothing_that_is_a_difference(cluster, version, custom):
    with first_release(cluster, "dumped") as source, cluster.database("restored") as target:
        source_url, target_url = (cluster.url("postgres", name) for name in (source, target))
        schema.migrate(source_url, to=version)
        with cluster.changing_roles():
            restore(source_url, target_url, custom)
        for url in (source_url, target_url):
            with db.connect(url) as conn:
                assert differences(conn, version, 2) == []
        printed_otherwise = {a.name for a, b in zip(described(source_url), described(target_url), strict=True) if a != b}
        assert printed_otherwise == ({"users.users_email_form"} if version < 7 else set())


def test_a_fact_has_two_forms_only_before_version_7():
    """Whoever writes a new expression writes one that PostgreSQL prints in one way: without BETWEEN beside AND."""
    twofold = {(version, key) for version in VERSIONS for key, forms in catalog.wanted(version, 2).items() if len(forms) > 1}
    assert twofold == {(version, ("constraint", "users.users_email_form")) for version in (5, 6)}


@pytest.mark.parametrize("version", [0, 4, newest_version() + 1])
def test_a_version_that_the_file_does_not_have_is_an_error(cluster, template, version):
    with db.connect(cluster.url("petstore_app", template)) as conn:
        with pytest.raises(LookupError, match=f"describes schema version 5 to {newest_version()}, not {version}$"):
            differences(conn, version, 2)
        with pytest.raises(LookupError):
            catalog.count(version)


def test_a_database_of_another_version_is_not_as_this_one_makes_it(cluster, template):
    with db.connect(cluster.url("petstore_app", template)) as conn:
        found = differences(conn, 5, 2)
    assert ("column", "schema_version.sha256", "is not Petstore's") in {(one.kind, one.name, one.fault) for one in found}
