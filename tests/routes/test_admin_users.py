"""What admins see of accounts, and do to them."""

import itertools
import unicodedata
from urllib.parse import quote

import pytest

from tests.routes.lists import ids, walk

NEW_PASSWORD = "a staple of another make"


def users(make):
    return make.rows("SELECT * FROM users ORDER BY id")


def erase(make, user):
    make.conn.execute(
        "UPDATE users SET email = NULL, password = NULL, active = false, role = 'user', erased_at = now() WHERE id = %s",
        (user.id,),
    )


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


def test_one_account_is_shown_as_the_list_shows_it(make, boss, admin, ana):
    make.conn.execute("UPDATE users SET active = false WHERE id = %s", (ana.id,))
    listed = admin.get("/admin/users").json()["items"]
    answers = [admin.get(f"/admin/users/{one.id}") for one in (boss, ana)]
    assert [answer.json() for answer in answers] == listed
    assert (answers[0]["Cache-Control"], answers[0]["X-Cache"]) == ("private, no-cache", None)
    assert admin.get(f"/admin/users/{ana.id}", headers={"If-None-Match": answers[1]["ETag"]}).status == 304


def test_erased_accounts_are_not_shown(make, boss, admin, ana):
    erased = make.user("erased@example.com")
    erase(make, erased)
    assert ids(admin.get("/admin/users")) == [boss.id, ana.id]
    assert ids(admin.get("/admin/users?email=erased@example.com")) == []
    hidden, missing = (admin.get(f"/admin/users/{user_id}") for user_id in (erased.id, 999))
    assert hidden.status == missing.status == 404
    assert hidden.json() | {"request_id": ""} == missing.json() | {"request_id": ""}


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
    assert admin.get(f"/admin/users/{user_id}").status == 400


def test_an_admin_may_step_down_while_there_is_another(make, boss, admin, clients):
    other = make.user("other@example.com", role="admin")
    assert admin.patch(f"/admin/users/{boss.id}", {"role": "user"}).json()["role"] == "user"
    assert admin.get("/admin/users").status == 403
    assert admin.get("/me").json()["role"] == "user"
    assert admin.patch(f"/admin/users/{boss.id}", {"role": "admin"}).status == 403
    assert clients(other).patch(f"/admin/users/{boss.id}", {"role": "admin"}).status == 200
    assert admin.get("/admin/users").status == 200


@pytest.mark.parametrize("change", [{"role": "user"}, {"active": True}, {"role": "user", "active": True}])
def test_a_change_to_what_is_so_already_changes_nothing_and_ends_no_login(make, admin, ana, buyer, change):
    assert buyer.get("/me").status == 200
    before = users(make), make.rows("SELECT * FROM audit_log")
    assert admin.patch(f"/admin/users/{ana.id}", change).status == 200
    assert (users(make), make.rows("SELECT * FROM audit_log")) == before
    assert buyer.get("/me").status == 200


def test_an_account_that_is_disabled_already_is_not_disabled_again(make, admin, ana):
    assert [admin.patch(f"/admin/users/{ana.id}", {"active": False}).status for _ in range(2)] == [200, 200]
    assert make.rows("SELECT active, token_version FROM users WHERE id = %s", ana.id) == [(False, 2)]
    assert make.rows("SELECT action, fields FROM audit_log WHERE action <> 'user.create'") == [("user.update", ["active"])]
