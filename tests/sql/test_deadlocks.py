"""Everything that one account can do, and that is done to it, at the same time: PostgreSQL counts no deadlock."""

import threading
from collections import Counter
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import combinations_with_replacement
from types import SimpleNamespace

import psycopg
import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from petstore import db
from petstore.cli.housekeep import PURGES, _batch
from petstore.repository import users
from tests.client import Client
from tests.factories import PASSWORD, Factory
from tests.routes.logins import NEW_PASSWORD
from tests.tables import CLEAN
from tests.waiting import at_once, eventually

pytestmark = pytest.mark.slow

# As good as any for a test that checks hundreds of passwords.
CHEAP = Argon2id(salt=b"x" * 16, length=32, iterations=1, lanes=1, memory_cost=8).derive_phc_encoded(PASSWORD.encode())
ERASURE = {"current_password": PASSWORD}
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
# Whoever has locked a row keeps it a little longer than it would, so that the others come meanwhile.
PAUSES = """
    CREATE FUNCTION public.pause() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(0.003);
        RETURN coalesce(new, old);
    END
    $$;
    DO $$
    DECLARE
        one text;
    BEGIN
        FOREACH one IN ARRAY '{users,sessions,refresh_tokens,idempotency_keys,invoices,invoice_details,invoice_events,products,audit_addresses}'::text[]
        LOOP
            EXECUTE format('CREATE TRIGGER a_pause BEFORE UPDATE OR DELETE ON m2_be_project.%I FOR EACH ROW EXECUTE FUNCTION public.pause()', one);
        END LOOP;
        EXECUTE regexp_replace(pg_get_functiondef('m2_be_project.begin_request'::regproc), 'END\\s+(\\$function\\$\\s*)$', 'PERFORM pg_sleep(0.003); END \\1');
    END
    $$
"""


class Account(SimpleNamespace):
    """An admin who buys, with two logins, an invoice of each kind, old keys and old addresses: something for everybody to lock."""

    @classmethod
    def made(cls, make, services, address, owner_url):
        make.conn.execute(CLEAN)
        boss, me = (make.user(f"{name}@example.com", role="admin", password=CHEAP) for name in ("boss", "me"))
        products = [make.product(stock=1000) for _ in range(2)]
        lines = dict.fromkeys(products, 2)
        pending, unpaid, paid = (make.invoice(me.id, lines) for _ in range(3))
        make.conn.execute("UPDATE invoices SET status = 'paid' WHERE id = %s", (paid,))
        for token, used in (
            (b"used", "now() - interval '1 minute'"),
            (b"fresh", "NULL"),
            (b"older", "now() - interval '40 days'"),
        ):
            make.conn.execute(
                f"INSERT INTO refresh_tokens (token_hash, session_id, used_at) VALUES (%s, %s, {used})",
                (sha256(token).digest(), me.session_id),
            )
        arranged = """
            INSERT INTO sessions (user_id, token_version, created_at, expires_at)
            SELECT {id}, 1, now() - interval '60 days', now() - interval '40 days' FROM generate_series(1, 3);
            INSERT INTO idempotency_keys (user_id, route, key, fingerprint, created_at)
            SELECT {id}, 'POST /purchase_product', 'k' || n, sha256(''), now() - interval '2 days' FROM generate_series(1, 3) AS s (n);
            WITH entries AS (
                INSERT INTO audit_log (actor_id, action, subject_id, fields)
                SELECT {id}, 'user.update', {id}, '{{role}}' FROM generate_series(1, 5) RETURNING id
            )
            INSERT INTO audit_addresses (audit_id, created_at, address)
            SELECT id, now() - interval '100 days' - id * interval '1 second', '192.0.2.7' FROM entries
        """
        make.conn.execute(arranged.format(id=me.id))
        return cls(**locals())

    def send(self, method, path, body=None, who=None, **headers):
        token = self.services.tokens.issue(who) if who else None
        with Client(self.address, token) as client:
            return client.request(method, path, *([] if body is None else [body]), headers=headers).status

    def mine(self, method, path, body=None, **headers):
        return self.send(method, path, body, self.me, **headers)

    def bosses(self, method, path, body=None):
        return self.send(method, path, body, self.boss)

    def housekeep(self):
        with db.connect(self.owner_url, application_name="petstore housekeep", options="-c search_path=m2_be_project") as conn:
            return [_batch(conn, purge) for purge in PURGES.values()] and 200

    def save_admin(self):
        with db.connect(self.owner_url, options="-c search_path=m2_be_project") as conn, conn.transaction():
            return users.save_admin(conn, email="me@example.com", password=CHEAP) and 200


ACTS = {
    "purchase": lambda a: a.mine(
        "POST", "/purchase_product", {"products": [{"product_id": p, "quantity": 1} for p in a.products]}
    ),
    "purchase with an old key": lambda a: a.mine(
        "POST",
        "/purchase_product",
        {"products": [{"product_id": p, "quantity": 1} for p in reversed(a.products)]},
        **{"Idempotency-Key": "k2"},
    ),
    "cancellation": lambda a: a.mine("POST", f"/invoices/{a.pending}/cancel", {"reason": "too big"}),
    "payment": lambda a: a.bosses("PATCH", f"/admin/invoices/{a.unpaid}", {"status": "paid"}),
    "credit note": lambda a: a.mine(
        "POST",
        f"/admin/invoices/{a.paid}/credit_notes",
        {"lines": [{"product_id": a.products[1], "quantity": 1, "restock": True}]},
    ),
    "login": lambda a: a.send("POST", "/login", {"email": "me@example.com", "password": PASSWORD}),
    "refresh": lambda a: a.send("POST", "/refresh", {"refresh_token": "fresh"}),
    "reuse": lambda a: a.send("POST", "/refresh", {"refresh_token": "used"}),
    "logout": lambda a: a.send("POST", "/logout", {"refresh_token": "fresh"}),
    "new password": lambda a: a.mine("POST", "/me/password", {**ERASURE, "new_password": NEW_PASSWORD}),
    "erasure": lambda a: a.mine("POST", "/me/delete", ERASURE),
    "change of oneself": lambda a: a.mine("PATCH", f"/admin/users/{a.me.id}", {"active": True}),
    "change of another": lambda a: a.mine("PATCH", f"/admin/users/{a.boss.id}", {"role": "admin"}),
    "change by another": lambda a: a.bosses("PATCH", f"/admin/users/{a.me.id}", {"active": False}),
    "set at the command line": lambda a: a.save_admin(),
    "housekeeping": lambda a: a.housekeep(),
}


@pytest.fixture(scope="module")
def crowded(cluster, template):
    """A database in which locks are kept longer, and the URL of its superuser."""
    with cluster.database("crowded", template) as name:
        url = cluster.url("postgres", name)
        with db.connect(url) as conn:
            conn.execute(PAUSES)
        yield url, cluster.url("petstore_app", name)


def counted(url):
    """The deadlocks of a database whose other sessions have ended: each tells what it has counted when it ends."""
    with db.connect(url) as conn:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        eventually(lambda: conn.execute(others).fetchone() == (0,))
        return conn.execute(DEADLOCKS).fetchone()[0]


def test_no_two_acts_on_one_account_wait_for_each_other_in_a_circle(crowded, with_settings, caplog):
    superuser, app = crowded
    caplog.set_level("INFO", "petstore.db")
    before, circles, statuses = counted(superuser), Counter(), Counter()
    with (
        with_settings(database_url=app, owner_url=superuser, redis_url=None, rate_limit=0) as (services, server),
        db.connect(superuser, options="-c search_path=m2_be_project") as conn,
    ):
        for first, second in combinations_with_replacement(ACTS, 2):
            services.failed_attempts.clear()
            account = Account.made(Factory(conn), services, server.address, superuser)
            caplog.clear()
            acts = [partial(ACTS[name], account) for name in (first, second, first, second)]
            for name, status in zip((first, second, first, second), at_once(*acts), strict=True):
                statuses[name, status] += 1
            if "deadlock detected" in caplog.text:
                circles[first, second] += 1
    assert circles == {}
    assert counted(superuser) == before
    assert {status for _, status in statuses if status >= 500} <= {503}  # a busy machine hashes too few passwords in time
    assert {name for name, status in statuses if status < 300} | {"reuse"} == ACTS.keys()  # each came to do what it is for


def test_a_deadlock_would_be_counted(crowded):
    superuser, _ = crowded
    before = counted(superuser)
    with db.connect(superuser, options="-c search_path=m2_be_project") as conn:
        conn.execute(CLEAN)
        ids = [Factory(conn).product(name) for name in ("x", "y")]
    both = threading.Barrier(2)

    def lock(order):
        with (
            suppress(psycopg.errors.DeadlockDetected),
            db.connect(superuser, options="-c search_path=m2_be_project") as conn,
            conn.transaction(),
        ):
            for product_id in order:
                conn.execute("SELECT FROM products WHERE id = %s FOR UPDATE", (product_id,))
                if product_id == order[0]:
                    both.wait(10)

    at_once(lambda: lock(ids), lambda: lock(ids[::-1]))
    assert counted(superuser) == before + 1
