import itertools
import json
import unicodedata
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

import psycopg
import pytest

from petstore import db
from petstore.repository import audit
from tests.factories import PASSWORD
from tests.table_search import tables_with

NEW_PASSWORD = "a staple of another make"
DAY = datetime(2026, 3, 1, tzinfo=timezone.utc)


def ids(answer):
    assert answer.status == 200
    return [item["id"] for item in answer.json()["items"]]


def users(make):
    return make.rows("SELECT * FROM users ORDER BY id")


def erase(make, user):
    make.conn.execute(
        "UPDATE users SET email = NULL, password = NULL, active = false, role = 'user', erased_at = now() WHERE id = %s",
        (user.id,),
    )


def walk(client, path):
    """The ids of every page of a list."""
    seen, page = [], client.get(path).json()
    while True:
        seen.append([item["id"] for item in page["items"]])
        if page["next"] is None:
            return seen
        page = client.get(f"{path}&after={page['next']}").json()


# ── /admin/users ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_admins_see_every_account_in_id_order(make, boss, admin, ana):
    disabled = make.user("gone@example.com")
    make.conn.execute("UPDATE users SET active = false WHERE id = %s", (disabled.id,))
    answer = admin.get("/admin/users")
    assert (answer.status, answer["Cache-Control"]) == (200, "private, no-cache")
    items, after = answer.json()["items"], answer.json()["next"]
    assert all(item.pop("created_at").endswith("Z") for item in items)
    assert (items, after) == (
        [
            {"id": boss.id, "email": "admin@example.com", "role": "admin", "active": True},
            {"id": ana.id, "email": "Ana@example.com", "role": "user", "active": True},
            {"id": disabled.id, "email": "gone@example.com", "role": "user", "active": False},
        ],
        None,
    )


def test_erased_accounts_are_not_shown(make, boss, admin, ana):
    erased = make.user("erased@example.com")
    erase(make, erased)
    assert ids(admin.get("/admin/users")) == [boss.id, ana.id]
    assert ids(admin.get("/admin/users?email=erased@example.com")) == []


def test_pages_of_accounts_are_stable_while_others_register(make, boss, admin):
    known = [boss.id] + [make.user().id for _ in range(5)]
    page = admin.get("/admin/users?limit=2").json()
    seen = [item["id"] for item in page["items"]]
    erase(make, make.user())
    late = make.user().id
    while page["next"]:
        page = admin.get(f"/admin/users?limit=2&after={page['next']}").json()
        seen += [item["id"] for item in page["items"]]
    assert seen == [*known, late]
    assert walk(admin, "/admin/users?limit=7") == [[*known, late]]


def test_a_page_of_accounts_has_fifty_unless_another_limit_is_asked_for(make, admin):
    for _ in range(51):
        make.user()
    assert len(ids(admin.get("/admin/users"))) == 50
    assert len(ids(admin.get("/admin/users?limit=100"))) == 52


@pytest.mark.parametrize("typed", ["Zoë.ŽUPAN@example.com", "zoë.župan@EXAMPLE.com", "ZOË.ŽUPAN@EXAMPLE.COM"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_account_is_found_by_its_email_in_any_case_and_unicode_form(make, admin, typed, form):
    make.user("zoe.zupan@example.com")
    zoe = make.user(unicodedata.normalize("NFD", "Zoë.Župan@example.com"))
    answer = admin.get("/admin/users?email=" + quote(unicodedata.normalize(form, typed)))
    assert ids(answer) == [zoe.id]
    assert answer.json()["items"][0]["email"] == zoe.email
    assert answer.json()["next"] is None


@pytest.mark.parametrize(
    "email", ["ana", "ana@example.co", "na@example.com", "%25", "_na@example.com", "ana@example.com%20", "x" * 5000]
)
def test_an_email_that_nobody_has_finds_nobody(admin, ana, email):
    assert ids(admin.get(f"/admin/users?email={email}")) == []


@pytest.mark.parametrize(
    "query",
    [
        "email=ana@example.com&limit=5",
        "email=",
        "email=a&email=b",
        "email=%ED%A0%80",
        "email=ana%00@example.com",
        "limit=0",
        "limit=101",
        "limit=x",
        "after=",
        "after=x",
        "role=admin",
        "active=true",
        "id=1",
    ],
)
def test_a_query_of_the_account_list_that_cannot_be_read_is_refused(admin, ana, query):
    assert admin.get(f"/admin/users?{query}").status == 400


def test_a_cursor_of_another_list_is_refused(make, admin, ana):
    for _ in range(2):
        make.product()
        make.invoice(ana.id)
    lists = ["/admin/users", "/admin/invoices", "/admin/audit", "/products"]
    for _ in range(2):  # writes two entries of the log
        admin.post("/create_product", {"name": "Bowl", "price": 1, "stock": 1})
    cursors = {path: admin.get(f"{path}?limit=1").json()["next"] for path in lists}
    for path, other in itertools.product(lists, lists):
        assert admin.get(f"{path}?limit=1&after={cursors[other]}").status == (200 if path == other else 400)
    together = f"/admin/users?email=ana@example.com&after={cursors['/admin/users']}"
    assert admin.get(together).status == 400


@pytest.mark.parametrize(
    ("body", "role", "active"),
    [
        ({"role": "admin"}, "admin", True),
        ({"role": "user"}, "user", True),
        ({"active": False}, "user", False),
        ({"active": True}, "user", True),
        ({"role": "admin", "active": False}, "admin", False),
        ({"role": "admin", "active": True}, "admin", True),
    ],
)
def test_an_account_is_given_a_role_or_disabled(make, boss, admin, ana, body, role, active):
    make.user("other@example.com")
    before = users(make)
    answer = admin.patch(f"/admin/users/{ana.id}", body)
    assert (answer.status, answer["Cache-Control"]) == (200, "no-store")
    shown = answer.json()
    assert shown.pop("created_at").endswith("Z")
    assert shown == {"id": ana.id, "email": "Ana@example.com", "role": role, "active": active}
    assert make.rows("SELECT role, active FROM users WHERE id = %s", ana.id) == [(role, active)]
    assert [row for row in users(make) if row[0] != ana.id] == [row for row in before if row[0] != ana.id]
    # Its tokens end with disabling alone: a role is looked up with each request.
    assert make.scalar("SELECT token_version FROM users WHERE id = %s", ana.id) == (1 if active else 2)


def test_disabling_twice_and_enabling_twice_is_once(make, admin, ana):
    for active, version in ((False, 2), (False, 2), (True, 2), (True, 2), (False, 3)):
        assert admin.patch(f"/admin/users/{ana.id}", {"active": active}).json()["active"] is active
        assert make.scalar("SELECT token_version FROM users WHERE id = %s", ana.id) == version
    assert make.scalar("SELECT count(*) FROM audit_log WHERE action = 'user.update'") == 3


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, [""]),
        ([], [""]),
        ({"role": "owner"}, ["/role"]),
        ({"role": None}, ["/role"]),
        ({"role": "Admin"}, ["/role"]),
        ({"active": None}, ["/active"]),
        ({"active": 0}, ["/active"]),
        ({"active": "false"}, ["/active"]),
        ({"active": False, "email": "mine@example.com"}, ["/email"]),
        ({"active": False, "password": "x"}, ["/password"]),
    ],
)
def test_a_change_of_an_account_that_is_not_valid_changes_nothing(make, admin, ana, body, pointers):
    before = users(make)
    answer = admin.patch(f"/admin/users/{ana.id}", body)
    assert (answer.status, answer.pointers()) == (422, pointers)
    assert users(make) == before


def test_an_account_that_is_not_there_or_erased_is_a_404(make, admin, ana):
    erased = make.user()
    erase(make, erased)
    before = users(make)
    for user_id in (999, 2**63 - 1, erased.id):
        for body in ({"role": "admin"}, {"active": True}, {"active": False}):
            assert admin.patch(f"/admin/users/{user_id}", body).status == 404
    assert users(make) == before


@pytest.mark.parametrize("user_id", ["0", "-1", "+4", "4.0", "x", "%D9%A4", "9" * 30, str(2**63), "1%00", "04"])
def test_an_account_id_must_be_a_positive_number(admin, user_id):
    assert admin.patch(f"/admin/users/{user_id}", {"active": False}).status == 400


def test_an_admin_may_step_down_while_there_is_another(make, boss, admin, clients):
    other = make.user("other@example.com", role="admin")
    assert admin.patch(f"/admin/users/{boss.id}", {"role": "user"}).json()["role"] == "user"
    assert admin.get("/admin/users").status == 403
    assert admin.get("/me").json()["role"] == "user"
    assert admin.patch(f"/admin/users/{boss.id}", {"role": "admin"}).status == 403
    assert clients(other).patch(f"/admin/users/{boss.id}", {"role": "admin"}).status == 200
    assert admin.get("/admin/users").status == 200


# ── /admin/invoices ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def books(make, ana):
    """Twelve invoices of two customers, in four states, a day apart; their rows: id, customer, status, time."""
    make.bob = make.user("bob@example.com")
    product_id = make.product("Tree", "3.00")
    for number in range(12):
        owner = (ana, make.bob)[number % 2]
        invoice_id = make.invoice(owner.id, {product_id: 1}, status=("pending", "paid", "cancelled")[number // 2 % 3])
        make.conn.execute(
            "UPDATE invoices SET created_at = %s WHERE id = %s", (DAY + timedelta(days=number, seconds=number), invoice_id)
        )
    return make.rows("SELECT id, user_id, status, created_at FROM invoices ORDER BY id DESC")


def test_admins_see_the_invoices_of_all_newest_first_without_details(make, books, admin, ana):
    answer = admin.get("/admin/invoices")
    assert ids(answer) == [row[0] for row in books]
    assert (answer["Cache-Control"], answer["X-Cache"]) == ("private, no-cache", None)
    assert answer.json()["items"][-1] | {"created_at": ""} == {
        "id": 1,
        "number": None,
        "user_id": ana.id,
        "status": "pending",
        "total": "3.00",
        "currency": "USD",
        "created_at": "",
    }


def test_a_changed_invoice_is_in_the_list_at_once(books, admin):
    paid = ids(admin.get("/admin/invoices?status=paid"))
    pending = ids(admin.get("/admin/invoices?status=pending"))
    admin.patch(f"/admin/invoices/{pending[0]}", {"status": "paid"})
    assert ids(admin.get("/admin/invoices?status=paid")) == sorted([*paid, pending[0]], reverse=True)


@pytest.mark.parametrize("paged", [False, True])
def test_invoices_are_filtered_by_state_customer_and_time_in_any_combination(make, books, admin, ana, paged):
    since, until = DAY + timedelta(days=2, seconds=2), DAY + timedelta(days=9, seconds=9)  # the very times of two of them
    counts = set()
    for status, owner, start, end in itertools.product(
        (None, "pending", "paid", "shipped"), (None, ana.id, make.bob.id, 999), (None, since), (None, until)
    ):
        query = {"status": status, "user_id": owner, "from": start and f"{start:%Y-%m-%dT%H:%M:%SZ}"}
        query["to"] = end and f"{end:%Y-%m-%dT%H:%M:%SZ}"
        path = "/admin/invoices?limit=" + ("2" if paged else "100")
        path += "".join(f"&{name}={value}" for name, value in query.items() if value)
        expected = [
            row[0]
            for row in books
            if status in (None, row[2])
            and owner in (None, row[1])
            and (start is None or row[3] >= start)
            and (end is None or row[3] < end)
        ]
        pages = walk(admin, path) if paged else [ids(admin.get(path))]
        assert [invoice_id for page in pages for invoice_id in page] == expected, path
        assert not paged or len(pages) == max(1, (len(expected) + 1) // 2)
        counts.add(len(expected))
    assert {0, 12} < counts


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2026-03-05T00:00:04Z", timedelta(0)),
        ("2026-03-05T00:00:04.000000Z", timedelta(0)),
        ("2026-03-05T02:00:04%2B02:00", timedelta(0)),
        ("2026-03-04T19:30:04-04:30", timedelta(0)),
        ("2026-03-05T00:00:03.999999Z", timedelta(microseconds=-1)),
        ("2026-03-05T00:00:04.000001Z", timedelta(microseconds=1)),
        ("2026-03-05T00:00:04.1Z", timedelta(milliseconds=100)),
        ("2026-03-05", timedelta(seconds=-4)),
        ("0001-01-01", timedelta(days=-365 * 3000)),
        ("9999-12-31", timedelta(days=365 * 3000)),
    ],
)
def test_from_is_included_and_to_is_not(make, books, admin, text, same_as):
    moment = books[-5][3]  # 2026-03-05T00:00:04Z
    make.conn.execute("UPDATE invoices SET created_at = %s WHERE id = %s", (moment + timedelta(milliseconds=50), books[0][0]))
    books = make.rows("SELECT id, user_id, status, created_at FROM invoices ORDER BY created_at DESC, id DESC")
    after = [row[0] for row in books if row[3] - moment >= same_as]
    assert ids(admin.get(f"/admin/invoices?from={text}")) == after
    assert ids(admin.get(f"/admin/invoices?to={text}")) == [row[0] for row in books if row[0] not in after]
    assert ids(admin.get(f"/admin/invoices?from={text}&to={text}")) == []


def test_a_cursor_of_invoices_is_good_with_its_own_filters_alone(books, admin, ana):
    filters = [
        "",
        "&status=paid",
        "&status=pending",
        f"&user_id={ana.id}",
        "&from=2026-03-01",
        "&from=2026-03-02",
        "&to=2026-03-12",
    ]
    filters += [f"&status=paid&user_id={ana.id}", "&from=2026-03-01&to=2026-03-12"]
    cursors = {chosen: admin.get(f"/admin/invoices?limit=1{chosen}").json()["next"] for chosen in filters}
    assert all(cursors.values())
    for chosen, other in itertools.product(filters, filters):
        answer = admin.get(f"/admin/invoices?limit=3&after={cursors[other]}{chosen}")
        assert answer.status == (200 if chosen == other else 400), (chosen, other)
    # The same moment is the same filter, however it is written.
    assert admin.get(f"/admin/invoices?from=2026-03-01T01:00:00%2B01:00&after={cursors['&from=2026-03-01']}").status == 200


BAD_TIMES = [
    "yesterday",
    "2026",
    "2026-03",
    "2026-13-01",
    "2026-02-30",
    "2026-3-1",
    "2026-03-01T12:00:00",
    "2026-03-01T12:00Z",
    "2026-03-01%2012:00:00Z",
    "2026-03-01T25:00:00Z",
    "2026-03-01T12:00:60Z",
    "2026-03-01T12:00:00.1234567Z",
    "2026-03-01T12:00:00+01:00",
    "2026-03-01T12:00:00%2B24:00",
    "0001-01-01T00:00:00%2B01:00",
    "9999-12-31T23:59:59-01:00",
    "0000-01-01",
    "%D9%A2026-03-01",
    "2026-03-01%0A",
    "now",
    "infinity",
    "1772323200",
]


@pytest.mark.parametrize("path", ["/admin/invoices", "/admin/audit"])
@pytest.mark.parametrize("text", BAD_TIMES)
def test_a_time_that_cannot_be_read_is_refused(admin, path, text):
    for name in ("from", "to"):
        answer = admin.get(f"{path}?{name}={text}")
        assert answer.status == 400
        assert answer.json()["detail"].startswith(f"Parameter {name} must be a day or a time")


@pytest.mark.parametrize(
    "query",
    [
        "status=unknown",
        "status=PAID",
        "status=paid%20",
        "status=",
        "status=paid&status=paid",
        "user_id=0",
        "user_id=-1",
        "user_id=x",
        f"user_id={2**63}",
        "user_id=",
        "from=",
        "limit=0",
        "limit=101",
        "limit=1.0",
        "after=x",
        "after=",
        "id=1",
        "number=2000-000001",
    ],
)
def test_a_query_of_all_invoices_that_cannot_be_read_is_refused(admin, query):
    assert admin.get(f"/admin/invoices?{query}").status == 400


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
        (buyer.post("/me/password", {"current_password": "not this one", "new_password": NEW_PASSWORD}), 401),
        (buyer.post("/me/delete", {"current_password": "not this one"}), 401),
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
    cursors = {chosen: admin.get(f"/admin/audit?limit=1{chosen}").json()["next"] for chosen in filters}
    assert all(cursors.values())
    for chosen, other in itertools.product(filters, filters):
        answer = admin.get(f"/admin/audit?limit=3&after={cursors[other]}{chosen}")
        assert answer.status == (200 if chosen == other else 400), (chosen, other)


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
