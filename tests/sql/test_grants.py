"""Each right of petstore_app is needed by something that the service runs, and what it runs needs no other."""

from hashlib import sha256

import psycopg
import pytest

from petstore.db import schema
from petstore.db.queries import load_queries, load_reports
from tests.sql.psql_lines import statement, values
from tests.tables import NUMBERED

PHC = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA"
HASH = "\\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # in the psql lines

# A shop in which every file finds something to do. Made without triggers and foreign keys: what is not whole is completed by the
# statement that would be the other half of its transaction.
SHOP = f"""
    SET LOCAL session_replication_role = replica;
    {"; ".join(f"ALTER TABLE {table} ALTER id RESTART WITH 7" for table in NUMBERED)};
    INSERT INTO users (id, email, password, role) OVERRIDING SYSTEM VALUE VALUES (1, 'Ana@example.com', '{PHC}', 'admin');
    INSERT INTO sessions (id, user_id, token_version, address, created_at, expires_at) OVERRIDING SYSTEM VALUE
    VALUES (1, 1, 1, '192.0.2.7', now() - interval '1 day', now() + interval '1 day'), (2, 1, 1, NULL, '2020-01-01', '2020-02-01');
    INSERT INTO refresh_tokens (token_hash, session_id, used_at)
    VALUES ('{HASH}', 1, NULL), (sha256('used'), 1, now() - interval '1 hour'), (sha256('now'), 1, now()),
        (sha256('old'), 2, '2020-01-02');
    INSERT INTO audit_log (id, actor_id, action, subject_id, fields) OVERRIDING SYSTEM VALUE
    VALUES (1, 1, 'user.update', 1, '{{role}}');
    INSERT INTO audit_addresses (audit_id, created_at, address) VALUES (1, '2020-01-01', '192.0.2.7');
    INSERT INTO products (id, name, price, stock) OVERRIDING SYSTEM VALUE SELECT id, 'x', 1, 5 FROM generate_series(1, 4) AS s (id);
    INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES (4, 'initial', 4, 4);
    INSERT INTO invoices (id, number, user_id, status, total, created_at) OVERRIDING SYSTEM VALUE
    VALUES (1, '2020-000001', 1, 'paid', 4, now()), (2, NULL, 1, 'pending', 4, '2020-01-01');
    INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 1, 'x', 1, 3), (1, 2, 'x', 1, 1);
    INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason)
    VALUES (1, 'pending', 'paid', 1, false, 'mine');
    INSERT INTO credit_notes (id, number, invoice_id, actor_id) OVERRIDING SYSTEM VALUE VALUES (1, 'C2020-000001', 1, 1);
    INSERT INTO credit_note_lines SELECT id, 1, 2, 1, false FROM generate_series(1, 999) AS s (id);
    INSERT INTO idempotency_keys (user_id, route, key, fingerprint, created_at)
    VALUES (1, 'POST /purchase_product', 'k1', sha256(''), now()), (1, 'x', 'old', sha256(''), '2020-01-01');
    SET LOCAL session_replication_role = origin;
    SET LOCAL search_path = m2_be_project
"""
# What the psql lines name is not all there, or is there already.
OTHER_VALUES = {
    "idempotency/claim_key": {"key": "new"},
    "idempotency/get_wait": {"most": "0"},
    "invoices/create_event": {"invoice_id": "2"},
    "invoices/search_invoices_by_number": {"number": "2020-000001"},
    "invoices/update_status": {"invoice_id": "2"},
    "sessions/create_refresh_token": {"token_hash": HASH.replace("e3", "00")},
    "sessions/end_reused_session": {"token_hash": f"\\x{sha256(b'used').hexdigest()}"},
    "sessions/get_repeated_refresh": {"token_hash": f"\\x{sha256(b'now').hexdigest()}"},
    **{f"users/{name}": {"old_password": PHC} for name in ("change_password", "rehash_password", "erase_user")},
}
# What the service runs beside its files (petstore/db/schema.py).
PLAIN = {
    "begin_request": """SELECT begin_request('{"actor_id": 1, "address": "192.0.2.7"}')""",
    "schema_exists": schema._MAY_READ,
}
GRANTS = """
    WITH granted AS (
        SELECT relacl AS acl, '' AS columns, oid::regclass::text AS object FROM pg_class
        UNION ALL
        SELECT attacl, format(' (%I)', attname), attrelid::regclass::text FROM pg_attribute
        UNION ALL
        SELECT proacl, '', format('FUNCTION %s', oid::regprocedure) FROM pg_proc
        UNION ALL
        SELECT typacl, '', format('TYPE %s', oid::regtype) FROM pg_type
        UNION ALL
        SELECT nspacl, '', format('SCHEMA %I', nspname) FROM pg_namespace
    )
    SELECT format('%s%s ON %s', a.privilege_type, g.columns, g.object)
    FROM granted AS g, aclexplode(g.acl) AS a
    WHERE a.grantee = 'petstore_app'::regrole
    ORDER BY 1
"""


def statements(queries):
    return {name: statement(query, values(query) | OTHER_VALUES.get(name, {})) for name, query in queries.items()}


@pytest.fixture
def shop(_superuser, make):
    """A superuser's connection, in a transaction that is rolled back."""
    with _superuser.transaction(force_rollback=True):
        _superuser.execute(SHOP)
        yield _superuser


def rows(conn, sql):
    """How many rows a statement finds or writes, with all that is checked at the end of its transaction; which it is not."""
    with conn.transaction(force_rollback=True):
        found = conn.execute(sql).rowcount
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return found


def refused(conn, sql):
    try:
        rows(conn, sql)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


@pytest.mark.parametrize(
    ("role", "run"),
    [("petstore_app", statements({**load_queries(), **load_reports()}) | PLAIN), ("petstore_report", statements(load_reports()))],
    ids=["petstore_app", "petstore_report"],
)
def test_a_role_may_do_all_that_it_is_for(shop, role, run):
    shop.execute(f"SET LOCAL ROLE {role}")
    assert [name for name, sql in run.items() if rows(shop, sql) == 0] == []


def test_without_any_one_of_its_rights_something_of_petstore_app_is_refused(shop):
    run = (statements({**load_queries(), **load_reports()}) | PLAIN).values()
    grants = [grant for (grant,) in shop.execute(GRANTS)]
    assert len(grants) > 50

    def needed(grant):
        with shop.transaction(force_rollback=True):
            shop.execute(f"REVOKE {grant} FROM petstore_app; SET LOCAL ROLE petstore_app")
            table = grant.split()[-1]
            # Those first that name the table: one of them is likely refused.
            return any(refused(shop, sql) for sql in sorted(run, key=lambda sql: table not in sql))

    assert [grant for grant in grants if not needed(grant)] == []
