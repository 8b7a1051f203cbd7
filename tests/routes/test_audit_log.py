"""The audit log: what is written, what admins read of it, and that it stays as it is."""

import itertools
import json
from datetime import datetime, timezone

import psycopg
import pytest

from petstore import db
from petstore.repository import audit
from tests.factories import PASSWORD
from tests.routes.lists import assert_cursors_go_with_their_filters, ids, walk
from tests.routes.test_admin_users import NEW_PASSWORD
from tests.table_search import tables_with

DAY = datetime(2026, 3, 1, tzinfo=timezone.utc)


# ── /admin/audit: what is written ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def log(make, boss, admin):
    """The entries that were written since it was asked before: `log()` gives actor, action, subject and fields of each."""
    seen = 0

    def new():
        nonlocal seen
        rows = make.rows("SELECT id, actor_id, action, subject_id, fields FROM audit_log WHERE id > %s ORDER BY id", seen)
        seen = rows[-1][0] if rows else seen
        return [row[1:] for row in rows]

    new()  # the admin, who was made in SQL
    return new


def test_the_log_has_what_people_do_with_their_accounts(make, boss, admin, anyone, log):
    ana = anyone.post("/register", {"email": "Ana@example.com", "password": PASSWORD}).json()["id"]
    assert log() == [(ana, "user.create", ana, [])]

    def login(password=PASSWORD):
        return anyone.post("/login", {"email": "Ana@example.com", "password": password}).json()

    one, two = login(), login()
    last = make.scalar("SELECT max(id) FROM sessions")
    assert log() == [(ana, "session.start", last - 1, []), (ana, "session.start", last, [])]
    assert anyone.post("/refresh", {"refresh_token": one["refresh_token"]}).status == 200
    assert log() == []  # a login that goes on
    make.conn.execute("UPDATE refresh_tokens SET used_at = used_at - interval '11 s'")
    assert anyone.post("/refresh", {"refresh_token": one["refresh_token"]}).status == 401
    assert log() == [(ana, "session.end", last - 1, ["end_reason", "ended_at"])]
    for _ in range(2):
        assert anyone.post("/logout", {"refresh_token": two["refresh_token"]}).status == 204
    assert log() == [(ana, "session.end", last, ["end_reason", "ended_at"])]

    anyone.token = login()["access_token"]
    log()
    passwords = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert anyone.post("/me/password", passwords).status == 204
    assert log() == [(ana, "user.update", ana, ["password"])]
    anyone.token = None
    anyone.token = login(NEW_PASSWORD)["access_token"]
    log()
    assert anyone.post("/me/delete", {"current_password": NEW_PASSWORD}).status == 204
    assert log() == [(ana, "user.erase", ana, ["active", "email", "erased_at", "password"])]


def test_the_log_has_what_admins_do_to_accounts(make, boss, admin, ana, log):
    log()
    changes = [
        ({"role": "admin"}, ["role"]),
        ({"role": "user", "active": False}, ["active", "role"]),
        ({"active": True}, ["active"]),
        ({"active": True, "role": "user"}, None),  # as it is already
    ]
    for body, fields in changes:
        assert admin.patch(f"/admin/users/{ana.id}", body).status == 200
        assert log() == ([(boss.id, "user.update", ana.id, fields)] if fields else [])


def test_the_log_has_every_change_of_the_catalogue(make, boss, admin, log):
    keyed = {"headers": {"Idempotency-Key": "the same again"}}
    new = {"name": "Cat tree", "price": "89.90", "stock": 5}
    product_id = admin.post("/create_product", new, **keyed).json()["id"]
    assert log() == [(boss.id, "product.create", product_id, [])]
    assert admin.post("/create_product", new, **keyed)["Idempotent-Replayed"] == "true"
    assert log() == []
    path = f"/modify_product?id={product_id}"
    for body, fields in [
        ({"name": "Tall tree"}, ["name"]),
        ({"price": "99.90"}, ["price"]),
        ({"stock": 7, "reason": "counted"}, ["stock"]),
        ({"stock_delta": 3}, ["stock"]),
        ({"name": "Cat tree", "price": 1, "stock": 5}, ["name", "price", "stock"]),
    ]:
        assert admin.patch(path, body).status == 200
        assert log() == [(boss.id, "product.update", product_id, fields)]
    assert admin.patch(path, {"price": 2}, **keyed).status == 200
    assert len(log()) == 1
    assert admin.patch(path, {"price": 2}, **keyed)["Idempotent-Replayed"] == "true"
    assert log() == []
    assert admin.delete(f"/delete_product?id={product_id}").status == 204
    assert log() == [(boss.id, "product.delete", product_id, ["deleted_at"])]


def test_the_log_has_purchases_and_what_becomes_of_them(make, boss, admin, ana, buyer, log):
    product_id = make.product(stock=100)
    log()
    keyed = {"headers": {"Idempotency-Key": "the same again"}}
    order = {"products": [{"product_id": product_id, "quantity": 2}]}
    first = buyer.post("/purchase_product", order, **keyed).json()["id"]
    assert log() == [(ana.id, "invoice.create", first, [])]  # and nothing of the stock, of which the ledger tells
    assert buyer.post("/purchase_product", order, **keyed)["Idempotent-Replayed"] == "true"
    assert log() == []
    second = buyer.post("/purchase_product", order).json()["id"]
    log()
    assert buyer.post(f"/invoices/{second}/cancel", {"reason": "too late"}).status == 200
    assert log() == [(ana.id, "invoice.update", second, ["status"])]

    def move(status):
        return admin.patch(f"/admin/invoices/{first}", {"status": status}).status

    assert move("paid") == 200
    assert log() == [(boss.id, "invoice.update", first, ["number", "status"])]
    assert move("paid") == 200
    assert log() == []
    assert move("shipped") == 200
    assert log() == [(boss.id, "invoice.update", first, ["status"])]
    credit = {"lines": [{"product_id": product_id, "quantity": 1}], "reason": "broken"}
    path = f"/admin/invoices/{first}/credit_notes"
    note = admin.post(path, credit, **keyed).json()["id"]
    assert log() == [(boss.id, "credit_note.create", note, [])]
    assert admin.post(path, credit, **keyed)["Idempotent-Replayed"] == "true"
    assert log() == []
    assert move("refunded") == 200
    rest = make.scalar("SELECT max(id) FROM credit_notes")
    assert log() == [(boss.id, "credit_note.create", rest, []), (boss.id, "invoice.update", first, ["status"])]


def test_what_is_refused_and_what_is_read_is_not_in_the_log(make, boss, admin, ana, buyer, anyone, log):
    product_id, invoice_id = make.product(stock=1), make.invoice(ana.id, status="refunded")
    log()
    order = {"products": [{"product_id": product_id, "quantity": 2}]}
    refused = [
        (anyone.post("/register", {"email": "ana@example.com", "password": PASSWORD}), 409),
        (anyone.post("/login", {"email": "ana@example.com", "password": "not this one"}), 401),
        (anyone.post("/refresh", {"refresh_token": "x"}), 401),
        (anyone.post("/logout", {"refresh_token": "x"}), 204),
        (buyer.post("/me/password", {"current_password": "not this one", "new_password": NEW_PASSWORD}), 422),
        (buyer.post("/me/delete", {"current_password": "not this one"}), 422),
        (buyer.post("/purchase_product", order), 409),
        (buyer.post("/purchase_product", order, headers={"Idempotency-Key": "k"}), 409),
        (buyer.post("/create_product", {"name": "x", "price": 1, "stock": 1}), 403),
        (admin.patch(f"/admin/invoices/{invoice_id}", {"status": "paid"}), 409),
        (admin.patch(f"/admin/users/{boss.id}", {"role": "user"}), 409),
        (admin.patch("/admin/users/999", {"role": "user"}), 404),
        (admin.patch(f"/modify_product?id={product_id}", {"price": 1, "version": 9}), 409),
        (admin.delete("/delete_product?id=999"), 404),
        (admin.get("/admin/audit"), 200),
        (admin.get("/admin/users"), 200),
        (buyer.get("/me/export"), 200),
    ]
    assert [(answer.status, status) for answer, status in refused if answer.status != status] == []
    assert log() == []


def test_what_is_done_in_sql_has_no_actor_and_no_address(make, boss, admin, ana, log):
    product_id, invoice_id = make.product(), make.invoice(ana.id)
    make.user("second@example.com", role="admin")
    second = make.scalar("SELECT max(id) FROM users")
    # Customers, logins, products and invoices that are made in SQL tell by their own rows when they were.
    assert log() == [(None, "user.create", second, [])]
    for sql, action, subject, fields in [
        ("UPDATE users SET role = 'admin' WHERE id = %s", "user.update", ana.id, ["role"]),
        ("UPDATE users SET email = 'new@example.com' WHERE id = %s", "user.update", ana.id, ["email"]),
        ("UPDATE users SET token_version = token_version + 1 WHERE id = %s", None, ana.id, []),
        ("UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE user_id = %s", "session.end", ana.id, None),
        ("UPDATE products SET price = 1 WHERE id = %s", "product.update", product_id, ["price"]),
        ("UPDATE products SET stock = 1 WHERE id = %s", None, product_id, []),
        ("UPDATE products SET deleted_at = now() WHERE id = %s", "product.delete", product_id, ["deleted_at"]),
        ("UPDATE invoices SET status = 'paid' WHERE id = %s", "invoice.update", invoice_id, ["number", "status"]),
    ]:
        make.conn.execute(sql, (subject,))
        if action == "session.end":
            subject, fields = ana.session_id, ["end_reason", "ended_at"]
        assert log() == ([(None, action, subject, fields)] if action else []), sql
    assert make.scalar("SELECT count(*) FROM audit_addresses") == 0
    assert {item["actor_id"] for item in admin.get("/admin/audit").json()["items"]} == {None}


def test_the_log_never_has_a_value(make, boss, admin, ana, buyer, anyone, conn):
    product_id = admin.post("/create_product", {"name": "Unheard-of tree", "price": "123456.78", "stock": 54321}).json()["id"]
    admin.patch(
        f"/modify_product?id={product_id}", {"name": "Never-seen tree", "price": "876543.21", "stock": 7, "reason": "misprinted"}
    )
    order = {"products": [{"product_id": product_id, "quantity": 1}]}
    invoice_id = buyer.post("/purchase_product", order, headers={"Idempotency-Key": "my own key"}).json()["id"]
    admin.patch(f"/admin/invoices/{invoice_id}", {"status": "paid", "reason": "by cheque"})
    anyone.post("/register", {"email": "mila@example.com", "password": PASSWORD})
    tokens = anyone.post("/login", {"email": "mila@example.com", "password": PASSWORD}).json()
    buyer.post("/me/password", {"current_password": PASSWORD, "new_password": NEW_PASSWORD})
    make.conn.execute("UPDATE users SET email = 'moved@example.com' WHERE id = %s", (ana.id,))
    number = make.scalar("SELECT number FROM invoices WHERE id = %s", invoice_id)
    elsewhere = ["Never-seen", "876543.21", "misprinted", "my own key", "by cheque", "mila@", "moved@", number]
    elsewhere += ["127.0.0.1", "argon2id", "paid"]
    for text in ["Unheard-of", "123456.78", "54321", PASSWORD, NEW_PASSWORD, tokens["refresh_token"], "ana@", *elsewhere]:
        assert "audit_log" not in tables_with(make.conn, text), text
    assert [text for text in elsewhere if not tables_with(make.conn, text)] == []
    assert tables_with(make.conn, "127.0.0.1") == ["audit_addresses", "sessions"]
    # Nor anywhere that it could be: everything but names of columns and of actions is a number or a time.
    kinds = conn.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'audit_log' ORDER BY ordinal_position"
    ).fetchall()
    assert kinds == [
        ("id", "bigint"),
        ("created_at", "timestamp with time zone"),
        ("actor_id", "bigint"),
        ("action", "text"),
        ("subject_id", "bigint"),
        ("fields", "ARRAY"),
    ]
    columns = {name for (name,) in conn.execute("SELECT column_name FROM information_schema.columns").fetchall()}
    fields = {field for (fields,) in make.rows("SELECT fields FROM audit_log") for field in fields}
    assert {"password", "email", "name", "price"} <= fields <= columns


# ── /admin/audit: what is read ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def entries(make, boss, ana, admin):
    """Twelve entries: by the admin, by ana, by nobody; of three kinds; a day apart. Their rows, newest first."""
    make.conn.execute("TRUNCATE audit_log, audit_addresses RESTART IDENTITY")
    make.conn.execute(
        "INSERT INTO audit_log (created_at, actor_id, action, subject_id, fields)"
        " SELECT %s::timestamptz + n * interval '86401 s', (ARRAY[NULL, %s, %s]::bigint[])[n %% 3 + 1],"
        "  (ARRAY['user.update', 'product.create'])[n %% 2 + 1], n + 100, ARRAY['role']"
        " FROM generate_series(0, 11) AS n",
        (DAY, boss.id, ana.id),
    )
    return make.rows("SELECT id, actor_id, action, created_at FROM audit_log ORDER BY id DESC")


def test_admins_read_the_log_newest_first_and_without_addresses(make, entries, admin):
    make.conn.execute("INSERT INTO audit_addresses (audit_id, address) SELECT id, '198.51.100.7' FROM audit_log")
    answer = admin.get("/admin/audit")
    assert ids(answer) == [row[0] for row in entries]
    assert (answer["Cache-Control"], answer.json()["next"]) == ("private, no-cache", None)
    assert answer.json()["items"][-1] == {
        "id": 1,
        "created_at": "2026-03-01T00:00:00.000000Z",
        "actor_id": None,
        "action": "user.update",
        "subject_id": 100,
        "fields": ["role"],
    }
    assert "198.51.100.7" not in answer.body.decode()


@pytest.mark.parametrize("paged", [False, True])
def test_the_log_is_filtered_by_actor_action_and_time_in_any_combination(entries, admin, boss, ana, paged):
    since, until = entries[-3][3], entries[2][3]  # the very times of two of them
    counts = set()
    for actor, action, start, end in itertools.product(
        (None, boss.id, ana.id, 999), (None, "user.update", "product.create", "session.end"), (None, since), (None, until)
    ):
        query = {"actor": actor, "action": action, "from": start and f"{start:%Y-%m-%dT%H:%M:%SZ}"}
        query["to"] = end and f"{end:%Y-%m-%dT%H:%M:%SZ}"
        path = "/admin/audit?limit=" + ("2" if paged else "100")
        path += "".join(f"&{name}={value}" for name, value in query.items() if value)
        expected = [
            row[0]
            for row in entries
            if actor in (None, row[1])
            and action in (None, row[2])
            and (start is None or row[3] >= start)
            and (end is None or row[3] < end)
        ]
        pages = walk(admin, path) if paged else [ids(admin.get(path))]
        assert [entry_id for page in pages for entry_id in page] == expected, path
        counts.add(len(expected))
    assert {0, 12} < counts


def test_a_cursor_of_the_log_is_good_with_its_own_filters_alone(entries, admin, boss, ana):
    filters = ["", f"&actor={boss.id}", f"&actor={ana.id}", "&action=user.update", "&action=product.create"]
    filters += ["&from=2026-03-01", "&to=2026-03-12", f"&actor={ana.id}&action=user.update"]
    assert_cursors_go_with_their_filters(admin, "/admin/audit", filters)


@pytest.mark.parametrize(
    "query",
    [
        "actor=0",
        "actor=-1",
        "actor=x",
        f"actor={2**63}",
        "actor=",
        "actor=null",
        "action=",
        "action=user",
        "action=USER.UPDATE",
        "action=user.update%0A",
        "action=user.update%00",
        "action=%25.%25",
        "action=user.update&action=user.update",
        "limit=0",
        "after=x",
        "subject=1",
        "subject_id=1",
    ],
)
def test_a_query_of_the_log_that_cannot_be_read_is_refused(admin, query):
    assert admin.get(f"/admin/audit?{query}").status == 400


# ── the log stays as it is, and addresses do not ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO audit_log (action, subject_id, fields) VALUES ('user.update', 1, '{}')",
        "UPDATE audit_log SET actor_id = NULL",
        "UPDATE audit_log SET fields = fields WHERE false",
        "DELETE FROM audit_log",
        "DELETE FROM audit_log WHERE false",
        "TRUNCATE audit_log CASCADE",
        "ALTER TABLE audit_log DISABLE TRIGGER audit_log_stay",
        "DROP TRIGGER audit_log_stay ON audit_log",
        "SELECT record_audit()",
        "INSERT INTO audit_addresses (audit_id, address) VALUES (1, '192.0.2.7')",
        "UPDATE audit_addresses SET address = '192.0.2.7'",
        "SET session_replication_role = replica",
    ],
)
def test_the_service_can_change_nothing_in_the_log(make, ana, conn, sql):
    make.conn.execute("UPDATE users SET role = 'admin' WHERE id = %s", (ana.id,))
    before = make.rows("SELECT * FROM audit_log")
    assert before
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)), conn.transaction():
        conn.execute(sql)
    assert make.rows("SELECT * FROM audit_log") == before


@pytest.mark.parametrize(
    "sql", ["UPDATE audit_log SET actor_id = NULL", "DELETE FROM audit_log", "DELETE FROM audit_log WHERE id = 1"]
)
def test_the_owner_can_change_nothing_in_the_log_either(make, ana, sql):
    make.conn.execute("UPDATE users SET role = 'admin' WHERE id = %s", (ana.id,))
    before = make.rows("SELECT * FROM audit_log")
    with pytest.raises(psycopg.errors.RestrictViolation):
        make.conn.execute(sql)
    assert make.rows("SELECT * FROM audit_log") == before


def test_what_a_transaction_did_is_in_the_log_only_when_it_is_committed(make, ana):
    with make.conn.transaction(force_rollback=True):
        make.conn.execute("UPDATE users SET role = 'admin' WHERE id = %s", (ana.id,))
        assert make.scalar("SELECT count(*) FROM audit_log") == 1
    assert make.scalar("SELECT count(*) FROM audit_log") == 0


def test_a_request_leaves_its_name_to_no_other_transaction_of_its_connection(make, boss, ana, cluster, database):
    request = json.dumps({"actor_id": boss.id, "address": "192.0.2.7"})
    with db.connect(cluster.url("petstore_app", database)) as own:
        with own.transaction():
            own.execute("SELECT begin_request(%s)", (request,))
            own.execute("UPDATE users SET role = 'admin' WHERE id = %s", (ana.id,))
        own.execute("UPDATE users SET role = 'user' WHERE id = %s", (ana.id,))
    logged = "SELECT l.actor_id, host(a.address) FROM audit_log AS l LEFT JOIN audit_addresses AS a ON l.id = a.audit_id"
    assert make.rows(f"{logged} WHERE l.action = 'user.update' ORDER BY l.id") == [(boss.id, "192.0.2.7"), (None, None)]


def test_addresses_are_kept_apart_and_for_ninety_days(make, boss, admin, ana, conn):
    for role in ("admin", "user", "admin"):
        admin.patch(f"/admin/users/{ana.id}", {"role": role})
    kept = make.rows(
        "SELECT l.id, host(a.address) FROM audit_log AS l LEFT JOIN audit_addresses AS a ON l.id = a.audit_id ORDER BY 1"
    )
    assert [address for _, address in kept] == [None, "127.0.0.1", "127.0.0.1", "127.0.0.1"]  # the first was made in SQL
    log = make.rows("SELECT * FROM audit_log ORDER BY id")
    for (entry_id, _), days in zip(kept[1:], (91, 89, 0), strict=True):
        make.conn.execute(
            "UPDATE audit_addresses SET created_at = now() - %s * interval '1 day' WHERE audit_id = %s", (days, entry_id)
        )
    assert audit.purge_addresses(conn) == 1
    left = conn.execute("SELECT audit_id FROM audit_addresses ORDER BY 1").fetchall()
    assert [entry_id for (entry_id,) in left] == [entry_id for entry_id, _ in kept[2:]]
    assert make.rows("SELECT * FROM audit_log ORDER BY id") == log
