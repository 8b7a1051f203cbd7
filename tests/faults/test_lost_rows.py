"""The database loses its newest rows: a standby that lagged is promoted, a dump or older files are restored. Ids are given again.

Nothing that was cached of the lost rows is answered, and no token of a lost login opens the account that has its ids now.
"""

import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from petstore import db
from petstore.auth.signing_keys import Keyring
from petstore.auth.tokens import Caller, Tokens
from petstore.db.identity import WATCH_SECONDS
from petstore.db.queries import sql_folder
from tests.client import Client
from tests.databases import DURABLE, newest_program, open_folder, own_postgres
from tests.factories import PASSWORD, Factory
from tests.nodes import Node, started
from tests.processes import connections, workers
from tests.proxy import Proxy
from tests.services import running
from tests.standby import pair
from tests.waiting import eventually

pytestmark = pytest.mark.slow

SCOPES = pytest.mark.parametrize("scope", ["machines", "machine"])
LOST = 45  # logins: PostgreSQL logs the numbers of a sequence 32 ahead, so a promoted standby gives only those after it again


@pytest.fixture
def servers():
    with open_folder() as folder, pair(folder) as both:
        yield both


@pytest.fixture
def make(servers):
    with db.connect(servers.primary.url("postgres"), options="-c search_path=m2_be_project") as conn:
        yield Factory(conn)


def client_of_each_worker(node, stack):
    """A connection to each of the two workers."""
    found, pids, port = {}, workers(node.process.pid), node.address[1]
    assert len(pids) == 2
    while len(found) < 2:
        before = {pid: connections(pid, port) for pid in pids}
        client = stack.enter_context(Client(node.address))
        assert client.get("/livez").status == 200
        grown = [pid for pid in pids if connections(pid, port) > before[pid]]
        if len(grown) == 1:
            found.setdefault(grown[0], client)
    return list(found.values())


def sign_up(address, emails):
    """Register and log in, one after the other; the access tokens by email."""
    tokens = {}
    with Client(address) as client:
        for email in emails:
            assert client.post("/register", {"email": email, "password": PASSWORD}).status == 201
            tokens[email] = client.post("/login", {"email": email, "password": PASSWORD}).json()["access_token"]
    return tokens


def ids(token):
    claims = jwt.decode(token, options={"verify_signature": False})
    return claims["sub"], claims["sid"]


def price(client, product_id):
    return client.get(f"/products?id={product_id}").json().get("price")


def is_cached(clients, product_id):
    """Each worker answers from its memory."""
    for client in clients:
        eventually(lambda client=client: [client.get(f"/products?id={product_id}")["X-Cache"] for _ in range(2)] == ["HIT"] * 2)


@SCOPES
def test_a_lagging_standby_that_is_promoted_gives_ids_again_and_nobody_gets_what_was_another_ones(
    servers, make, keys, own_redis, tmp_path, scope
):
    product_id, boss = make.product(price="10.00"), make.user("boss@example.com", role="admin")
    with Proxy(("127.0.0.1", 0), ("127.0.0.1", servers.primary.port)) as proxy, ExitStack() as stack:
        url = f"postgresql://petstore_app@127.0.0.1:{proxy.address[1]}/pet_ecommerce"
        environ = {"PETSTORE_DATABASE_URL": url, "PETSTORE_REDIS_URL": own_redis.url, "PETSTORE_KEYS": str(keys)}
        node = Node(tmp_path / "node", environ | {"PETSTORE_CACHE_SCOPE": scope})
        with started(node):
            servers.catch_up()
            servers.standby.hold_receiving()
            admin, *both = stack.enter_context(Client(node.address)), *client_of_each_worker(node, stack)
            admin.token = Tokens(Keyring(keys), issuer="petstore", audience="petstore", seconds=900).issue(boss)
            assert admin.patch(f"/modify_product?id={product_id}", {"price": "99.00"}).status == 200
            lost_product = admin.post("/create_product", {"name": "Lost", "price": "1.00", "stock": 9}).json()["id"]
            lost = sign_up(node.address, [f"lost{number}@example.com" for number in range(LOST)])
            assert [price(client, product_id) for client in both] == ["99.00"] * 2
            for cached in (product_id, lost_product):
                is_cached(both, cached)

            servers.primary.kill()
            servers.fail_over()
            proxy.upstream = ("127.0.0.1", servers.primary.port)
            # They ask for what they have in memory, and nobody writes: each has to find out for itself.
            eventually(lambda: [price(client, product_id) for client in both] == ["10.00"] * 2, WATCH_SECONDS + 4)
            assert [client.get(f"/products?id={lost_product}").status for client in both] == [404, 404]
            is_cached(both, product_id)

            new = sign_up(node.address, [f"new{number}@example.com" for number in range(LOST)])
            again = {ids(token) for token in lost.values()} & {ids(token) for token in new.values()}
            assert len(again) > 5, "this run proves nothing"
            for client in both:
                for tokens, status in ((lost, 401), (new, 200)):
                    for email, token in tokens.items():
                        client.token = token
                        answer = client.get("/me")
                        assert (answer.status, answer.json().get("email")) == (status, email if status == 200 else None)
                client.token = None
            assert admin.post("/login", {"email": "lost1@example.com", "password": PASSWORD}).status == 401


@contextmanager
def two_services(settings, stack, **changes):
    """Two processes' worth of services, which ask the database only for what a request needs; a client of each."""
    made = [stack.enter_context(running(replace(settings, **changes))) for _ in range(2)]
    for services, _ in made:
        services.watch.stop()
        services.db.check()
    yield [(services, stack.enter_context(Client(server.address))) for services, server in made]


ASKING = {
    "a write, which is all that the request does": lambda client, other: client.post("/logout", {"refresh_token": "x" * 43}),
    "a read that is not cached": lambda client, other: client.get("/admin/users"),
    "a miss": lambda client, other: client.get(f"/products?id={other}"),
    "the check of a login": lambda client, other: client.get("/me"),
}


@SCOPES
@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_one_request_on_the_new_timeline_is_enough_for_all_others_to_know(
    servers, make, settings, own_redis, tmp_path, scope, ask
):
    """Also when no connection breaks: the service is connected to the standby, and what it reads there is cached."""
    product_id, other, boss = make.product(price="10.00"), make.product(), make.user(role="admin")
    servers.catch_up()
    changes = {"redis_url": own_redis.url, "home": tmp_path, "cache_scope": scope}
    with ExitStack() as stack:
        url = servers.standby.url("petstore_app")
        first, second = stack.enter_context(two_services(settings, stack, database_url=url, **changes))
        is_cached([first[1], second[1]], product_id)
        servers.standby.promote()
        with db.connect(servers.standby.url("postgres"), options="-c search_path=m2_be_project") as conn:
            conn.execute("UPDATE products SET price = 20 WHERE id = %s", (product_id,))  # by somebody who tells no cache
        assert [price(client, product_id) for _, client in (first, second)] == ["10.00"] * 2  # nobody has asked the database
        first[1].token = first[0].tokens.issue(boss)
        assert ask(first[1], other).status in (200, 204)
        assert [price(client, product_id) for _, client in (second, first)] == ["20.00"] * 2
        is_cached([first[1], second[1]], product_id)
        assert first[0].db.known.text == second[0].db.known.text


# ── a restored dump, or older files ──────────────────────────────────────────────────────────────────────────────────────


def _run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Restored:
    """A server with a shop, of which there is a backup, and a second server. Each way of restoring gives where the shop is now."""

    def __init__(self, server, second, folder):
        self.server, self._second, self._dump, self._files = server, second, folder / "dump", folder / "files"

    def back_up(self):
        _run(newest_program("pg_dump"), "-Fc", "-f", self._dump, "-d", self.server.url("postgres"))
        self.server.stop()
        shutil.copytree(self.server._data, self._files)
        self.server.start()

    def over_the_shop(self):
        _run(newest_program("pg_restore"), "--clean", "--if-exists", "-d", self.server.url("postgres"), self._dump)
        return self.server

    def into_a_new_database(self):
        return self._restore(self.server)

    def on_another_server(self):
        return self._restore(self._second)

    def older_files(self):
        self.server.stop()
        for path in self._files.rglob("*"):
            kept = self.server._data / path.relative_to(self._files)
            if path.is_file():
                kept.write_bytes(path.read_bytes())
        self.server.start()
        return self.server

    def _restore(self, server):
        with db.connect(server.url("postgres", "postgres")) as conn:
            conn.execute("DROP DATABASE pet_ecommerce WITH (FORCE)")
            conn.execute("CREATE DATABASE pet_ecommerce")
        for step in ("before", "after"):
            with db.connect(server.url("postgres")) as conn:
                conn.execute((sql_folder() / "roles.sql").read_bytes())
            if step == "before":
                _run(newest_program("pg_restore"), "-d", server.url("postgres"), self._dump)
        return server


def socket_of(server):
    return f"{parse_qs(urlsplit(server.url('postgres')).query)['host'][0]}/.s.PGSQL.5432"


@SCOPES
@pytest.mark.parametrize("how", ["over_the_shop", "into_a_new_database", "on_another_server", "older_files"])
@pytest.mark.parametrize("process", ["running", "started after it"])
def test_a_backup_is_restored_beside_the_old_redis_and_the_old_tokens(settings, own_redis, tmp_path, how, process, scope):
    with ExitStack() as stack:
        folders = [stack.enter_context(open_folder()) for _ in range(2)]
        server, second = (stack.enter_context(own_postgres(folder, *DURABLE)) for folder in folders)
        shop, make = Restored(server, second, tmp_path), Factory(None)

        def arrange():
            make.conn = stack.enter_context(db.connect(server.url("postgres"), options="-c search_path=m2_be_project"))

        arrange()
        product_id, boss = make.product(price="10.00"), make.user("boss@example.com", role="admin")
        make.conn.close()
        shop.back_up()
        arrange()
        proxy = stack.enter_context(Proxy(tmp_path / ".s.PGSQL.5432", socket_of(server)))
        changes = {"redis_url": own_redis.url, "home": tmp_path, "cache_scope": scope}
        url = f"postgresql://petstore_app@/pet_ecommerce?host={tmp_path}"
        running_before = stack.enter_context(ExitStack())
        both = running_before.enter_context(two_services(settings, running_before, database_url=url, **changes))
        clients, issue = [client for _, client in both], both[0][0].tokens.issue
        clients[0].token = issue(boss)
        assert clients[0].patch(f"/modify_product?id={product_id}", {"price": "99.00"}).status == 200
        clients[0].token = None
        lost = make.user("lost@example.com")
        make.invoice(lost.id, {product_id: 1})
        make.conn.close()
        for client in clients:
            client.token = issue(lost)
            assert client.get("/me").json()["email"] == "lost@example.com"
            assert len(client.get("/invoices").json()["items"]) == 1
            client.token = None
        is_cached(clients, product_id)

        if process == "started after it":
            running_before.close()
        server = getattr(shop, how)()
        proxy.upstream = socket_of(server)
        proxy.cut()
        arrange()
        if process == "started after it":
            both = stack.enter_context(two_services(settings, stack, database_url=url, **changes))
            clients, issue = [client for _, client in both], both[0][0].tokens.issue
        new = make.user("new@example.com")
        if how != "older_files":  # which may have logged numbers of the sequence that were not given out yet
            assert (new.id, new.session_id) == (lost.id, lost.session_id)
        if process == "running":
            clients[0].token = issue(boss)
            assert clients[0].get("/me").status == 200  # one of them asks the database
        for client in clients:
            client.token = None
            assert price(client, product_id) == "10.00"
            client.token = issue(lost)
            assert client.get("/me").status == 401
            client.token = issue(Caller(new.id, "user", new.session_id, 1, new.session_uuid))
            assert client.get("/me").json()["email"] == "new@example.com"
            assert client.get("/invoices").json()["items"] == []
            client.token = None
        is_cached(clients, product_id)
