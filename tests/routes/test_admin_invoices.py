"""What admins see of everybody's invoices."""

import itertools
from datetime import timedelta

import pytest

from tests.routes.lists import assert_cursors_go_with_their_filters, ids, walk
from tests.routes.test_audit_log import DAY


@pytest.fixture
def books(make, ana):
    """Twelve invoices of two customers, in four states, a day apart; their rows: id, customer, status, time, number."""
    make.bob = make.user("bob@example.com")
    product_id = make.product("Tree", "3.00")
    for number in range(12):
        owner = (ana, make.bob)[number % 2]
        invoice_id = make.invoice(owner.id, {product_id: 1}, status=("pending", "paid", "cancelled")[number // 2 % 3])
        make.conn.execute(
            "UPDATE invoices SET created_at = %s WHERE id = %s", (DAY + timedelta(days=number, seconds=number), invoice_id)
        )
    return make.rows("SELECT id, user_id, status, created_at, number FROM invoices ORDER BY id DESC")


def test_admins_see_the_invoices_of_all_newest_first_without_details(make, books, admin, ana):
    answer = admin.get("/admin/invoices")
    assert ids(answer) == [row[0] for row in books]
    assert (answer["Cache-Control"], answer["X-Cache"]) == ("private, no-cache", None)
    last, whole = answer.json()["items"][-1], admin.get("/invoices/1").json()
    assert last == {name: value for name, value in whole.items() if not isinstance(value, list)} | {"email": ana.email}
    assert (last["id"], last["user_id"], last["status"], last["total"]) == (1, ana.id, "pending", "3.00")


def test_a_changed_invoice_is_in_the_list_at_once(books, admin):
    paid = ids(admin.get("/admin/invoices?status=paid"))
    pending = ids(admin.get("/admin/invoices?status=pending"))
    admin.patch(f"/admin/invoices/{pending[0]}", {"status": "paid"})
    assert ids(admin.get("/admin/invoices?status=paid")) == sorted([*paid, pending[0]], reverse=True)


def test_an_erased_customer_has_no_email(make, books, admin, ana):
    make.conn.execute(
        "UPDATE users SET email = NULL, password = NULL, active = false, erased_at = now() WHERE id = %s", (ana.id,)
    )
    shown = {item["user_id"]: item["email"] for item in admin.get("/admin/invoices").json()["items"]}
    assert shown == {ana.id: None, make.bob.id: make.bob.email}
    assert len(ids(admin.get(f"/admin/invoices?user_id={ana.id}"))) == 6
    assert ids(admin.get(f"/admin/invoices?email={ana.email}")) == []


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize(
    ("email", "numbered", "most"),
    [
        (None, None, 12),
        ("aNA@Example.com", None, 6),
        (None, 3, 1),
        ("bob@example.com", 3, 0),
        ("nobody@example.com", None, 0),
    ],
)
def test_invoices_are_filtered_by_any_combination(make, books, admin, ana, email, numbered, most, paged):
    """numbered: the invoice whose number is asked for; it is Ana's, and paid. most: how many are found without other filters."""
    since, until = DAY + timedelta(days=2, seconds=2), DAY + timedelta(days=9, seconds=9)  # the very times of two of them
    emails = {None: None, "aNA@Example.com": ana.id, "bob@example.com": make.bob.id, "nobody@example.com": 0}
    number = numbered and next(row[4] for row in books if row[0] == numbered)
    counts = set()
    for status, owner, start, end in itertools.product(
        (None, "pending", "paid", "shipped"), (None, ana.id, make.bob.id, 999), (None, since), (None, until)
    ):
        query = {"status": status, "user_id": owner, "from": start and f"{start:%Y-%m-%dT%H:%M:%SZ}"}
        query |= {"to": end and f"{end:%Y-%m-%dT%H:%M:%SZ}", "email": email, "number": number}
        path = "/admin/invoices?limit=" + ("2" if paged else "100")
        path += "".join(f"&{name}={value}" for name, value in query.items() if value)
        expected = [
            row[0]
            for row in books
            if status in (None, row[2])
            and owner in (None, row[1])
            and emails[email] in (None, row[1])
            and number in (None, row[4])
            and (start is None or row[3] >= start)
            and (end is None or row[3] < end)
        ]
        pages = walk(admin, path) if paged else [ids(admin.get(path))]
        assert [invoice_id for page in pages for invoice_id in page] == expected, path
        assert not paged or len(pages) == max(1, (len(expected) + 1) // 2)
        counts.add(len(expected))
    assert (max(counts), min(counts)) == (most, 0)


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
        ("2026-03-05T00:00:03.9999999Z", timedelta(microseconds=-1)),  # cut, not rounded
        (f"2026-03-05T00:00:04.000001{'9' * 1000}Z", timedelta(microseconds=1)),
        ("2026-03-05t00:00:04z", timedelta(0)),
        ("2026-03-05T00:00:04-00:00", timedelta(0)),
        ("2026-03-05T23:59:04%2B23:59", timedelta(0)),
        ("2026-03-04T23:59:60Z", timedelta(seconds=-4)),  # a leap second is the first of the next minute
        ("2026-03-04T22:59:60.5-01:00", timedelta(seconds=-3, milliseconds=-500)),
        ("2026-03-05", timedelta(seconds=-4)),
        ("0001-01-01", timedelta(days=-365 * 3000)),
        ("9999-12-31T23:59:60%2B00:01", timedelta(days=365 * 3000)),
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
    filters += ["&email=ana@example.com", "&email=bob@example.com", f"&email=ana@example.com&user_id={ana.id}"]
    cursors = assert_cursors_go_with_their_filters(admin, "/admin/invoices", filters)
    # The same moment is the same filter, however it is written.
    assert admin.get(f"/admin/invoices?from=2026-03-01T01:00:00%2B01:00&after={cursors['&from=2026-03-01']}").status == 200
    # ... and so is the same account.
    assert admin.get(f"/admin/invoices?email=ANA@example.com&after={cursors['&email=ana@example.com']}").status == 200
    for chosen in ("&email=nobody@example.com", f"&number={books[2][4]}"):
        assert {admin.get(f"/admin/invoices?after={cursor}{chosen}").status for cursor in cursors.values()} == {400}


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
    "2026-03-01T12:00:61Z",
    "9999-12-31T23:59:60Z",
    "2026-03-01T12:00:00.Z",
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
        "number=",
        "number=1",
        "number=C2000-000001",
        "number=2000-000001%0A",
        "number=2000-000001&number=2000-000001",
        "email=",
        "email=ana@example.com&email=ana@example.com",
        "email=ana%00@example.com",
    ],
)
def test_a_query_of_all_invoices_that_cannot_be_read_is_refused(admin, query):
    assert admin.get(f"/admin/invoices?{query}").status == 400
