"""The proxy itself, between a connection and a real PostgreSQL, and on TCP."""

import socket
import threading
import time
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from tests.proxy import Proxy
from tests.waiting import eventually


@pytest.fixture
def proxy(cluster, tmp_path):
    query = parse_qs(urlsplit(cluster.url("postgres", "postgres")).query)
    if "host" not in query:
        pytest.skip("the database is not behind a unix socket")
    with Proxy(tmp_path / ".s.PGSQL.5432", f"{query['host'][0]}/.s.PGSQL.5432") as one:
        yield one


@pytest.fixture
def connect(proxy, make, database):
    return lambda: psycopg.connect(f"postgresql://petstore_owner@/{database}?host={proxy.address.parent}&port=5432")


def add_a_product(connection):
    with connection.transaction():
        connection.execute("INSERT INTO products (name, price, stock) VALUES ('Bone', 1, 1)")


@pytest.mark.parametrize(("arm", "lost", "made"), [
    (lambda proxy: proxy.lose_answers(), "answer", 1),
    (lambda proxy: proxy.lose_answers(late=0.3), "answer", 1),
    (lambda proxy: proxy.lose_commits(), "commit", 0),
])  # fmt: skip
def test_what_is_lost_of_a_commit_is_its_answer_or_all_of_it(proxy, connect, make, arm, lost, made):
    arm(proxy)
    with connect() as connection, pytest.raises(psycopg.OperationalError):
        add_a_product(connection)
    eventually(lambda: proxy.lost == [lost])
    assert make.scalar("SELECT count(*) FROM products") == made
    with connect() as connection:
        add_a_product(connection)  # nothing is armed any more
    assert make.scalar("SELECT count(*) FROM products") == made + 1


def test_the_proxy_cuts_refuses_delays_and_swallows(proxy, connect):
    with connect() as connection:
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    proxy.refusing = True
    with pytest.raises(psycopg.OperationalError):
        connect()
    proxy.refusing = False
    with connect() as connection:
        proxy.delay, started = 0.1, time.monotonic()
        connection.execute("SELECT 1")
        assert time.monotonic() - started > 0.2
        proxy.delay, proxy.swallowing, started = 0, True, time.monotonic()
        threading.Timer(0.3, setattr, (proxy, "swallowing", False)).start()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert time.monotonic() - started > 0.25


def test_the_proxy_works_on_tcp_too():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Proxy(("127.0.0.1", 0), server.getsockname()) as proxy,
        socket.create_connection(proxy.address, 5) as client,
    ):
        client.sendall(b"hello")
        serving, _ = server.accept()
        with serving:
            assert serving.recv(100) == b"hello"
            proxy.cut()
            assert client.recv(100) == serving.recv(100) == b""
