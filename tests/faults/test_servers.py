"""A PostgreSQL that is restarted, killed, read-only, full or used up, under load: right answers, and service again by itself."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from petstore import db
from tests.databases import DURABLE, open_folder, own_postgres
from tests.faults.conftest import opened, socket_of, timed, usual
from tests.waiting import eventually


class Load:
    """Customers who buy with a key each time, and send it again until they know; and one without, who counts what he knows."""

    def __init__(self, shop):
        self.shop, self.running = shop, True
        self.done, self.seen = {}, set()
        self.sure = self.maybe = 0

    def buy(self, name):
        client, number = self.shop.client(), 0
        while self.running:
            number += 1
            key = f"{name}-{number}"
            answer = self.shop.buy(key, client=client)[0]
            self.seen.add(answer.status)
            while answer.status != 201 and self.running:
                time.sleep(0.05)
                answer = self.shop.buy(key, client=client)[0]
                self.seen.add(answer.status)
            if answer.status == 201:
                self.done[key] = answer.body
            time.sleep(0.01)

    def buy_without_key(self):
        client = self.shop.client()
        while self.running:
            answer = self.shop.buy(client=client)[0]
            self.seen.add(answer.status)
            self.sure += answer.status == 201
            self.maybe += b"outcome-unknown" in answer.body
            time.sleep(0.01)

    def read(self, path):
        client = self.shop.client()
        while self.running:
            answer, seconds = timed(lambda: client.get(path))
            assert answer.status in (200, 503)
            assert seconds < 3.7
            time.sleep(0.01)

    @contextmanager
    def __call__(self):
        with ThreadPoolExecutor(6) as pool:
            working = [pool.submit(self.buy_without_key)]
            working += [pool.submit(self.buy, name) for name in ("ana", "bob", "eve")]
            working += [pool.submit(self.read, path) for path in ("/products", "/products?id=1")]
            try:
                time.sleep(0.3)
                yield
            finally:
                self.running = False
            for one in working:
                one.result()


def restarted(shop):
    shop.postgres.stop()
    shop.postgres.start()
    shop.proxy.upstream = socket_of(shop.postgres)


def killed(shop):
    """kill -9 of the server and of each backend, then a start."""
    parent = shop.postgres.pid
    os.kill(parent, signal.SIGSTOP)  # it starts no more
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout.split()
    for pid in (*map(int, children), parent):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(is_alive(pid) for pid in (*children, parent)))
    shop.postgres.start()
    shop.proxy.upstream = socket_of(shop.postgres)


def crashed(shop):
    """kill -9 of one backend: the server ends all the others, recovers, and goes on (57P02)."""
    os.kill(next(iter(shop.backends())), signal.SIGKILL)
    time.sleep(0.2)
    eventually(lambda: connects(shop.postgres))


def is_alive(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def connects(server):
    with suppress(db.Error), db.connect(server.url("postgres")):
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("how", [restarted, killed, crashed])
def test_a_server_that_is_restarted_or_killed_under_load_loses_nothing_and_is_used_again_within_two_seconds(shop, how):
    shop.make.conn.execute("UPDATE products SET stock = 1000000")
    load = Load(shop)
    with load():
        for _ in range(2):
            how(shop)
            shop.arrange_again()
            eventually(lambda: shop.client().get("/products?id=2").status == 200, 2)
            before = len(load.done)
            eventually(lambda before=before: len(load.done) > before + 3, 2)
    assert load.seen <= {201, 409, 503}
    assert 201 in load.seen
    saved = {key: bytes(body) for key, body in shop.make.rows("SELECT key, body FROM idempotency_keys")}
    assert load.done.items() <= saved.items()
    assert len(saved) <= len(load.done) + 3  # of each customer the last one may be unknown to them
    assert load.sure <= shop.bought() - len(saved) <= load.sure + load.maybe


def test_a_read_only_database_is_read_as_usual_and_written_again_as_soon_as_it_can_be(shop):
    reads = "/products", "/products?id=1", "/invoices", "/me"
    try:
        shop.make.conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        shop.make.conn.execute("SELECT pg_reload_conf()")
        eventually(lambda: shop.buy()[0].status == 503)
        for key in (None, "k"):
            answer, seconds = shop.buy(key)
            assert (answer.status, answer["Retry-After"]) == (503, "1")
            assert answer.json()["type"] == "/problems/unavailable"
            assert seconds < 1
        account = {"email": "new@example.com", "password": "correct horse"}
        assert shop.client().post("/register", account).status == 503
        assert shop.client(shop.boss).patch("/modify_product?id=1", {"stock": 3}).status == 503
        assert [shop.client().get(path).status for path in reads] == [200] * len(reads)
        assert shop.client().get("/products?id=1")["X-Cache"] == "HIT"  # nothing was written
        assert shop.client().get("/readyz").json()["database"] == "read-only"
        done = shop.make.scalar("SELECT count(*) FROM invoices")
    finally:
        shop.make.conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
        shop.make.conn.execute("SELECT pg_reload_conf()")
    eventually(lambda: shop.make.scalar("SHOW default_transaction_read_only") == "off")
    eventually(lambda: shop.buy("k")[0].status == 201, 1)
    assert shop.bought() == done + 1


def test_writes_that_use_up_their_part_of_the_pool_are_a_503_within_a_second_and_reads_go_on(open_shop, meanwhile):
    with open_shop(pool_size=3) as shop:
        shop.services.cache.clear()
        with shop.waiting_in("invoices", "INSERT") as waiting:
            buying = [meanwhile(lambda number=number: shop.buy(product_id=number)) for number in (1, 2)]
            eventually(lambda: len(waiting()) == 2)
            refused = meanwhile(lambda: shop.buy("k"))
            for path in ("/products", "/me"):
                answer, seconds = timed(lambda path=path: shop.client().get(path))
                assert (answer.status, seconds < 0.5) == (200, True)
            answer, seconds = refused()
            assert (answer.status, answer["Retry-After"]) == (503, "1")
            assert 0.9 < seconds < 1.7
        assert [answer()[0].status for answer in buying] == [201, 201]
        assert timed(lambda: shop.client().get("/products"))[1] < 0.5
        usual(shop)
        shop.bought()


@contextmanager
def small_disk(folder, size):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk can only be mounted by root")
def test_a_full_database_is_read_as_usual_and_written_again_when_there_is_room(settings, tmp_path):
    """Its WAL lies there too, in segments that are there already: with no room for a new one, PostgreSQL itself would end."""
    options = (*DURABLE, "min_wal_size=64MB", "max_wal_size=64MB")
    with open_folder() as folder, small_disk(folder, "200m"), own_postgres(folder, *options) as server:
        filler = folder / "filler"
        with opened(server, settings, tmp_path) as shop:
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            os.truncate(filler, filler.stat().st_size - 100_000)  # enough for a few
            boss, statuses = shop.client(shop.boss), []
            for number in range(400):
                goods = {"name": "x" * 200, "price": 1, "stock": 10}
                answer = boss.post("/create_product", goods, headers={"Idempotency-Key": f"k{number}"})
                statuses.append(answer.status)
                if answer.status == 503:
                    assert answer["Retry-After"] == "1"
                    assert answer.json()["type"] == "/problems/unavailable"
                    assert b"disk" not in answer.body
                if statuses.count(503) == 10:
                    break
            assert statuses.count(503) == 10
            assert set(statuses) == {201, 503}
            made = statuses.count(201)
            assert shop.make.scalar("SELECT count(*) FROM products") == 2 + made
            assert shop.make.scalar("SELECT count(*) FROM idempotency_keys") == made
            for path in ("/products", "/products?id=2", "/invoices", "/me", "/readyz"):
                assert shop.client().get(path).status == 200
            assert {shop.buy()[0].status for _ in range(5)} <= {201, 503}
            filler.unlink()
            usual(shop)
            again = boss.post("/create_product", goods, headers={"Idempotency-Key": f"k{number}"})
            assert again.status == 201
            shop.bought()
