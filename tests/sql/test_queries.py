import re
import shlex
import subprocess

import pytest

from petstore.db.migrations import load_migrations
from petstore.db.queries import QueryFileError, load_files, load_queries, load_reports, load_tools, parse_query, sql_folder
from petstore.embedded import EmbeddedError, find_program
from tests.sql import psql_lines

FILES = {**load_queries(), **load_reports(), **load_tools()}
INCLUDED = sorted(sql_folder().glob("*/**/_*.sql"))


def parsed(text):
    query = parse_query("a/b", text)
    return query.sql.replace("/* a/b */ ", ""), query.names


def test_parameters_become_psycopgs_and_keep_their_casts():
    assert parsed("SELECT :'a'::bigint, :'b_2'::text, :'a'::bigint;\n") == (
        "SELECT %(a)s::bigint, %(b_2)s::text, %(a)s::bigint",
        ("a", "b_2"),
    )


@pytest.mark.parametrize(
    "left_alone",
    [
        "'it''s :''a'' here'",
        "' :'",
        "'100 :x'",
        '"odd :name"',
        "$$ :'a' $$",
        "$body$ :'a' $$ :'b' $body$",
        "'a'::text",
        "x::int",
        "a[1:2]",
    ],
)
def test_what_only_looks_like_a_parameter_is_left_alone(left_alone):
    assert parsed(f"SELECT {left_alone}") == (f"SELECT {left_alone}", ())


def test_percent_signs_are_doubled_everywhere():
    assert parsed("SELECT 10 % 3, '%', :'a'::int")[0] == "SELECT 10 %% 3, '%%', %(a)s::int"


def test_comments_are_left_out_and_their_quotes_open_nothing():
    sql, parameters = parsed("-- don't :'x'\nSELECT 1 /* isn't\n:'y' */ , :'z'::int -- '\n")
    assert (re.sub(r"\s+", " ", sql), parameters) == ("SELECT 1 , %(z)s::int", ("z",))


def test_the_numbered_form_has_one_number_per_name():
    query = parse_query("a/b", "SELECT :'b'::int, :'a'::int, :'b'::int, '%'")
    assert query.numbered() == "SELECT /* a/b */ $1::int, $2::int, $1::int, '%'"


def test_the_name_goes_with_the_statement():
    assert all(re.match(rf"[A-Z]+ /\* {name} \*/ \S", query.sql) for name, query in FILES.items())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "it has no statement"),
        (b"-- Only a comment;\n", "it has no statement"),
        (b"SELECT 1; SELECT 2;", "it has more than one statement"),
        (b"UPDATE x SET y = 1; COMMIT", "it has more than one statement"),
        (b"SELECT '\xe9'", "'utf-8' codec can't decode byte 0xe9"),
        (b"SELECT :some_columns;", "there is no variable some_columns"),
        (b"\\ir _missing.sql\nSELECT 1;", "there is no _missing.sql beside it"),
        (b"\\ir ../_columns.sql\nSELECT 1;", r"\\ir ../_columns.sql is not understood here"),
        (b"\\ir ../products/_missing.sql\nSELECT 1;", "there is no ../products/_missing.sql beside it"),
        (b"\\ir ../../products/_columns.sql\nSELECT 1;", r"\\ir ../../products/_columns.sql is not understood here"),
        (b"\\set a 'it''s'\nSELECT 1;", r"\\set a 'it''s' is not understood here"),
        (b"\\gset\nSELECT 1;", r"\\gset is not understood here"),
    ],
)
def test_a_file_that_is_no_statement_is_named(tmp_path, text, fault):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/broken.sql").write_bytes(text)
    with pytest.raises(QueryFileError, match=f".*/reports/broken.sql cannot be used: {fault}"):
        load_files("reports/*.sql", tmp_path)


def test_a_semicolon_in_a_comment_or_a_text_ends_nothing():
    parse_query("a/b", "-- one; two\nSELECT ';' /* ; */ AS \";\";\n")


def test_every_file_under_sql_is_known():
    migrations = {sql_folder() / "migrations" / migration.file for migration in load_migrations().values()}
    assert {query.path for query in FILES.values()} | set(INCLUDED) | migrations == set(sql_folder().glob("*/**/*.sql"))


def test_what_a_file_includes_is_put_in_as_psql_does(tmp_path, conn, cluster, database, psql):
    (tmp_path / "_columns.sql").write_text("\\set two '1 AS a, ''%' 'b:x'::text AS b, '\n".replace("''%' 'b:x'", "$$%:x$$"))
    text = (
        "-- A row.\n\\ir _columns.sql\n\\set three :two '3 AS \"c :two\"'\nSELECT :three, ':two' AS d, ARRAY[:'e'::int] AS e;\n"
    )
    (tmp_path / "row.sql").write_text(text)
    url = cluster.url("petstore_app", database)
    command = [psql, "-X", "-d", url, "--csv", "-v", "e=5", "-f", tmp_path / "row.sql"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = conn.execute(parse_query("a/b", text, tmp_path / "row.sql").sql, {"e": 5})
    assert [column.name for column in found.description] == ["a", "b", "c :two", "d", "e"]
    assert found.fetchall() == [(1, "%:x", 3, ":two", [5])]
    assert done.stdout == "a,b,c :two,d,e\n1,%:x,3,:two,{5}\n"


def included_by(query):
    """The files that a query includes."""
    found = re.findall(r"^\\ir (.+)\n", query.path.read_text("utf-8"), re.MULTILINE)
    return {(query.path.parent / name).resolve() for name in found}


def test_what_is_included_is_included_by_several():
    for path in INCLUDED:
        including = [query for query in FILES.values() if path in included_by(query)]
        assert len(including) > 1
        lines = path.read_text("utf-8").splitlines()
        assert lines[0].startswith("-- ")
        assert all(line.startswith(("--", "\\set ")) for line in lines)


# ── the files, as a DBA meets them ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("query", FILES.values(), ids=FILES)
def test_a_file_begins_with_its_contract(query):
    """A sentence, each parameter with its type, the locks, the line that runs it; then one statement."""
    text = query.path.read_text("utf-8")
    header = re.match(r"(?:--.*\n)+", text)[0]
    lines = [line.removeprefix("--").strip() for line in header.splitlines()]
    assert lines[0][0].isupper()
    assert lines[0].endswith(".")
    listed = re.findall(r"^--   ([a-z_][a-z0-9_]*) +([a-z]+(?:\[\])?)  +\S", header, re.MULTILINE)
    assert dict(listed) == {name: parameter.type for name, parameter in query.parameters.items()}
    assert set(query.names) == set(query.parameters)
    for name, kind in listed:
        assert f":'{name}'::{kind}" in text or f"nullif(:'{name}'::text, '')" in text, name
    assert any(line.startswith("Locks: ") for line in lines)
    assert lines[-1].startswith("psql ")
    assert lines[-1].endswith(f"-f {query.path.relative_to(sql_folder().parent)}")
    assert set(re.findall(r"-v ([a-z0-9_]+)=", lines[-1])) == set(query.parameters)
    assert re.match(r"(?:\\ir (?:_columns|_identity|\.\./system/_identity)\.sql\n)?[A-Z]+\s", text.removeprefix(header))
    assert text.rstrip().endswith(";")
    assert re.sub("'[^']*'", "", query.sql).count(";") == 0
    assert not re.search(r"select\s+\*", text, re.IGNORECASE)


@pytest.fixture(scope="module")
def psql():
    try:
        return find_program("psql")
    except EmbeddedError:
        pytest.skip("there is no psql here")


@pytest.mark.parametrize("query", FILES.values(), ids=FILES)
def test_the_line_of_the_header_runs_in_psql_as_it_is(make, cluster, database, psql, query, request):
    """In a shop where whatever the lines name is there."""
    if query.name in load_tools():
        request.getfixturevalue("counted")
    user = make.user("bob@example.com")
    for _ in range(4):
        make.product(stock=10)
    make.invoice(user.id, {1: 3, 2: 1})
    with make.conn.transaction():
        make.conn.execute("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, 'C2001-000001', %s)", (user.id,))
        make.conn.execute("INSERT INTO credit_note_lines VALUES (1, 1, 2, 1, false)")
    _, *arguments = shlex.split(psql_lines.line(query))
    done = subprocess.run(
        [
            psql,
            "-X",
            "-d",
            cluster.url("petstore_report" if query.name in load_reports() else "petstore_app", database),
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            "BEGIN",
            *arguments,
            "-c",
            "ROLLBACK",
        ],
        cwd=sql_folder().parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
