"""What the database itself refuses, whoever writes: every constraint, and what the application's role may not do."""

import psycopg
import pytest

from tests.repository.test_repository import PHC

BROKEN = [
    ("INSERT INTO users (email, password) VALUES ('x', '{phc}')", "users_email_form"),
    ("INSERT INTO users (email, password) VALUES (repeat('a', 250) || '@b.cd', '{phc}')", "users_email_form"),
    ("INSERT INTO users (email, password) VALUES ('a@b.c', 'plain text')", "users_password_is_a_hash"),
    ("INSERT INTO users (email, password, role) VALUES ('a@b.c', '{phc}', 'root')", "users_role_known"),
    ("INSERT INTO users (email, password) VALUES ('A@b.c', '{phc}'), ('a@B.c', '{phc}')", "users_email_key"),
    ("INSERT INTO users (email, password) VALUES (U&'\\00e9@b.c', '{phc}'), (U&'E\\0301@b.c', '{phc}')", "users_email_key"),
    ("INSERT INTO users (email, password, token_version) VALUES ('v@example.com', '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA', 0)", "users_token_version_positive"),
    *[
        (f"UPDATE users SET {columns}", "users_whole_or_erased")
        for columns in ("email = NULL", "password = NULL", "erased_at = now()", "email = NULL, password = NULL, active = false",
                        "password = NULL, active = false, erased_at = now()", "email = NULL, active = false, erased_at = now()",
                        "email = NULL, password = NULL, erased_at = now()",
                        "email = NULL, password = NULL, active = false, erased_at = now(), role = 'admin'")
    ],
    ("INSERT INTO sessions (user_id, token_version, expires_at) VALUES (9, 1, now() + interval '1 s')", "sessions_user_id_fkey"),
    ("INSERT INTO sessions (user_id, token_version, expires_at) VALUES (1, 1, now())", "sessions_ends_later"),
    ("UPDATE sessions SET ended_at = now(), end_reason = 'theft'", "sessions_end_reason_known"),
    ("UPDATE sessions SET ended_at = now()", "sessions_ended_whole"),
    ("UPDATE sessions SET end_reason = 'logout'", "sessions_ended_whole"),
    ("INSERT INTO refresh_tokens (token_hash, session_id) VALUES (sha256(''), 9)", "refresh_tokens_session_id_fkey"),
    ("INSERT INTO refresh_tokens (token_hash, session_id) VALUES ('the token itself', 1)", "refresh_tokens_hash_sha256"),
    *[
        (f"INSERT INTO audit_log (action, subject_id, fields) VALUES ('{action}', 1, '{{}}')", "audit_log_action_form")
        for action in ("user", "User.update", "user.update password", "user.update\n")
    ],
    ("INSERT INTO audit_addresses (audit_id, address) VALUES (9, '192.0.2.7')", "audit_addresses_audit_id_fkey"),
    ("INSERT INTO products (name, price, stock) VALUES ('', 1, 1)", "products_name_length"),
    ("INSERT INTO products (name, price, stock) VALUES (repeat('x', 201), 1, 1)", "products_name_length"),
    ("INSERT INTO products (name, price, stock) VALUES (' x', 1, 1)", "products_name_trimmed"),
    *[
        (f"INSERT INTO products (name, price, stock) VALUES (U&'{name}', 1, 1)", "products_name_readable")
        for name in ("a\\0007b", "a\\000ab", "a\\202eb", "\\200b", "\\2800")
    ],
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 2, U&'\\200b', 1, 1)",
     "invoice_details_name_readable"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason)"
     " VALUES (1, 'shipped', 'refunded', 1, true, U&'a\\000db')", "invoice_events_reason_readable"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id, reason) VALUES (1, 'C2001-000002', 1, U&'a\\202eb')",
     "credit_notes_reason_readable"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, reason) VALUES (1, 'adjust', 1, 1, U&'\\000a\\0009')",
     "stock_movements_reason_readable"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', -0.01, 1)", "amount_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 'NaN', 1)", "amount_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 'Infinity', 1)", "amount_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 19.999, 1)", "amount_minor_digits"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 999999999.01, 1)", "products_price_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 1, -1)", "products_stock_range"),
    ("INSERT INTO products (name, price, stock) VALUES ('x', 1, 1000000001)", "products_stock_range"),
    ("UPDATE products SET version = 0", "products_version_positive"),
    ("INSERT INTO invoices (user_id, total) VALUES (999, 1)", "invoices_user_id_fkey"),
    ("INSERT INTO invoices (user_id, total, status, number) VALUES (1, 1, 'sold', '2001-000001')", "invoices_status_fkey"),
    ("INSERT INTO invoices (user_id, total, status, number) VALUES (1, 1, 'paid', '2001-1')", "invoices_number_form"),
    ("INSERT INTO invoices (user_id, total, status, number) SELECT 1, 1, 'paid', number FROM invoices", "invoices_number_key"),
    ("INSERT INTO invoices (user_id, total, status) VALUES (1, 1, 'paid')", "invoices_number_since_paid"),
    ("INSERT INTO invoices (user_id, total, number) VALUES (1, 1, '2001-000001')", "invoices_number_since_paid"),
    ("UPDATE invoice_details SET credited = 2", "invoice_details_credited_range"),
    ("UPDATE invoice_details SET restocked = 2", "invoice_details_restocked_range"),
    ("UPDATE invoices SET status = 'delivered'", "invoices_enter_status"),
    ("INSERT INTO number_series VALUES ('other', 2026, 1)", "number_series_known"),
    ("INSERT INTO number_series VALUES ('invoice', 26, 1)", "number_series_year_range"),
    ("INSERT INTO number_series VALUES ('invoice', 2026, 0)", "number_series_positive"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (9, 'C2001-000002', 1)", "credit_notes_invoice_id_fkey"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, 'C2001-000002', 9)", "credit_notes_actor_id_fkey"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, 'C2001-000001', 1)", "credit_notes_number_key"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, '2001-000001', 1)", "credit_notes_number_form"),
    ("INSERT INTO credit_notes (invoice_id, number, actor_id, reason) VALUES (1, 'C2001-000002', 1, '')", "credit_notes_reason_length"),
    ("INSERT INTO credit_note_lines VALUES (9, 1, 1, 1, true)", "credit_note_lines_credit_note_fkey"),
    ("INSERT INTO credit_note_lines VALUES (1, 1, 2, 1, true)", "credit_note_lines_invoice_detail_fkey"),
    ("INSERT INTO credit_note_lines VALUES (1, 1, 1, 0, true)", "credit_note_lines_quantity_positive"),
    ("INSERT INTO credit_note_lines VALUES (1, 1, 1, 2, true)", "invoice_details_credited_range"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES (9, 'adjust', 1, 1)", "stock_movements_product_id_fkey"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id) VALUES (2, 'sale', -1, 1, 1)",
     "stock_movements_invoice_detail_fkey"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, actor_id) VALUES (1, 'adjust', 1, 1, 9)", "stock_movements_actor_id_fkey"),
    *[
        (f"INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id) VALUES (1, {values})", "stock_movements_sign")
        for values in ("'sale', 1, 1, 1", "'cancel_restock', -1, 1, 1", "'return_restock', -1, 1, 1", "'adjust', 0, 1, NULL",
                       "'initial', 2, 1, NULL", "'other', 1, 1, 1")
    ],
    ("INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES (1, 'sale', -1, 1)", "stock_movements_invoice_of_kind"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id) VALUES (1, 'adjust', 1, 1, 1)",
     "stock_movements_invoice_of_kind"),
    ("INSERT INTO stock_movements (product_id, kind, delta, stock, reason) VALUES (1, 'adjust', 1, 1, '')", "stock_movements_reason_length"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint) VALUES (9, 'x', 'k', sha256(''))", "idempotency_keys_user_id_fkey"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint) VALUES (1, 'x', 'ü', sha256(''))", "idempotency_keys_key_form"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint) VALUES (1, 'x', 'k', '')", "idempotency_keys_fingerprint_sha256"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, body) VALUES (1, 'x', 'k', sha256(''), 500, '')",
     "idempotency_keys_status_range"),
    ("INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status) VALUES (1, 'x', 'k', sha256(''), 200)",
     "idempotency_keys_whole"),
    ("INSERT INTO invoices (user_id, total) VALUES (1, 1.001)", "amount_minor_digits"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 1, 'x', 1, 0)",
     "invoice_details_quantity_range"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 1, 'x', 1, 1)",
     "invoice_details_one_line_per_product"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (9, 1, 'x', 1, 1)",
     "invoice_details_invoice_id_fkey"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 9, 'x', 1, 1)",
     "invoice_details_product_id_fkey"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 2, '', 1, 1)",
     "invoice_details_name_length"),
    ("INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity) VALUES (1, 2, 'x', 1000000000, 1)",
     "invoice_details_unit_price_range"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (1, 'delivered', 'pending', 1, false)",
     "invoice_events_transition_fkey"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (1, 'paid', 'refunded', 1, true)",
     "invoice_events_once"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (9, 'paid', 'shipped', 1, false)",
     "invoice_events_invoice_id_fkey"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (1, 'shipped', 'refunded', 9, true)",
     "invoice_events_actor_id_fkey"),
    ("INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason)"
     " VALUES (1, 'shipped', 'refunded', 1, true, repeat('x', 501))", "invoice_events_reason_length"),
    ("INSERT INTO invoice_statuses VALUES ('In Between')", "invoice_statuses_form"),
    ("INSERT INTO users (email, password) VALUES ('a@b.c', '$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdA$aGFzaA')",
     "users_password_is_a_hash"),
    ("INSERT INTO shop (id, currency, minor_digits) VALUES (2, 'USD', 2)", "shop_single_row"),
    ("UPDATE shop SET currency = 'usd'", "shop_currency_iso_4217"),
    ("UPDATE shop SET minor_digits = 5", "shop_minor_digits_range"),
    ("UPDATE schema_version SET version = 0 WHERE version = 6", "schema_version_positive"),
    ("UPDATE schema_version SET sha256 = upper(encode(sha256(''), 'hex'))", "schema_version_sha256_form"),
    ("UPDATE invoice_transitions SET to_status = from_status", "invoice_transitions_moves"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "constraint"), BROKEN)
def test_the_database_itself_refuses_what_is_out_of_bounds(make, ana, statement, constraint):
    product_id, _ = make.product(), make.product()
    invoice_id = make.invoice(ana.id, {product_id: 1}, status="paid")
    make.conn.execute(
        "INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked) VALUES (%s, 'paid', 'shipped', %s, false)",
        (invoice_id, ana.id),
    )
    with make.conn.transaction():
        make.conn.execute(
            "INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (%s, 'C2001-000001', %s)", (invoice_id, ana.id)
        )
        make.conn.execute("INSERT INTO credit_note_lines VALUES (1, %s, %s, 1, false)", (invoice_id, product_id))
    with pytest.raises(psycopg.errors.IntegrityError) as refusal, make.conn.transaction(force_rollback=True):
        make.conn.execute(statement.replace("{phc}", PHC))
    assert refusal.value.diag.constraint_name == constraint


def test_every_constraint_has_a_name_of_ours_and_one_of_the_tests_above_breaks_it(make):
    named = {
        name
        for (name,) in make.rows(
            "SELECT conname FROM pg_constraint WHERE connamespace = 'm2_be_project'::regnamespace AND contype IN ('c', 'f', 'u')"
        )
        if not name.endswith("_not_null")
    }
    assert named - {constraint for _, constraint in BROKEN} == {
        "invoice_transitions_from_status_fkey",  # rows that schema.sql itself writes, and nobody else may
        "invoice_transitions_to_status_fkey",
        "credit_notes_of_invoice_key",  # follows from the primary key; there for the lines to refer to
    }


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM invoice_statuses",  # which petstore_report may
        "DELETE FROM users", "DELETE FROM products", "DELETE FROM invoices", "DELETE FROM invoice_details",
        "DELETE FROM invoice_events", "UPDATE invoice_events SET actor_id = 1", "UPDATE invoice_details SET quantity = 1",
        "UPDATE invoices SET total = 0", "UPDATE invoices SET user_id = 1", "UPDATE users SET created_at = now()",
        "UPDATE users SET id = DEFAULT", "INSERT INTO users (email, password, active) VALUES ('x@y.z', '', true)",
        "INSERT INTO users (email, password, token_version) VALUES ('x@y.z', '', 9)",
        "UPDATE sessions SET user_id = 1", "UPDATE sessions SET token_version = 1", "UPDATE sessions SET address = NULL",
        "UPDATE sessions SET created_at = now()",
        "INSERT INTO sessions (user_id, token_version, expires_at, created_at) VALUES (1, 1, now(), now())",
        "INSERT INTO sessions (user_id, token_version, expires_at, ended_at) VALUES (1, 1, now(), now())",
        "UPDATE refresh_tokens SET token_hash = sha256('')", "UPDATE refresh_tokens SET session_id = 1",
        "INSERT INTO refresh_tokens (token_hash, session_id, created_at) VALUES (sha256(''), 1, now())",
        "INSERT INTO refresh_tokens (token_hash, session_id, used_at) VALUES (sha256(''), 1, now())",
        "INSERT INTO audit_log (action, subject_id, fields) VALUES ('user.update', 1, '{}')",
        "UPDATE audit_log SET actor_id = NULL", "DELETE FROM audit_log", "TRUNCATE audit_log CASCADE", "SELECT record_audit()",
        "INSERT INTO audit_addresses (audit_id, address) VALUES (1, '::1')", "UPDATE audit_addresses SET address = '::1'",
        "TRUNCATE sessions CASCADE",
        "UPDATE products SET created_at = now()", "UPDATE shop SET currency = 'EUR'", "INSERT INTO schema_version VALUES (3)",
        "UPDATE products SET id = DEFAULT", "INSERT INTO stock_movements (product_id, kind, delta, stock) VALUES (1, 'adjust', 1, 1)",
        "UPDATE stock_movements SET delta = 1", "DELETE FROM stock_movements", "UPDATE invoice_details SET credited = 0",
        "UPDATE invoice_details SET restocked = 0", "DELETE FROM credit_notes", "UPDATE credit_note_lines SET quantity = 1",
        "UPDATE number_series SET last = 1", "UPDATE invoices SET number = '2001-000001'", "SELECT next_number('invoice')",
        "INSERT INTO credit_notes (invoice_id, number, actor_id) VALUES (1, 'C2001-000001', 1)",
        "DELETE FROM invoice_transitions", "TRUNCATE users CASCADE", "CREATE TABLE x ()", "CREATE TABLE public.x ()",
        "CREATE TEMPORARY TABLE x ()",
        "INSERT INTO invoices (user_id, total, status) VALUES (1, 5, 'refunded')",
        "INSERT INTO invoices (user_id, total, created_at) VALUES (1, 5, '2001-01-01')",
        "INSERT INTO products (name, price, stock, version) VALUES ('x', 1, 1, 9)",
        "INSERT INTO users (email, password, created_at) VALUES ('x@y.z', '', '2001-01-01')",
        "INSERT INTO invoice_events (invoice_id, created_at) VALUES (1, '2001-01-01')",
    ],
)  # fmt: skip
def test_the_application_role_may_do_no_more_than_its_queries_need(conn, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
        conn.execute(statement)
