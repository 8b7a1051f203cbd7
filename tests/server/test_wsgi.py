"""`petstore.wsgi:app` under other servers than waitress: gunicorn, and one that does no more than PEP 3333 asks."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from petstore.auth.key_rotation import generate_key
from petstore.db import connect
from petstore.repository.reports import run_report
from petstore.settings import Settings
from petstore.web.pages import asset
from petstore.web.validation import MAX_BODY
from tests.factories import PASSWORD, Factory
from tests.server.wsgi_servers import environment, gunicorn, plain
from tests.waiting import eventually

SHOP = "https://shop.example.com"


# ── before the first request ─────────────────────────────────────────────────────────────────────────────────────────────

# Says what the import has done besides reading files. The settings are faulty: who reads them fails.
IMPORT = """
import logging, os, sys, threading
done = []
def note(event, details):
    if event.startswith(("socket.", "_thread.start", "os.fork", "os.exec", "os.posix_spawn", "subprocess.")):
        done.append(event)
sys.addaudithook(note)
plain_get = os._Environ.__getitem__
def get(self, name):
    if name.startswith("PETSTORE_"):
        done.append(name)
    return plain_get(self, name)
os._Environ.__getitem__ = get
import petstore.wsgi
done += [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
done += [name for name in (None, "petstore") if logging.getLogger(name).handlers]
done += [name for name in sys.modules if name.split(".")[0] == "waitress"]
print(done)
"""


def test_the_import_opens_no_socket_starts_no_thread_and_reads_no_setting():
    environ = {"PETSTORE_DATABASE_URL": "nonsense", "PETSTORE_POOL_SIZE": "many", "PETSTORE_KEYS": "/nowhere"}
    ended = subprocess.run([sys.executable, "-c", IMPORT], env=environ, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


@dataclass(frozen=True)
class Shop:
    """A database that nobody else uses. settings: of a service on it, with a pool of two."""

    settings: Settings
    make: Factory
    postgres: Any

    def sessions(self, state="true"):
        """The process ids of the service's sessions now."""
        found = f"SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name ~ '^petstore [0-9]' AND {state}"
        return {pid for (pid,) in self.postgres.execute(found, (self.make.conn.info.dbname,))}


@pytest.fixture
def own(cluster, template, settings):
    with (
        cluster.database("own", template) as name,
        connect(cluster.url("postgres", cluster.name)) as postgres,
        connect(cluster.url("petstore_owner", name)) as owner,
    ):
        yield Shop(replace(settings, database_url=cluster.url("petstore_app", name), pool_size=2), Factory(owner), postgres)


def test_the_first_requests_open_everything_once_however_many_come_together(own, tmp_path):
    """A pool of two opens both at once: a second pool would be two more sessions."""
    with plain(tmp_path, environment(own.settings)) as server, ThreadPoolExecutor(16) as threads:
        barrier = threading.Barrier(16)

        def ask(_):
            with server.client() as client:
                barrier.wait()
                return client.get("/products").status

        assert list(threads.map(ask, range(16))) == [200] * 16
        eventually(lambda: len(own.sessions()) >= 2)
        assert len(own.sessions()) == 2
        assert server.end() == 0
    eventually(lambda: not own.sessions())
    assert "Traceback" not in server.said


FORK = """
import io, os, sys, warnings
from petstore.wsgi import app

def get():
    heard = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/products", "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "shop", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http",
    }
    b"".join(app(environ, lambda status, headers, exc_info=None: heard.append(status)))
    print(*heard, flush=True)
    os.read(0, 1)  # not by sys.stdin, which would take the byte of the other process, too

get()
warnings.simplefilter("ignore")  # of a fork with threads: the pool's
child = os.fork()
get()
if child:
    os.waitpid(child, 0)
    get()
"""


def test_a_child_of_a_process_that_has_served_opens_its_own_and_leaves_its_parents_alone(own, tmp_path):
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", FORK], env=environment(own.settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )

    def read_and_go_on(times):
        """What they print, and their sessions meanwhile."""
        printed = [process.stdout.readline() for _ in range(times)]
        eventually(lambda: len(own.sessions()) == 2 * times)
        found = own.sessions()
        process.stdin.write(b"\n" * times)
        process.stdin.flush()
        return printed, found

    with process:
        first, before = read_and_go_on(1)
        both, _ = read_and_go_on(2)
        last, after = read_and_go_on(1)
        process.stdin.close()
        assert process.wait(20) == 0
    assert first + both + last == [b"200 OK\n"] * 4
    assert after == before  # the child's end has ended none of its parent's
    assert (tmp_path / "log").read_text().count("GET /products 200") == 4


# ── what keeps it from serving ───────────────────────────────────────────────────────────────────────────────────────────


def is_refused(client, path="/products"):
    """Whether it is a 503 that tells nothing of what is wrong; when it is not, it is a 200."""
    answer = client.get(path)
    assert answer.status in (200, 503)
    if answer.status == 503:
        assert answer["Retry-After"] == "1"
        assert not [word for word in ("PETSTORE", "schema", "key", "/tmp", "currency") if word in answer.json()["detail"]]
    return answer.status == 503


def test_faulty_settings_are_told_once_all_of_them_and_every_request_is_refused(settings, tmp_path):
    environ = environment(settings) | {"PETSTORE_POOL_SIZE": "many", "PETSTORE_COLOUR": "red"}
    with plain(tmp_path, environ) as server, server.client() as client:
        started = time.monotonic()
        while time.monotonic() < started + 2.5:  # it is tried again every second
            assert is_refused(client, "/livez")
            time.sleep(0.1)
    for fault in ("PETSTORE_POOL_SIZE must be a whole number", "PETSTORE_COLOUR is not a setting"):
        assert server.said.count(fault) == 1
    assert "Traceback" not in server.said


def test_without_a_database_none_is_guessed(settings, tmp_path):
    environ = environment(settings)
    del environ["PETSTORE_DATABASE_URL"]
    with plain(tmp_path, environ | {"PGHOST": "nowhere.invalid"}) as server, server.client() as client:
        assert is_refused(client, "/livez")
    assert "PETSTORE_DATABASE_URL is not set" in server.said


def test_a_missing_key_is_told_and_once_it_is_there_the_service_serves(make, settings, tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    with plain(tmp_path, environment(settings, keys=folder)) as server, server.client() as client:
        assert is_refused(client)
        assert is_refused(client)
        assert server.said.count("private.pem is missing: make it with `petstore generate-keys`") == 1
        generate_key(folder)
        eventually(lambda: not is_refused(client))
    assert "Traceback" not in server.said


def test_a_wrong_database_is_told_and_refused_until_it_is_the_right_one(own, tmp_path):
    own.make.conn.execute("INSERT INTO schema_version (version) SELECT max(version) + 1 FROM schema_version")
    with plain(tmp_path, environment(own.settings)) as server, server.client() as client:
        assert client.get("/livez").status == 200  # restarting it would mend nothing
        assert is_refused(client)
        assert client.get("/readyz").json()["database"] == "wrong"
        assert "not ready: the database has schema version" in server.said
        own.make.conn.execute("DELETE FROM schema_version WHERE version = (SELECT max(version) FROM schema_version)")
        eventually(lambda: not is_refused(client), 3)  # it looks again after a second
        assert not is_refused(client, "/readyz")
    assert "Traceback" not in server.said


def test_a_database_that_is_down_is_a_503_with_its_reason_in_the_log_and_is_used_once_it_is_up(own, tmp_path):
    own.postgres.execute(f'ALTER DATABASE "{own.make.conn.info.dbname}" ALLOW_CONNECTIONS false')
    with plain(tmp_path, environment(own.settings)) as server, server.client() as client:
        started = time.monotonic()
        assert is_refused(client)
        assert time.monotonic() < started + 5
        assert "not currently accepting connections" in server.said
        own.postgres.execute(f'ALTER DATABASE "{own.make.conn.info.dbname}" ALLOW_CONNECTIONS true')
        eventually(lambda: not is_refused(client))
    assert "Traceback" not in server.said


# ── what a server gives, and what it does not ────────────────────────────────────────────────────────────────────────────


def test_a_server_that_does_no_more_than_pep_3333_asks_is_enough(make, settings, tmp_path):
    """Its own checks (wsgiref.validate) are on. It does not mark the end of a body: nothing waits for more than was sent."""
    make.product()
    with plain(tmp_path, environment(settings)) as server, server.client() as client:
        assert client.post("/register", {"email": "ana@example.com", "password": PASSWORD}).status == 201
        assert client.get("/products").json()["items"]
        assert client.request("HEAD", "/products").status == 200
        assert client.post("/logout").status == 400
        assert client.post("/logout", raw=b"{}").status == 422
        assert client.post("/login", raw=b"x" * (MAX_BODY + 1)).status == 413
        assert raw(server, b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n12345").startswith(b"HTTP/1.0 400 ")
        unknown = b"POST /logout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        assert raw(server, unknown).startswith(b"HTTP/1.0 501 ")
    assert "Traceback" not in server.said


def raw(server, sent, then=None):
    """What is answered to these bytes until the server closes. then: done once they are sent."""
    with socket.create_connection(server.address, timeout=20) as connection:
        connection.sendall(sent)
        if then is not None:
            connection.shutdown(then)
        received = b""
        with suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                received += part
        return received


def test_its_log_lines_are_those_of_serve_and_come_once(make, settings, tmp_path):
    for access_log, lines in ((True, 1), (False, 0)):
        changes = environment(settings) | {"PETSTORE_ACCESS_LOG": "on" if access_log else "off"}
        with plain(tmp_path, changes) as server, server.client() as client:
            client.get("/livez?x=secret")
            client.get("/livez", headers={"X-Request-ID": "known"})
            assert server.said.count("INFO petstore.access: GET /livez 200") == lines
            assert server.said.count("known") == lines


CONFIGURED = """
import logging, sys
import petstore.cli.logs as logs
logging.basicConfig(stream=sys.stdout, format="theirs %(message)s", level=logging.WARNING)
logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
logs.configure_guest()
logs.set_levels(access_log=True)
logging.getLogger("petstore.access").info("ours")
logging.getLogger("other").info("not asked for")
print(logging.getLogger("psycopg.pool").level == logging.CRITICAL, logging.getLogger().level == logging.WARNING)
"""


def test_a_server_with_its_own_configuration_of_logging_keeps_it_and_gets_our_lines():
    ended = subprocess.run([sys.executable, "-c", CONFIGURED], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("theirs ours\nTrue True\n", "")


# ── gunicorn ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

slow = pytest.mark.slow
CASES = {
    "a probe": b"GET /livez",
    "a head": b"HEAD /products",
    "a list": b"GET /products?limit=2",
    "a product": b"GET /products?id=1",
    "not modified": b"GET /products?id=1|If-None-Match: *",
    "a list in gzip": b"GET /products?limit=100|Accept-Encoding: gzip",
    "the head of a list in gzip": b"HEAD /products?limit=100|Accept-Encoding: gzip",
    "a document in gzip": b"GET /openapi.json|Accept-Encoding: gzip",
    "a document in gzip, not modified": b"GET /openapi.json|Accept-Encoding: gzip|If-None-Match: *",
    "a page": b"GET /",
    "a script": f"GET {asset('docs.css')}".encode(),
    "a preflight": b"OPTIONS /products|Origin: https://shop.example.com|Access-Control-Request-Method: GET",
    "another origin": b"GET /livez|Origin: https://shop.example.com",
    "no such path": b"GET /nothing",
    "no such method": b"PUT /login",
    "two slashes": b"GET //livez",
    "two slashes inside": b"GET /admin//users",
    "an encoded slash": b"GET /invoices/1%2F2",
    "a dot": b"GET /./livez",
    "a path beyond ASCII": b"GET /caf%C3%A9",
    "no UTF-8": b"GET /%FF",
    "no path": b"GET livez",
    "a whole URL": b"GET http://a/livez",
    "a bad query": b"GET /products?limit=0&limit=1",
    "a query beyond ASCII": b"GET /products?limit=%C3%A9",
    "no token": b"GET /me",
    "a token of others": b"GET /me|Authorization: Bearer x",
    "two tokens": b"GET /me|Authorization: Bearer x|Authorization: Bearer y",
    "two hosts": b"GET /livez|Host: b",
    "a host that is none": b"GET /livez|Host: a b",
    "no content": b'POST /logout|Content-Type: application/json~{"refresh_token":"x"}',
    "another type": b"POST /logout|Content-Type: text/plain~x",
    "a wrong token": b'POST /refresh|Content-Type: application/json~{"refresh_token":"x"}',
    "broken JSON": b"POST /login|Content-Type: application/json~{",
    "a body that is empty": b"POST /login|Content-Type: application/json|Content-Length: 0",
    "in chunks": b'POST /refresh|Content-Type: application/json|Transfer-Encoding: chunked~15\r\n{"refresh_token":"x"}\r\n0\r\n\r\n',
    "a body with a read": b"GET /livez|Content-Type: application/json~{}",
    "too large": b"POST /login|Content-Type: application/json~" + b"x" * (MAX_BODY + 1),
    "an id of its own": b"GET /livez|X-Request-ID: a b",
    "an underscore": b"GET /me|Authorization_: x|Authorization: Basic x",
    "a method of small letters": b"get /livez",
    "a method of its own": b"BREW /livez",
    "a version to come": b"GET /livez HTTP/1.2",
}
# What gunicorn itself answers, in its own form, or leaves out: docs/operations.md tells it.
DIFFERENT = {
    "no path": b"400",
    "two hosts": b"400",
    "a host that is none": b"400",
    "a method of small letters": b"400",
    "a version to come": b"200",
}
CHANGING = {"date", "server", "connection"}


def answer(address, case):
    """Status, headers without what differs each time, and body."""
    head, _, body = CASES[case].partition(b"~")
    line, *headers = head.split(b"|")
    line += b"" if b"HTTP/" in line else b" HTTP/1.1"
    length = [b"Content-Length: %d" % len(body)] if body and b"chunked" not in head else []
    known = [] if case == "an id of its own" else [b"X-Request-ID: known"]
    request = b"\r\n".join([line, b"Host: a", *headers, *known, *length, b"Connection: close", b"", body])
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    changing = CHANGING | ({"x-request-id"} if case == "an id of its own" else set())
    return first.split()[1], sorted(field for field in fields if field[0] not in changing), body


@slow
def test_gunicorn_gives_every_answer_with_the_same_status_headers_and_bytes(make, settings, with_settings, tmp_path):
    for _ in range(12):
        make.product()
    environ = environment(settings) | {"PETSTORE_CORS_ORIGINS": SHOP}
    with with_settings(cors_origins=(SHOP,)) as (_, ours), gunicorn(tmp_path, environ, workers=1) as server:
        different = {}
        for case in CASES:
            for address in (ours.address, server.address) * 2:
                answer(address, case)  # so that the cache is in the same state for each
            expected, found = (answer(address, case) for address in (ours.address, server.address))
            if found != expected:
                different[case] = found[0].encode()
    assert different == DIFFERENT
    assert "Traceback" not in server.said


BODIES = {
    "a chunk size that is no number": (b"Transfer-Encoding: chunked", b"x\r\n\r\n"),
    "a chunk longer than its size": (b"Transfer-Encoding: chunked", b"2\r\nhello\r\n0\r\n\r\n"),
    "chunks that do not end": (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
    "a chunk that does not end": (b"Transfer-Encoding: chunked", b"f" * 15 + b"\r\nhello"),
    "a body that ends early": (b"Content-Length: 20", b"{}"),
    "none of a body": (b"Content-Length: 20", b""),
    "two readings of the length": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "two lengths": (b"Content-Length: 0\r\nContent-Length: 90", b""),
    "a signed length": (b"Content-Length: +5", b"hello"),
    "gzip": (b"Transfer-Encoding: gzip", b""),
    "chunked in HTTP/1.0": (b"Transfer-Encoding: chunked", b"0\r\n\r\n"),
}


@slow
def test_what_gunicorn_cannot_read_to_its_end_is_refused_and_taken_for_no_other_request(make, ana, settings, service, tmp_path):
    """The route is one whose body may be left out: half a body must not be taken for none."""
    product = make.product()
    invoice = make.invoice(ana.id, {product: 1})
    token = service[0].tokens.issue(ana).encode()
    with gunicorn(tmp_path, environment(settings), workers=1) as server:
        for case, (headers, body) in BODIES.items():
            version = b"1.0" if "1.0" in case else b"1.1"
            head = b"POST /invoices/%d/cancel HTTP/%b\r\nHost: a\r\nAuthorization: Bearer %b\r\n" % (invoice, version, token)
            head += b"Content-Type: application/json\r\n" + headers + b"\r\n\r\n"
            received = raw(server, head + body, then=socket.SHUT_WR)
            assert received.split(b" ")[1] in (b"400", b"501"), (case, received)
            assert received.count(b"HTTP/1.1 ") == 1, (case, received)
        assert make.scalar("SELECT status FROM invoices") == "pending"
    assert "Traceback" not in server.said


@slow
@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_a_whole_flow_under_gunicorn(make, settings, tmp_path, options):
    product = make.product(stock=10)
    with gunicorn(tmp_path, environment(settings), *options) as server, server.client() as client:
        assert client.post("/register", {"email": "ana@example.com", "password": PASSWORD}).status == 201
        client.token = client.post("/login", {"email": "ana@example.com", "password": PASSWORD}).json()["access_token"]
        assert client.get("/me").json()["email"] == "ana@example.com"
        wanted = {"products": [{"product_id": product, "quantity": 3}]}
        bought, again = (client.post("/purchase_product", wanted, headers={"Idempotency-Key": "k"}) for _ in range(2))
        assert (bought.status, again.status, again["Idempotent-Replayed"]) == (201, 201, "true")
        assert again.body == bought.body
        assert make.stock(product) == 7
        path = f"/products?id={product}"
        reads = [client.get(path) for _ in range(20)]
        assert [read.json()["stock"] for read in reads] == [7] * 20
        assert "HIT" in {read["X-Cache"] for read in reads}
        assert client.get(path, headers={"If-None-Match": reads[-1]["ETag"]}).status == 304
        assert client.get("/readyz").json()["status"] == "ready"
        assert server.end() == 0
    assert "Traceback" not in server.said
    assert "INFO petstore.access: POST /purchase_product 201" in server.said


@slow
@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_the_books_are_right_after_many_bought_at_once_in_two_workers(own, service, tmp_path, options):
    make = own.make
    products = [make.product(stock=60) for _ in range(3)]
    people = [make.user() for _ in range(8)]
    with gunicorn(tmp_path, environment(own.settings), *options) as server:

        def both_have_served():
            with server.client() as client:
                client.get("/products")
            return len(own.sessions()) > own.settings.pool_size

        def buy(person):
            found = []
            for number in range(15):
                lines = [{"product_id": one, "quantity": 1} for one in products[number % 2 :]]
                with server.client(service[0].tokens.issue(person)) as client:  # a connection goes to either worker
                    found.append(client.post("/purchase_product", {"products": lines}).status)
                    assert client.get(f"/products?id={products[1]}").json()["stock"] >= 0
            return found

        eventually(both_have_served)
        with ThreadPoolExecutor(len(people)) as threads:
            answered = Counter(status for found in threads.map(buy, people) for status in found)
        assert server.end() == 0
    assert answered == {201: make.scalar("SELECT count(*) FROM invoices"), 409: 120 - answered[201]}
    sold = dict(make.rows("SELECT product_id, sum(quantity)::int FROM invoice_details GROUP BY product_id"))
    assert {one: make.stock(one) for one in products} == {one: 60 - sold[one] for one in products}
    assert sold[products[1]] == 60  # 120 were asked for
    assert run_report(make.conn, "ledger_proof") == []
    assert "Traceback" not in server.said


@slow
def test_sigterm_lets_a_purchase_under_way_finish(own, service, tmp_path):
    person, product = own.make.user(), own.make.product()
    wanted = {"products": [{"product_id": product, "quantity": 1}]}
    with gunicorn(tmp_path, environment(own.settings)) as server, ThreadPoolExecutor(1) as thread:
        own.make.conn.execute("BEGIN")
        own.make.conn.execute("SELECT FROM products WHERE id = %s FOR UPDATE", (product,))
        with server.client(service[0].tokens.issue(person)) as client:
            bought = thread.submit(client.post, "/purchase_product", wanted)
            eventually(lambda: len(own.sessions("wait_event_type = 'Lock'")) == 1)
            server.process.terminate()
            time.sleep(0.5)
            own.make.conn.execute("ROLLBACK")
            assert bought.result().status == 201
        assert server.process.wait(20) == 0
    assert "Traceback" not in server.said


@slow
@pytest.mark.parametrize("start", [plain, lambda *given: gunicorn(*given, "--keep-alive", "75")], ids=["plain", "gunicorn"])
def test_an_export_that_is_a_file_under_another_server(make, ana, buyer, service, settings, tmp_path, start):
    make.conn.execute(
        "INSERT INTO audit_log (actor_id, action, subject_id, fields)"
        " SELECT %s, 'product.update', 1, '{stock}' FROM generate_series(1, 12000)",
        (ana.id,),
    )
    with start(tmp_path, environment(settings)) as server, server.client(service[0].tokens.issue(ana)) as client:
        exports = [client.get("/me/export") for _ in range(5)]  # each gives its turn back
        assert {export.body for export in exports} == {buyer.get("/me/export").body}
        assert len(exports[0].body) > 1_500_000
        assert client.request("HEAD", "/me/export")["ETag"] == exports[0]["ETag"]
        assert client.get("/me/export", headers={"If-None-Match": exports[0]["ETag"]}).status == 304
    assert "Traceback" not in server.said
