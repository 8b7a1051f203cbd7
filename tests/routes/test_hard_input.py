"""What no body, path or query may turn into a 500 or let through: the contract's hard JSON edges, on every route."""

import hashlib
import json
import random
import re
from urllib.parse import quote

import pytest

from petstore.app import create_router
from petstore.web.parameters import PARAMETERS, schemas_of
from tests.factories import PASSWORD
from tests.tables import TABLES

ROUTES = [(route.method, route.rule, dict(route.config)) for route in create_router(None).routes]
FREE_TEXTS = {name for name, schema in PARAMETERS.items() if schema.get("type") == "string" and "pattern" not in schema}
WITH_BODY = [(method, rule, facts["body"]) for method, rule, facts in ROUTES if facts.get("body")]
GOOD = {
    "account_new": {"email": "new@example.com", "password": "a heron on one leg"},
    "credentials": {"email": "new@example.com", "password": "a heron on one leg"},
    "refresh_token": {"refresh_token": "x" * 43},
    "password_change": {"current_password": PASSWORD, "new_password": "a heron on one leg"},
    "account_deletion": {"current_password": PASSWORD},
    "user_change": {"role": "admin", "active": True},
    "product_new": {"name": "Cat tree", "price": "1.00", "stock": 1},
    "product_changes": {"name": "Cat tree", "price": "1.00", "stock": 1},
    "purchase": {"products": [{"product_id": 1, "quantity": 1}]},
    "invoice_cancel": {"reason": "why"},
    "credit_note_new": {"lines": [{"product_id": 1, "quantity": 1, "restock": True}], "reason": "why"},
    "invoice_change": {"status": "refunded", "reason": "why", "restock": True},
}
UNREADABLE = [
    b"",
    b" ",
    b"{",
    b"{}{}",
    b"nul",
    b"{'a':1}",
    b'{"a":1,}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":01}',
    b'{"a":+1}',
    b'{"a":1.}',
    b'{"a":"\n"}',
    b'{"a":"\x00"}',
    b'{"a":"\\x41"}',
    b'{"a":1,"a":1}',
    b'{"a":{"b":1,"b":2}}',
    b'{"a":1,"\\u0061":1}',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b"\xef\xbb\xbf",
    b" \xef\xbb\xbf{}",
    '{"a":1}'.encode("utf-16"),
    b"[" * 33 + b"]" * 33,
    b'{"a":' * 33 + b"1" + b"}" * 33,
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
]
INVALID = [
    b"[]",
    b"null",
    b"true",
    b"0",
    b'"x"',
    b"1" * 5000,
    b"-" + b"1" * 100_000,
    b"1e999999999",
    b"-1e-999999999",
    b"1e99999999999999999999",
    b"1e-99999999999999999999",
    b'{"\\u0000":1}',
    b'{"\\ud800":1}',
    b'{"' + b"x" * 200_000 + b'":1}',
    b'{"__proto__":{}}',
    b"[" * 32 + b"]" * 32,
    b'{"a":' * 32 + b"1" + b"}" * 32,
    b"{" + b",".join(b'"%d":1' % n for n in range(20_000)) + b"}",
]
VALUES = [
    None, True, False, [], {}, "", " ", "x", "\x00", "a\x00b", "\ud800", "a\udfffb", "x" * 10_000, 0, -1, 1, 2**31, 2**63, 10**30,
    10**400, 1.0, 1.5, -0.0, 1e308, "1", "NaN", "٤", "4\n", [None], [[]], {"": ""}, ["x"] * 2000, {"id": 1}, "'; DROP TABLE users; --",
]  # fmt: skip


def target(rule):
    """A path that fits the route, so that only the body can be wrong."""
    return re.sub(r"<\w+>", "1", rule) + ("?id=1" if rule in ("/modify_product", "/delete_product") else "")


@pytest.fixture
def whole_shop(make, boss, admin):
    """An admin in a shop where everything named 1 exists; how its rows may not change."""
    make.product()
    make.invoice(1, {1: 1}, status="paid")
    known = hashlib.sha256(GOOD["refresh_token"]["refresh_token"].encode()).digest()
    make.conn.execute("INSERT INTO refresh_tokens (token_hash, session_id) VALUES (%s, %s)", (known, boss.session_id))

    def state():
        return [make.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in TABLES]

    return admin, state


@pytest.fixture
def begin_anew(make, service, boss, _superuser):
    """Lets the admin in again after a request that was let through: a new password ends logins, failed attempts have to wait."""
    before = make.scalar("SELECT password FROM users WHERE id = %s", boss.id)

    def begin():
        service[0].cache.clear()
        service[0].failed_attempts.clear()
        with _superuser.transaction():
            _superuser.execute("SET LOCAL session_replication_role = replica")  # for once, what has ended begins again
            _superuser.execute("UPDATE users SET password = %s, token_version = 1 WHERE id = %s", (before, boss.id))
            _superuser.execute("UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE id = %s", (boss.session_id,))

    return begin


@pytest.mark.parametrize(("method", "rule", "schema"), WITH_BODY)
def test_a_body_that_is_not_json_is_400_and_one_that_is_not_valid_422(whole_shop, method, rule, schema):
    admin, state = whole_shop
    path = target(rule)
    before = state()
    for raw in UNREADABLE:
        if raw == b"" and schema == "invoice_cancel":  # which may be left out
            continue
        answer = admin.request(method, path, raw=raw)
        assert answer.status == 400, raw[:50]
        assert answer.json()["type"] == "/problems/malformed-json"
    for raw in INVALID:
        answer = admin.request(method, path, raw=raw)
        assert answer.status == 422, raw[:50]
        assert 1 <= len(answer.json()["errors"]) <= 20
        assert len(answer.body) < 10_000
    assert state() == before


@pytest.mark.slow
@pytest.mark.parametrize(("method", "rule", "schema"), WITH_BODY)
def test_no_value_of_any_member_is_a_500_and_what_is_refused_changes_nothing(whole_shop, begin_anew, method, rule, schema):
    admin, state = whole_shop
    for member in [*GOOD[schema], "unknown", "\ud800"]:
        for value in VALUES:
            begin_anew()
            before = state()
            answer = admin.request(method, target(rule), GOOD[schema] | {member: value})
            assert answer.status in (200, 201, 204, 401, 409, 422), (member, value)
            assert answer.status != 401 or "error=" not in answer["WWW-Authenticate"]  # of the password, not of the token
            if answer.status >= 400:
                assert state() == before, (member, value)
            else:
                assert member in GOOD[schema]


@pytest.mark.parametrize("member", ["product_id", "quantity"])
def test_no_value_in_a_line_of_a_purchase_is_a_500(whole_shop, member):
    admin, _ = whole_shop
    for value in VALUES:
        answer = admin.post("/purchase_product", {"products": [{"product_id": 1, "quantity": 1} | {member: value}]})
        assert answer.status == (201 if value == 1 and type(value) is not bool else 422), value


@pytest.mark.parametrize(("method", "rule", "facts"), ROUTES)
def test_no_query_and_no_path_is_a_500(whole_shop, method, rule, facts):
    admin, state = whole_shop
    before = state()
    good = [GOOD[facts["body"]]] if facts.get("body") else []
    strange = [
        "",
        "0",
        "-1",
        "1.0",
        "+1",
        "٤",
        "\x00",
        "\n",
        "x" * 5000,
        "9" * 5000,
        "%",
        "ü",
        "'",
        "--",
        "[]",
        "1e3",
        "0x1",
        "NaN",
    ]
    for value in strange:
        for name in (*facts.get("query", ()), "unknown", value):
            path = re.sub(r"<\w+>", "1", rule) + f"?{quote(name)}={quote(value)}"
            answer = admin.request(method, path, *good)
            if name in FREE_TEXTS and answer.status == 200:  # which is looked for as it is
                assert answer.json() == {"items": [], "next": None}
                assert value not in ("", "\x00")
            elif value == "0" and answer.status == 200:  # which is a number of pieces or days
                assert schemas_of(facts["query"])[name]["minimum"] == 0
            else:
                assert answer.status in (400, 404), path
        if "<" in rule:
            path = re.sub(r"<\w+>", quote(value, safe=""), rule)
            answer = admin.request(method, path, *good)
            assert answer.status in (400, 404), path
    assert state() == before


@pytest.mark.parametrize(
    "name",
    ["Accept", "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Type", "Cookie", "Expect", "Host", "Idempotency-Key",
     "If-None-Match", "Origin", "Range", "Upgrade", "User-Agent", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-ID"],
)  # fmt: skip
def test_no_header_is_a_500(whole_shop, name):
    admin, _ = whole_shop
    strange = [
        "", " ", ",", ";", "*", '"', '"\\', "=", "/", "%00", "%s{}${x}", "' OR 1=1 --", "<script>", "-1", "9" * 5000, "ü", "\ufeffx", "\u202ex",
        "👩‍👩‍👧", "Bearer", "Bearer ", "Bearer a.b.c", "Bearer ü.ü.ü", "Basic Og==", "W/", 'W/"', "application/json;", "application/json;charset=",
        "1.2.3.4, x", "::ffff:1.2.3.4%eth0", "null", "http://[", "100-continue, x",
    ]  # fmt: skip
    for value in [*(text.encode() for text in strange), b"\x80\xff", b"\xed\xa0\x80", b"\t"]:
        sent = {name: value}
        assert admin.get("/products", headers=sent).status in (200, 304, 400), value
        assert admin.get("/invoices", headers=sent).status in (200, 304, 400, 401), value
        answer = admin.post("/purchase_product", GOOD["purchase"], headers=sent)
        assert answer.status in (201, 400, 401, 409, 415, 422), value


@pytest.mark.parametrize(("method", "rule", "schema"), WITH_BODY)
def test_a_body_of_another_type_is_415(whole_shop, method, rule, schema):
    admin, state = whole_shop
    before, raw = state(), json.dumps(GOOD[schema]).encode()
    for kind in (
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=latin-1",
        "application/json, application/json", "application/jsonx", "application/json; charset=utf-8; charset=utf-7",
        "application/json; profile", "application/json; profile=a b", 'application/json; profile="a', "application/json; profile=x, text/html",
    ):  # fmt: skip
        assert admin.request(method, target(rule), raw=raw, headers={"Content-Type": kind}).status == 415, kind
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert admin.request(method, target(rule), raw=raw, headers=packed).status == 415
    assert state() == before


def test_a_charset_and_whatever_other_parameters_are_fine(anyone):
    for kind in (
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset=utf-8;",
        "Application/JSON ; Charset=UTF-8",
        "application/json; profile=x",
        'application/json; profile="https://a.example/;charset=b,\\"c\\""; charset=utf-8',
        "application/json;odata.metadata=none;IEEE754Compatible=true",
    ):
        answer = anyone.request("POST", "/login", raw=b"{}", headers={"Content-Type": kind})
        assert answer.status == 422, kind


def test_a_body_without_a_type_is_told_what_to_send(anyone):
    answer = anyone.request("POST", "/login", raw=b"{}", headers={"Content-Type": ""})
    assert (answer.status, "no Content-Type" in answer.json()["detail"]) == (415, True)
    assert "send Content-Type: application/json" in answer.json()["detail"]


def test_a_byte_order_mark_is_read_over(anyone):
    body = b'\xef\xbb\xbf{"email": "ana@example.com", "password": "a heron on one leg"}'
    assert anyone.request("POST", "/register", raw=body).status == 201
    bad = anyone.request("POST", "/register", raw=b"\xff\xfe{\x00}\x00")
    assert (bad.status, bad.json()["detail"]) == (400, "The body is not UTF-8.")


@pytest.mark.parametrize(
    ("number", "stock"),
    [("3", 3), ("3.0", 3), ("3e2", 300), ("30.00e-1", 3), ("3E0", 3), ("0.0", 0), ("-0", 0), ("-0.0", 0), ("0e99999999999", 0),
     ("3.5", None), ("1e-1", None), ("true", None), ('"3"', None), ("-1.0", None), ("1000000001.0", None), ("1e10", None),
     ("1e400000000", None), ("-1e400000000", None), ("1e99999999999999999999", None), ("1" + "0" * 200_000, None),
     ("1" + "0" * 200_000 + ".0", None), ("3." + "0" * 200_000, 3), ("3." + "0" * 200_000 + "1", None)],
)  # fmt: skip
def test_a_whole_number_is_an_integer_however_it_is_written(make, admin, number, stock):
    answer = admin.request("POST", "/create_product", raw=f'{{"name":"x","price":1,"stock":{number}}}'.encode())
    if stock is None:
        assert (answer.status, answer.pointers(), make.rows("SELECT FROM products")) == (422, ["/stock"], [])
    else:
        assert (answer.status, answer.json()["stock"], make.stock(1)) == (201, stock, stock)


def test_a_body_that_nobody_asked_for_is_held_to_the_same_limits(whole_shop):
    admin, _ = whole_shop
    assert admin.request("GET", "/products", raw=b"x", headers={"Content-Type": "text/plain"}).status == 415
    assert admin.request("DELETE", "/delete_product?id=1", raw=b"x" * 262_145).status == 413
    assert admin.request("GET", "/products", raw=b"{}").status == 200
    assert admin.request("GET", "/products", headers={"Content-Type": "text/plain"}).status == 200  # there is no body


@pytest.mark.parametrize("rule", [rule for _, rule, facts in ROUTES if {"from", "to"} <= set(facts.get("query", ()))])
def test_a_time_span_that_ends_before_it_begins_names_both(whole_shop, rule):
    admin, _ = whole_shop
    answer = admin.get(f"{rule}?from=2026-03-02&to=2026-03-01T23:59:59.999999Z")
    assert (answer.status, [one["parameter"] for one in answer.json()["errors"]]) == (400, ["from", "to"])
    assert "Perhaps they are swapped" in answer.json()["detail"]
    assert admin.get(f"{rule}?from=2026-03-02&to=2026-03-02T01:00:00%2B01:00").status == 200


def test_random_bytes_are_never_a_500(whole_shop, begin_anew):
    admin, _ = whole_shop
    chance = random.Random(7)
    for _ in range(400):
        method, rule, schema = chance.choice(WITH_BODY)
        raw = bytearray(json.dumps(GOOD[schema]).encode())
        for _ in range(chance.randint(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        begin_anew()
        assert admin.request(method, target(rule), raw=bytes(raw)).status in (200, 201, 204, 400, 401, 409, 422), raw
