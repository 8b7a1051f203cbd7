"""Ways to cause what can go wrong: each takes a scene and how often it is to happen, and gives the answer of the service."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg

from tests.client import Client
from tests.faults.links import proxied, with_options
from tests.waiting import eventually

ALWAYS = 99
SECRET = "hunter2"  # in all that the server says of what was raised


class Scene:
    """A shop with two products and a buyer, and what it takes to break it."""

    def __init__(self, make, clients, ana, with_settings, start_redis, folder):
        self.make, self.clients, self.ana = make, clients, ana
        self.with_settings, self.start_redis, self.folder = with_settings, start_redis, folder
        self.first, self.second = make.product(stock=10), make.product(stock=10)
        self.attempts = None  # how often the transaction was begun, where a cause can tell

    @property
    def wish(self):
        return {"products": [{"product_id": product_id, "quantity": 1} for product_id in (self.first, self.second)]}

    def buy(self, client=None):
        return (client or self.clients(self.ana)).post("/purchase_product", self.wish)

    @contextmanager
    def service(self, **changes):
        """A client of Ana's on a service of its own, which knows its database."""
        with self.with_settings(**changes) as (services, server), Client(server.address, self.token(services)) as client:
            services.db.check()
            yield client

    def token(self, services):
        return services.tokens.issue(self.ana)

    @contextmanager
    def locked(self, product_id):
        """Somebody else holds the product."""
        with self.make.conn.transaction():
            self.make.conn.execute("SELECT FROM products WHERE id = %s FOR UPDATE", (product_id,))
            yield

    def blocked(self):
        """The backends that wait for a lock."""
        return {pid for (pid,) in self.make.rows("SELECT pid FROM pg_locks WHERE NOT granted")}

    def bought(self):
        return self.make.scalar("SELECT count(*) FROM invoices"), self.make.stock(self.first)


def raised(sqlstate, table="invoices", when="BEFORE INSERT", at="STATEMENT", constraint=""):
    """The server raises it while a purchase is written; where no simple cause of it is at hand."""
    kind = "CONSTRAINT TRIGGER" if "DEFERRED" in when else "TRIGGER"

    def cause(scene, times):
        scene.make.conn.execute(
            "CREATE SEQUENCE raised;"
            "CREATE FUNCTION raised() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN"
            f" IF nextval('m2_be_project.raised') <= {times} THEN RAISE '{SECRET}' USING ERRCODE = '{sqlstate}',"
            f" DETAIL = '{SECRET}', HINT = '{SECRET}', TABLE = 'm2_be_project', CONSTRAINT = '{constraint}';"
            " END IF; RETURN NULL; END $$;"
            f"CREATE {kind} raised {when.replace('INSERT', f'INSERT ON {table}')} FOR EACH {at} EXECUTE FUNCTION raised()"
        )
        try:
            return scene.buy()
        finally:
            scene.attempts = scene.make.scalar("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM raised")
            scene.make.conn.execute(f"DROP TRIGGER raised ON {table}; DROP FUNCTION raised; DROP SEQUENCE raised")

    return cause


def email_taken(scene, times):
    """Somebody else registers it after the look whether it is known, which spares hashing, and before the insert."""
    account = {"email": "New@example.com", "password": "correct horse"}
    with ThreadPoolExecutor(1) as pool:
        with scene.make.conn.transaction():
            scene.make.user("nEW@example.com")
            answer = pool.submit(scene.clients().post, "/register", account)
            eventually(scene.blocked)
        return answer.result()


def account_disabled(scene, times):
    """After its token was checked, and before anything is done for it."""
    with ThreadPoolExecutor(1) as pool:
        with scene.make.conn.transaction():
            scene.make.conn.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (scene.ana.id,))
            answer = pool.submit(scene.buy)
            eventually(scene.blocked)
            scene.make.conn.execute("UPDATE users SET active = false WHERE id = %s", (scene.ana.id,))
        return answer.result()


def read_only(scene, times):
    with scene.service(database_url=with_options(scene.url, default_transaction_read_only="on")) as client:
        assert client.get("/products").status == 200
        return scene.buy(client)


def lock_timeout(scene, times):
    with scene.service(database_url=with_options(scene.url, lock_timeout="100")) as client, scene.locked(scene.first):
        return scene.buy(client)


def statement_timeout(scene, times):
    with scene.service(database_url=with_options(scene.url, statement_timeout="300")) as client, scene.locked(scene.first):
        return scene.buy(client)


def connection_cut(scene, times):
    """Each time it waits for a lock, its connection is cut."""
    seen = set()
    with (
        proxied(scene.url, scene.folder) as (proxy, url),
        scene.service(database_url=url, pool_size=1) as client,  # so that one cut is one attempt
        ThreadPoolExecutor(1) as pool,
        scene.locked(scene.first),
    ):
        answer = pool.submit(scene.buy, client)
        while not answer.done() and len(seen) < times:
            if scene.blocked() - seen:
                seen |= scene.blocked()
                proxy.cut()
            time.sleep(0.01)
        scene.attempts = len(seen)
        if times < ALWAYS:
            eventually(lambda: scene.blocked() - seen)  # it has begun anew
            scene.make.conn.execute("ROLLBACK; BEGIN")
        return answer.result()


def pool_used_up(scene, times):
    with scene.with_settings(pool_size=1) as (services, server), Client(server.address, scene.token(services)) as client:
        return services.db.read(lambda _: scene.buy(client))


def gone(scene, times):
    """The server refuses connections, and has ended those that there were."""
    with proxied(scene.url, scene.folder) as (proxy, url), scene.service(database_url=url) as client:
        proxy.refusing = True
        proxy.cut()
        return scene.buy(client)


def known_to_be_read_only(scene, times):
    """The second purchase is refused without being tried."""
    with scene.service(database_url=with_options(scene.url, default_transaction_read_only="on")) as client:
        answers = []

        def refused():
            answers.append(scene.buy(client))
            return "reads go on" in answers[-1].json()["detail"]

        eventually(refused)
        return answers[-1]


def another_currency(scene, times):
    scene.make.conn.execute("UPDATE shop SET currency = 'EUR'")
    try:
        with scene.with_settings() as (services, server), Client(server.address, scene.token(services)) as client:
            return scene.buy(client)
    finally:
        scene.make.conn.execute("UPDATE shop SET currency = 'USD'")


def answer_to_commit_lost(scene, times):
    with proxied(scene.url, scene.folder) as (proxy, url), scene.service(database_url=url) as client:
        proxy.lose_answers()
        return scene.buy(client)


def redis_frozen(scene, times):
    own_redis = scene.start_redis()
    with scene.service(redis_url=own_redis.url) as client:
        os.kill(own_redis.pid, signal.SIGSTOP)
        started = time.monotonic()
        answer = scene.buy(client)
        assert time.monotonic() - started < 1
        assert client.get("/products")["X-Cache"] == "BYPASS"
        return answer


def no_json(scene, times):
    return scene.clients(scene.ana).post("/purchase_product", raw=b'{"products": [hunter2')


def dead_lock(scene, times):
    """Somebody locks in the opposite order, and the service is the one whose dead-lock is found (40P01)."""
    with (
        psycopg.connect(scene.superuser_url, options="-c deadlock_timeout=10s") as other,
        ThreadPoolExecutor(2) as pool,
    ):
        # Tables: who waits for one is served before who asks anew, so one dead-lock is all.
        other.execute("LOCK TABLE m2_be_project.invoices IN EXCLUSIVE MODE")
        answer = pool.submit(scene.buy)
        eventually(scene.blocked)
        pool.submit(other.execute, "LOCK TABLE m2_be_project.products IN ACCESS EXCLUSIVE MODE").result(10)
        other.rollback()
        return answer.result()


def terminated(scene, times):
    """An administrator ends its backend while it waits for a lock (57P01)."""
    with psycopg.connect(scene.superuser_url, autocommit=True) as superuser, ThreadPoolExecutor(1) as pool:
        with scene.locked(scene.first):
            answer = pool.submit(scene.buy)
            eventually(scene.blocked)
            (first,) = scene.blocked()
            superuser.execute("SELECT pg_terminate_backend(%s)", (first,))
            eventually(lambda: scene.blocked() - {first})
        return answer.result()
