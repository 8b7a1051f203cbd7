"""Answers from a process's own memory: the same as from Redis, and never older than what was acknowledged."""

import socket
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import redis

from petstore.cache.document import Validity
from petstore.cache.local import LocalCache
from petstore.cache.redis_connection import RedisConnection
from petstore.cache.shared_generations import SharedGenerations
from petstore.domain import logins
from petstore.web import response_cache
from tests.cache import writes
from tests.client import Client
from tests.factories import PASSWORD
from tests.services import running
from tests.waiting import eventually


@pytest.fixture(scope="module", params=["machines", "machine"])
def _two(request, settings, tmp_path_factory):
    scoped = replace(settings, cache_scope=request.param, home=tmp_path_factory.mktemp("home"))
    with running(scoped) as one, running(scoped) as other:
        one[0].db.check(), other[0].db.check()
        yield one, other


@pytest.fixture
def two(_two, make):
    """Two services on one shop, each with a memory of its own."""
    for services, _ in _two:
        eventually(lambda services=services: services.cache.check() == "ok")
    _two[0][0].cache.clear()
    return _two


@pytest.fixture
def count_reads(monkeypatch):
    """Counts how often a service asks Redis for an entry."""

    def watch(services):
        reads, read = [], services.cache.read
        monkeypatch.setattr(services.cache, "read", lambda *key: reads.append(key) or read(*key))
        return reads

    return watch


def warm(client, path, service):
    """Read until the answer is in memory; the answer as it came from Redis."""
    assert [client.get(path)["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    answer = client.get(path)
    assert answer["X-Cache"] == "HIT"
    return answer


def as_user(service, user):
    return Client(service[1].address, service[0].tokens.issue(user))


def plain(answer):
    """All of an answer that does not differ from one request to the next."""
    headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in ("date", "x-request-id")]
    return answer.status, headers, answer.body


@pytest.mark.parametrize("path", ["/products", "/products?id=1", "/products?ids=1", "/invoices?status=pending"])
def test_what_was_a_hit_once_is_answered_from_memory_with_the_same_headers_and_bytes(two, make, ana, count_reads, path):
    make.product(), make.product()
    reads = count_reads(two[0][0])
    with as_user(two[0], ana) as client:
        client.get("/me")
        client.get(path)
        from_redis = client.get(path)
        asked = len(reads)
        from_memory = client.get(path)
        assert from_redis["X-Cache"] == "HIT"
        assert plain(from_memory) == plain(from_redis)
        assert len(reads) == asked == 3  # for the miss twice: it was looked for before a thread that may wait took it over
        unchanged = client.get(path, headers={"If-None-Match": from_redis["ETag"]})
        assert (unchanged.status, unchanged.body, unchanged["ETag"]) == (304, b"", from_redis["ETag"])
        assert client.get(path, headers={"If-None-Match": '"other"'}).status == 200
        assert len(reads) == 3
        head = client.request("HEAD", path)
        assert (head.status, head.body, head["ETag"]) == (200, b"", from_redis["ETag"])


WRITES = {
    "new price": lambda boss, buyer: boss.request("PATCH", "/modify_product?id=1", {"price": "7.00"}),
    "purchase": lambda boss, buyer: buyer.post("/purchase_product", {"products": [{"product_id": 1, "quantity": 1}]}),
    "deletion": lambda boss, buyer: boss.request("DELETE", "/delete_product?id=1"),
    "new product": lambda boss, buyer: boss.post("/create_product", {"name": "x", "price": "1.00", "stock": 1}),
}


@pytest.mark.parametrize("change", WRITES.values(), ids=WRITES.keys())
def test_after_a_write_was_answered_no_memory_has_the_older_state(two, make, ana, boss, change):
    make.product(), make.product()
    paths = "/products", "/products?id=1", "/products?id=2", "/invoices"
    with as_user(two[0], ana) as here, as_user(two[1], ana) as there, as_user(two[0], boss) as admin:
        for client in (here, there, here, there):
            before = {path: client.get(path).body for path in paths}
        assert change(admin, here).status < 300
        after = {path: here.get(path).body for path in paths if change is not WRITES["deletion"] or path != paths[1]}
        assert after != before
        assert {path: there.get(path).body for path in after} == after
        assert after["/products?id=2"] == before["/products?id=2"]
        assert [client.get(paths[1]).status for client in (here, there)] == [404 if paths[1] not in after else 200] * 2
        fresh = {path: [client.get(path).body for client in (here, there)] for path in after}
        assert fresh == {path: [body, body] for path, body in after.items()}


def test_while_a_write_is_under_way_its_pages_come_from_the_database_and_the_others_from_memory(two, make, clients, ana):
    make.product(), make.product()
    with as_user(two[0], ana) as client:
        for path in ("/products?id=1", "/products?id=2"):
            warm(client, path, two[0])
        mark = writes.begin(two[1][0].cache, "product:1")
        assert [client.get("/products?id=1")["X-Cache"] for _ in range(3)] == ["BYPASS"] * 3
        assert client.get("/products?id=2")["X-Cache"] == "HIT"
        writes.refuse(mark)
        assert [client.get("/products?id=1")["X-Cache"] for _ in range(2)] == ["HIT"] * 2


def test_what_a_reader_keeps_just_before_a_mark_is_set_is_not_served_after_it(two, make, ana, monkeypatch):
    make.product(stock=5)
    set_mark = RedisConnection.mark
    with as_user(two[0], ana) as client:
        assert client.get("/products?id=1")["X-Cache"] == "MISS"

        def read_and_mark(connection, mark, seconds):
            assert client.get("/products?id=1")["X-Cache"] == "HIT"  # and is in memory from now on
            set_mark(connection, mark, seconds)

        monkeypatch.setattr(RedisConnection, "mark", read_and_mark)
        mark = writes.begin(two[1][0].cache, "product:1")
        assert [client.get("/products?id=1")["X-Cache"] for _ in range(2)] == ["BYPASS"] * 2
        make.conn.execute("UPDATE products SET stock = 4 WHERE id = 1")
        assert client.get("/products?id=1").json()["stock"] == 4
        writes.commit(mark)


def test_a_writer_that_died_after_its_commit_leaves_nothing_old_in_memory(two, make, ana, monkeypatch):
    monkeypatch.setattr("petstore.cache.redis_connection.MARK_SECONDS", 1)
    make.product(stock=5)
    with as_user(two[0], ana) as client:
        warm(client, "/products?id=1", two[0])
        writes.begin(two[1][0].cache, "product:1")  # and then no word
        make.conn.execute("UPDATE products SET stock = 4 WHERE id = 1")
        seen = [client.get("/products?id=1").json()["stock"]]
        time.sleep(1.2)
        seen += [client.get("/products?id=1").json()["stock"] for _ in range(3)]
        assert seen == [4] * 4


ENDINGS = {
    "logout": lambda admin, own, refresh_token: own.post("/logout", {"refresh_token": refresh_token}),
    "new password": lambda admin, own, _: own.post(
        "/me/password", {"current_password": PASSWORD, "new_password": "a quite different one"}
    ),
    "disabled": lambda admin, own, _: admin.request("PATCH", "/admin/users/1", {"active": False}),
    "erased": lambda admin, own, _: own.post("/me/delete", {"current_password": PASSWORD}),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_remembered_login_ends_everywhere_at_once(two, make, end):
    own, other = make.user("ana@example.com"), make.user("eve@example.com")
    boss = make.user("admin@example.com", role="admin")
    with Client(two[0][1].address) as here, Client(two[1][1].address) as there, as_user(two[1], boss) as admin:
        tokens = here.post("/login", {"email": own.email, "password": PASSWORD}).json()
        here.token = there.token = tokens["access_token"]
        assert [client.get("/invoices").status for client in (here, there) * 3] == [200] * 6
        assert end(admin, here, tokens["refresh_token"]).status in (200, 204)
        assert [client.get(path).status for client in (here, there) for path in ("/invoices", "/me")] == [401] * 4
        here.token = two[0][0].tokens.issue(other)
        assert here.get("/invoices").status == 200


def test_a_logout_that_is_sent_again_ends_what_is_remembered_although_the_login_has_ended(two, make):
    own = make.user("ana@example.com")
    with Client(two[0][1].address) as here, Client(two[1][1].address) as there:
        tokens = here.post("/login", {"email": own.email, "password": PASSWORD}).json()
        there.token = tokens["access_token"]
        assert there.get("/me").status == 200
        # As after a COMMIT of which no answer came.
        make.conn.execute("UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE user_id = %s", (own.id,))
        assert here.post("/logout", {"refresh_token": tokens["refresh_token"]}).status == 204
        assert there.get("/me").status == 401


def test_a_lowered_role_counts_everywhere_at_once(two, make):
    own, boss = make.user(role="admin"), make.user("admin@example.com", role="admin")
    with as_user(two[0], own) as here, as_user(two[1], own) as there, as_user(two[1], boss) as admin:
        assert [client.get("/admin/users").status for client in (here, there, here)] == [200] * 3
        assert admin.request("PATCH", f"/admin/users/{own.id}", {"role": "user"}).status == 200
        assert [client.get("/admin/users").status for client in (here, there)] == [403] * 2


def test_a_login_that_a_worker_ends_without_redis_has_ended_everywhere_when_it_answers(two, make, ana, monkeypatch):
    monkeypatch.setattr(logins, "CACHED_SECONDS", 1)
    boss = make.user("admin@example.com", role="admin")
    with as_user(two[0], ana) as there, as_user(two[1], boss) as admin:
        assert there.get("/me").status == 200
        monkeypatch.setattr(two[1][0].cache._breaker, "closed", False)
        monkeypatch.setattr(two[1][0].cache._breaker, "probe", lambda: None)
        assert admin.request("PATCH", f"/admin/users/{ana.id}", {"active": False}).status == 200
        assert there.get("/me").status == 401


def test_while_redis_takes_its_time_to_connect_others_are_served(two, make, ana, monkeypatch):
    make.product()
    with as_user(two[0], ana) as client, as_user(two[0], ana) as other:
        warm(client, "/products?id=1", two[0])
        other.get("/livez")
        tried = threading.Event()

        def connect(self):
            tried.set()
            time.sleep(1)
            raise redis.ConnectionError("no way")

        for one in [*two[0][0].cache._pool._idle]:
            one.disconnect()
        monkeypatch.setattr(redis.Connection, "connect", connect)
        monkeypatch.setattr(redis.UnixDomainSocketConnection, "connect", connect)
        waiting = threading.Thread(target=client.get, args=("/products?id=2",))
        waiting.start()
        assert tried.wait(5)
        started = time.monotonic()
        assert other.get("/livez").status == 200
        assert time.monotonic() - started < 0.7
        waiting.join()


def test_an_answer_of_redis_that_makes_no_sense_leaves_nobody_waiting(two, make, ana, monkeypatch):
    make.product()
    with as_user(two[0], ana) as client:
        warm(client, "/products?id=1", two[0])
        monkeypatch.setattr("petstore.server.waitress_fast_path.decode_generations", lambda *_: 1 / 0)
        assert [client.get("/products?id=1").status for _ in range(3)] == [200] * 3


def test_what_is_done_to_a_login_in_sql_counts_within_seconds(two, make, ana, monkeypatch):
    monkeypatch.setattr(logins, "CACHED_SECONDS", 0.5)
    with as_user(two[0], ana) as client:
        assert client.get("/me").status == 200
        make.conn.execute("UPDATE users SET active = false WHERE id = %s", (ana.id,))
        time.sleep(0.6)
        assert client.get("/me").status == 401


def test_a_remembered_token_ends_in_its_second_and_with_its_key(two, make, ana, monkeypatch):
    tokens = two[0][0].tokens
    with as_user(two[0], ana) as client:
        warm(client, "/invoices", two[0])
        monkeypatch.setattr(tokens, "seconds", 2)
        long, client.token = client.token, tokens.issue(ana)
        assert client.get("/invoices").status == 200
        time.sleep(2)
        assert client.get("/invoices").status == 401
        client.token = long
        assert client.get("/invoices").status == 200
        keyring = tokens.keyring
        monkeypatch.setattr(keyring, "_keys", replace(keyring.now(), verifying={}))
        assert client.get("/invoices").status == 401


def test_nobody_is_shown_anothers_page(two, make, ana):
    eve = make.user("eve@example.com")
    make.invoice(ana.id)
    with as_user(two[0], ana) as client, as_user(two[0], eve) as stranger, Client(two[0][1].address) as nobody:
        own = warm(client, "/invoices", two[0])
        assert len(own.json()["items"]) == 1
        assert [stranger.get("/invoices").json()["items"] for _ in range(4)] == [[]] * 4
        assert [nobody.get("/invoices").status for _ in range(2)] == [401] * 2


@pytest.mark.parametrize("path", ["/products", "/invoices"])
def test_a_header_that_a_read_refuses_is_refused_although_memory_has_the_answer(two, make, ana, path):
    make.product()
    with as_user(two[0], ana) as client:
        warm(client, path, two[0])
        assert client.get(path, headers={"Idempotency-Key": "k"}).status == 400
        assert client.request("HEAD", path, headers={"Idempotency-Key": "k"}).status == 400
        assert client.get(path)["X-Cache"] == "HIT"


def test_a_get_with_a_body_is_read_as_ever(two, make, ana):
    make.product()
    with as_user(two[0], ana) as client:
        warm(client, "/products", two[0])
        assert client.request("GET", "/products", raw=b"{}", headers={"Content-Type": "text/plain"}).status == 415


def test_pipelined_requests_are_answered_in_their_order_from_memory_or_not(two, make, ana):
    make.product(), make.product()
    with as_user(two[0], ana) as client:
        warm(client, "/products?id=1", two[0])
    paths = ["/products?id=1", "/livez", "/products?id=1", "/products?id=1", "/products?id=99", "/products?id=1"] * 20
    with socket.create_connection(two[0][1].address) as raw:
        raw.sendall(
            b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-ID: n{n}\r\n\r\n".encode() for n, path in enumerate(paths))
        )
        raw.settimeout(5)
        got = b""
        while got.count(b"HTTP/1.1 ") < len(paths) or not got.endswith(b"\n"):
            got += raw.recv(65536)
    ids = [line.split(b": ")[1] for line in got.split(b"\r\n") if line.lower().startswith(b"x-request-id: ")]
    assert ids == [f"n{n}".encode() for n in range(len(paths))]
    assert got.count(b"HTTP/1.1 200") == 100


def test_hits_count_for_the_general_limit_and_are_logged(with_settings, make, tmp_path, caplog):
    make.product()
    limited = with_settings(cache_scope="machine", home=tmp_path, rate_limit=1)
    with limited as service, Client(service[1].address) as client, caplog.at_level("INFO", logger="petstore.access"):
        statuses = [client.get("/products").status for _ in range(14)]
    assert statuses[:10] == [200] * 10
    assert statuses[-1] == 429
    assert sum(record.getMessage().startswith("GET /products 200") for record in caplog.records) == statuses.count(200)


def test_a_memory_throws_away_the_oldest_when_it_is_full():
    memory = LocalCache(max_bytes=100)
    validity = Validity("p", "g", 60)
    for number in range(6):
        memory.keep(number, f"value {number}", validity, 25)
    assert [number for number in range(6) if memory.get(number)] == [2, 3, 4, 5]
    memory.keep(5, "again", validity, 25)  # in place of the old one
    assert [number for number in range(6) if memory.get(number)] == [2, 3, 4, 5]
    memory.keep("short", "value", replace(validity, seconds=0.05), 1)
    assert memory.get("short") is not None
    time.sleep(0.06)
    assert memory.get("short") is None


def test_a_query_that_is_longer_than_its_answer_counts_for_the_size_of_the_memory():
    services, queries = SimpleNamespace(local_cache=LocalCache(max_bytes=30_000)), [f"ids={n}" + 10_000 * "," for n in range(4)]
    empty = response_cache.CachedResponse([], b"{}", '"x"')
    environs = [{"REQUEST_METHOD": "GET", "PATH_INFO": "/products", "QUERY_STRING": query} for query in queries]
    for environ in environs:
        response_cache.store(services, environ, None, empty, Validity("p", "g", 60))
    assert [services.local_cache.get(response_cache._key(environ, None)) is not None for environ in environs] == [False] * 2 + [
        True
    ] * 2


def test_generations_are_shared_by_the_processes_of_a_machine(tmp_path):
    one, other = SharedGenerations(tmp_path / "generations"), SharedGenerations(tmp_path / "generations")
    before = {prefix: one.current(prefix) for prefix in ("a", "b")}
    other.renew(["a"])
    assert one.current("a") == other.current("a") != before["a"]
    assert one.current("b") == before["b"]
    other.renew_all()
    assert one.current("b") != before["b"]
    assert (tmp_path / "generations").stat().st_mode & 0o777 == 0o600


def test_a_file_for_generations_is_made_of_random_numbers_and_kept_as_it_is(tmp_path):
    prefixes = [str(number) for number in range(9)]
    one = SharedGenerations(tmp_path / "generations")
    before = [one.current(prefix) for prefix in prefixes]
    assert len({"0", *before}) == 10
    assert [SharedGenerations(tmp_path / "generations").current(prefix) for prefix in prefixes] == before


def test_a_file_that_is_a_link_is_not_used_for_generations(tmp_path):
    (tmp_path / "generations").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        SharedGenerations(tmp_path / "generations")


def test_under_a_race_no_memory_is_older_than_the_last_acknowledged_write(two, make, ana, boss):
    make.product(stock=0)
    acknowledged, faults, done = 0, [], threading.Event()

    def look(service):
        with as_user(service, ana) as client:
            while not done.is_set():
                least = acknowledged
                seen = client.get("/products?id=1").json()["stock"]
                if seen < least:
                    faults.append((seen, least))

    readers = [threading.Thread(target=look, args=(service,)) for service in two for _ in range(3)]
    [reader.start() for reader in readers]
    with as_user(two[0], boss) as one, as_user(two[1], boss) as other:
        for number in range(1, 61):
            admin = (one, other)[number % 2]
            assert admin.request("PATCH", "/modify_product?id=1", {"stock": number}).status == 200
            acknowledged = number
            time.sleep(0.01)
    done.set()
    [reader.join() for reader in readers]
    assert faults == []
