import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import redis

NEW = {"name": "Cat tree", "price": "89.90", "stock": 12}


def product(make, product_id):
    return make.rows("SELECT name, price, stock, version, deleted_at IS NULL FROM products WHERE id = %s", product_id)[0]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_product_shows_what_it_costs_and_how_many_there_are(make, anyone):
    product_id = make.product("Cat tree", price="89.9", stock=3)
    make.product("Another one")
    found = anyone.get(f"/products?id={product_id}").json()
    assert found == make.product_json(product_id)
    shown = {"id": product_id, "name": "Cat tree", "price": "89.90", "currency": "USD", "stock": 3, "version": 1}
    assert found == found | shown


def test_an_unknown_or_deleted_product_is_not_found(make, anyone):
    gone = make.product(deleted=True)
    for product_id in (gone, 999, 2**63 - 1):
        assert anyone.get(f"/products?id={product_id}").status == 404


def test_the_list_is_in_id_order_without_what_was_deleted(make, anyone):
    first, gone, last = make.product(), make.product(deleted=True), make.product()
    page = anyone.get("/products").json()
    assert [item["id"] for item in page["items"]] == [first, last]
    assert page["next"] is None
    assert gone not in [item["id"] for item in page["items"]]


def test_the_empty_shop_has_an_empty_list(anyone):
    assert anyone.get("/products").json() == {"items": [], "next": None}


def test_pages_join_without_gap_or_repeat_while_products_come_and_go(make, anyone):
    ids = [make.product() for _ in range(5)]
    seen, page = [], anyone.get("/products?limit=2").json()
    seen += [item["id"] for item in page["items"]]
    make.conn.execute("UPDATE products SET deleted_at = now() WHERE id = %s", (ids[1],))  # the one the cursor stands on
    newest = make.product()
    while page["next"]:
        page = anyone.get(f"/products?limit=2&after={page['next']}").json()
        seen += [item["id"] for item in page["items"]]
    assert seen == [*ids, newest]


def test_a_full_last_page_has_no_next(make, anyone):
    for _ in range(3):
        make.product()
    assert anyone.get("/products?limit=3").json()["next"] is None
    assert anyone.get("/products?limit=2").json()["next"] is not None


def test_a_page_has_50_items_unless_asked_and_100_at_most(make, anyone):
    make.conn.execute("INSERT INTO products (name, price, stock) SELECT 'P' || i, 1, 1 FROM generate_series(1, 120) AS i")
    assert len(anyone.get("/products").json()["items"]) == 50
    assert len(anyone.get("/products?limit=100").json()["items"]) == 100
    assert anyone.get("/products?limit=101").status == 400


def test_some_products_are_answered_in_the_order_that_is_asked_for(make, anyone):
    ids = [make.product() for _ in range(4)]
    gone = make.product(deleted=True)
    for asked, found in (
        (f"{ids[2]},{ids[0]},{ids[3]}", [ids[2], ids[0], ids[3]]),
        (f"{ids[3]},{gone},999,{2**63 - 1},{ids[1]}", [ids[3], ids[1]]),
        (f"{ids[1]}%2C{ids[0]}", [ids[1], ids[0]]),
        (f"{ids[1]},{ids[0]},{ids[1]}", [ids[1], ids[0]]),  # each once
        (str(ids[0]), [ids[0]]),
        ("999", []),
    ):
        answer = anyone.get(f"/products?ids={asked}")
        assert (answer.status, answer.json()) == (200, {"items": [make.product_json(one) for one in found], "next": None}), asked


def test_a_hundred_products_can_be_asked_for_at_once(make, anyone):
    make.conn.execute("INSERT INTO products (name, price, stock) SELECT 'P' || i, 1, 1 FROM generate_series(1, 120) AS i")
    wanted = [*range(120, 20, -1)]
    answer = anyone.get("/products?ids=" + ",".join(map(str, wanted)))
    assert [item["id"] for item in answer.json()["items"]] == wanted
    refused = anyone.get("/products?ids=" + ",".join(map(str, [*wanted, 20])))
    assert (refused.status, "1 to 100 ids of products with commas between, such as 4,1,7" in refused.json()["detail"]) == (
        400,
        True,
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        ",",
        "1,,2",
        ",1",
        "1,",
        "01",
        "1,02",
        "%2B1",
        "-1",
        "0",
        "1;2",
        "1, 2",
        "x",
        "1.0",
        "%D9%A4",
        "1%00",
        "1%0A",
        str(2**63),
    ],
)
def test_ids_that_cannot_be_read_are_refused(make, anyone, wrong):
    make.product()
    answer = anyone.get("/products?ids=" + wrong.replace(" ", "%20"))
    assert answer.status == 400
    assert answer.json()["errors"][0]["parameter"] == "ids"


def test_some_products_are_cached_like_a_list_until_one_is_changed(make, anyone, admin):
    first, second = (make.product(stock=5) for _ in range(2))
    paths = [f"/products?ids={first},{second}", f"/products?ids={second},{first}"]
    assert [anyone.get(path)["X-Cache"] for path in paths for _ in range(2)] == ["MISS", "HIT"] * 2
    assert anyone.get(f"/products?ids={first},{second},{first}")["X-Cache"] == "HIT"  # the same products in the same order
    assert admin.patch(f"/modify_product?id={second}", {"stock": 4}).status == 200
    answers = [anyone.get(path) for path in paths]
    assert [answer["X-Cache"] for answer in answers] == ["MISS"] * 2
    assert [[item["stock"] for item in answer.json()["items"]] for answer in answers] == [[5, 4], [4, 5]]
    assert admin.delete(f"/delete_product?id={first}").status == 204
    assert [item["id"] for item in anyone.get(paths[0]).json()["items"]] == [second]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("ids=1&id=1", "id asks"),
        ("ids=1&limit=5", "ids asks"),
        ("after=cHJvZHVjdHM6MQ&ids=1", "ids asks"),
        ("ids=1&ids=2", "ids is given twice"),
        ("id=0", "id"),
        ("id=-1", "id"),
        ("id=%2B4", "id"),
        ("id=4.0", "id"),
        ("id=04", "id"),
        ("id=%D9%A4", "id"),
        ("id=" + "9" * 30, "id"),
        (f"id={2**63}", "id"),
        ("id=", "id"),
        ("id=1&id=1", "id"),
        ("id=1&limit=5", "id"),
        ("id=1%00", "id"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=1", "limit"),
        ("limit", "limit"),
        ("after=x", "after"),
        ("after=", "after"),
        ("after=%00", "after"),
        ("after=cHJvZHVjdHM6MA", "after"),
        ("after=aW52b2ljZXMvMToz", "after"),
        ("page=2", "page"),
        ("ID=1", "ID"),
        ("%FF=1", "query"),
        ("id=%FF", "query"),
        ("&".join(f"x{n}=1" for n in range(50)), "query"),
    ],
)
def test_a_query_that_cannot_be_read_is_refused_by_name(anyone, query, named):
    answer = anyone.get(f"/products?{query}")
    assert answer.status == 400
    assert named in answer.json()["detail"]


# ── the cache ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reads_go_miss_then_hit_with_the_same_bytes_and_etag(make, anyone):
    product_id = make.product()
    for path in ("/products", "/products?limit=1", f"/products?id={product_id}"):
        first, second = anyone.get(path), anyone.get(path)
        assert (first["X-Cache"], second["X-Cache"]) == ("MISS", "HIT")
        assert (first.body, first["ETag"]) == (second.body, second["ETag"])
        assert first["Cache-Control"] == "no-cache"


def test_the_etag_is_a_hash_of_the_bytes_and_answers_304(make, anyone):
    product_id = make.product()
    answer = anyone.get(f"/products?id={product_id}")
    etag = answer["ETag"]
    assert etag == f'"{hashlib.blake2b(answer.body, digest_size=16).hexdigest()}-10"'  # ten pieces in stock
    assert anyone.request("HEAD", f"/products?id={product_id}")["ETag"] == etag
    for header in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = anyone.get(f"/products?id={product_id}", headers={"If-None-Match": header})
        assert (again.status, again["ETag"], again["X-Cache"]) == (304, etag, "HIT")
    assert anyone.get(f"/products?id={product_id}", headers={"If-None-Match": '"other"'}).status == 200


def test_products_are_kept_five_minutes_lists_ten(make, buyer, redis_url, service):
    product_id = make.product()
    for path in (f"/products?id={product_id}", "/products", "/invoices"):
        buyer.get(path)
    with redis.Redis.from_url(redis_url) as client:
        lives = sorted(
            round(client.ttl(key) / 60) for key in client.keys(f"petstore:{service[0].db.known.text.partition('@')[0]}:*:entry:*")
        )
    assert lives == [5, 10, 10]


def test_a_price_of_nothing_may_have_any_exponent(admin):
    for zero in ("0e99999999999999999999", "0e-99999999999999999999", "-0.0", "0E5"):
        answer = admin.post("/create_product", raw=f'{{"name":"Gift","price":{zero},"stock":1}}'.encode())
        assert (answer.status, answer.json()["price"]) == (201, "0.00")


def test_a_product_that_is_not_there_is_not_cached(make, anyone):
    assert anyone.get("/products?id=1").status == 404
    assert make.product() == 1
    assert anyone.get("/products?id=1").status == 200


def test_every_write_shows_in_the_next_read(make, anyone, admin):
    product_id = make.product(price="1.00")
    reads = ("/products", f"/products?id={product_id}")

    def warm():
        for path in reads:
            anyone.get(path)
            assert anyone.get(path)["X-Cache"] == "HIT"

    warm()
    admin.patch(f"/modify_product?id={product_id}", {"price": "2.00"})
    assert [anyone.get(path)["X-Cache"] for path in reads] == ["MISS", "MISS"]
    assert anyone.get(reads[1]).json()["price"] == "2.00"
    warm()
    admin.post("/create_product", NEW)
    assert len(anyone.get("/products").json()["items"]) == 2
    warm()
    admin.delete(f"/delete_product?id={product_id}")
    assert anyone.get(reads[1]).status == 404
    assert len(anyone.get("/products").json()["items"]) == 1


def test_a_refused_write_leaves_the_cache_alone(make, anyone, admin):
    product_id = make.product()
    anyone.get("/products")
    assert admin.patch("/modify_product?id=999", {"price": "2.00"}).status == 404
    assert admin.patch(f"/modify_product?id={product_id}", {"price": "-1"}).status == 422
    assert anyone.get("/products")["X-Cache"] == "HIT"


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_admin_puts_a_product_on_sale(make, admin):
    answer = admin.post("/create_product", NEW)
    made = answer.json()
    assert (answer.status, answer["Location"]) == (201, f"/products?id={made['id']}")
    assert admin.get(answer["Location"]).json() == made
    assert product(make, made["id"]) == ("Cat tree", Decimal("89.90"), 12, 1, True)


@pytest.mark.parametrize(
    ("price", "kept"),
    [
        ("0", "0.00"),
        ("0.1", "0.10"),
        ("0.10000", "0.10"),
        ("999999999", "999999999.00"),
        ("999999999.00", "999999999.00"),
        ("19.99", "19.99"),
        (19.99, "19.99"),
        (0.3, "0.30"),
        (7, "7.00"),
        ("007", "7.00"),
        ("12.5" + "0" * 40, "12.50"),
    ],
)
def test_a_price_is_exact_as_a_string_or_a_number(make, admin, price, kept):
    answer = admin.post("/create_product", NEW | {"price": price})
    assert (answer.status, answer.json()["price"]) == (201, kept)
    assert str(make.scalar("SELECT price FROM products")) == kept


@pytest.mark.parametrize("number", ["1e2", "100.00", "1.0E+2", "100", "10000e-2", "100." + "0" * 60])
def test_a_price_is_read_by_value_whatever_its_notation(admin, number):
    answer = admin.post("/create_product", raw=f'{{"name":"Cat tree","price":{number},"stock":1}}'.encode())
    assert (answer.status, answer.json()["price"]) == (201, "100.00")


def test_a_price_as_a_number_never_passes_through_a_binary_float(admin):
    answer = admin.post("/create_product", raw=b'{"name":"Cat tree","price":0.10000000000000000000000000001,"stock":1}')
    assert (answer.status, answer.pointers()) == (422, ["/price"])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        *[({"price": price}, "/price") for price in ("19.999", "-1", "1e2", " 1", "1 ", "1\n", "+1", ".5", "5.", "1,5", "")],
        *[
            ({"price": price}, "/price")
            for price in ("1000000000", "999999999.01", "NaN", "Infinity", "٤", "0x1", "9" * 31, "1" * 1001)
        ],
        *[({"price": price}, "/price") for price in (-0.01, 999999999.01, 1000000000, 10**30, 0.001, True, None, [], {})],
        *[({"stock": stock}, "/stock") for stock in (-1, 1_000_000_001, 10**30, 1.5, "1", True, None)],
        *[({"name": name}, "/name") for name in ("", " ", "\t\n", "x" * 201, 7, None, ["x"], "a\x00b", "a\ud800b")],
        ({"id": 7}, "/id"),
        *[({"version": version}, "/version") for version in (0, -1, 1.5, "1", True, None, 2**31)],
        ({"currency": "EUR"}, "/currency"),
    ],
)
def test_a_product_out_of_bounds_is_refused_with_the_place(make, admin, change, pointer):
    for answer in (admin.post("/create_product", NEW | change), admin.patch("/modify_product?id=1", change)):
        assert (answer.status, set(answer.pointers())) == (422, {pointer})
    assert make.scalar("SELECT count(*) FROM products") == 0


def test_a_name_is_trimmed_and_may_be_200_characters_of_any_script(make, admin):
    name = "猫" * 200
    assert admin.post("/create_product", NEW | {"name": f" \u3000{name}\u00a0"}).json()["name"] == name
    assert make.scalar("SELECT name FROM products") == name


def test_only_what_is_given_changes_and_the_version_grows(make, admin):
    product_id, other = make.product("Cat tree", price="1.00", stock=5), make.product("Other", price="1.00", stock=5)
    for change, expected in [
        ({"name": " Oak tree "}, ("Oak tree", Decimal("1.00"), 5, 2, True)),
        ({"price": 0}, ("Oak tree", Decimal("0.00"), 5, 3, True)),
        ({"stock": 0}, ("Oak tree", Decimal("0.00"), 0, 4, True)),
        ({"name": "A", "price": "3.10", "stock": 1_000_000_000}, ("A", Decimal("3.10"), 1_000_000_000, 5, True)),
    ]:
        answer = admin.patch(f"/modify_product?id={product_id}", change)
        assert (answer.status, answer.json()["version"]) == (200, expected[3])
        assert product(make, product_id) == expected
    assert product(make, other) == ("Other", Decimal("1.00"), 5, 1, True)


def test_a_change_of_nothing_is_refused(make, admin):
    product_id = make.product()
    answer = admin.patch(f"/modify_product?id={product_id}", {})
    assert (answer.status, answer.pointers()) == (422, [""])


def test_answers_without_a_body_keep_the_connection(make, admin):
    product_id = make.product()
    etag = admin.get("/products")["ETag"]
    connection = admin._connection.sock
    assert admin.get("/products", headers={"If-None-Match": etag}).status == 304
    assert admin.delete(f"/delete_product?id={product_id}").status == 204
    assert admin.get("/products").status == 200
    assert admin._connection.sock is connection
    admin.get("/products", headers={"Connection": "close"})
    assert admin._connection.sock is None


def test_what_is_deleted_is_gone_but_its_row_stays(make, admin):
    product_id, other = make.product(), make.product()
    answer = admin.delete(f"/delete_product?id={product_id}")
    assert (answer.status, answer["Content-Type"]) == (204, None)
    assert admin.delete(f"/delete_product?id={product_id}").status == 404
    assert admin.patch(f"/modify_product?id={product_id}", {"stock": 1}).status == 404
    assert product(make, product_id)[4] is False
    assert product(make, other)[4] is True


@pytest.mark.parametrize("query", ["", "?id=", "?id=0", "?id=x", "?id=1&id=2", "?limit=1", "?id=1&limit=1"])
def test_changing_and_deleting_need_one_id(admin, query):
    assert admin.patch(f"/modify_product{query}", {"stock": 1}).status == 400
    assert admin.delete(f"/delete_product{query}").status == 400


def test_many_changes_at_once_are_all_counted(make, admin, clients):
    product_id = make.product(stock=99)
    token = admin.token

    def change(stock):
        client = clients()
        client.token = token
        return client.patch(f"/modify_product?id={product_id}", {"stock": stock}).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(change, range(40))) == {200}
    assert product(make, product_id)[3] == 41


def test_the_answer_is_compact_utf8_with_a_line_end(make, anyone):
    make.product("Café 猫")
    body = anyone.get("/products").body
    assert "Café 猫".encode() in body
    assert body == json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


# ── an edit that changes nothing ─────────────────────────────────────────────────────────────────────────────────────────

SAME = [
    {"price": "12.50"},
    {"price": 12.5},
    {"name": " Cat tree "},
    {"stock": 10},
    {"stock_delta": 0},
    {"name": "Cat tree", "price": "012.500", "stock": 10, "expected_stock": 10, "version": 1, "reason": "counted"},
]


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "k"}])
@pytest.mark.parametrize("change", SAME)
def test_an_edit_that_changes_nothing_leaves_the_row_the_ledger_and_the_log_as_they_are(make, anyone, admin, change, key):
    product_id = make.product("Cat tree")
    tables = ("products", "stock_movements", "audit_log")
    before = [make.rows(f"SELECT t::text FROM {table} AS t") for table in tables]
    read = anyone.get(f"/products?id={product_id}")
    answer = admin.patch(f"/modify_product?id={product_id}", change, headers=key)
    assert (answer.status, answer.body, answer["ETag"]) == (200, read.body, read["ETag"])
    assert [make.rows(f"SELECT t::text FROM {table} AS t") for table in tables] == before
    assert admin.patch(f"/modify_product?id={product_id}", change | {"name": "Other"}).json()["version"] == 2


def test_such_an_edit_is_refused_like_any_other_and_shows_what_psql_has_changed(make, anyone, admin):
    product_id = make.product(price="1.00")
    assert anyone.get(f"/products?id={product_id}").json()["price"] == "1.00"
    make.conn.execute("UPDATE products SET price = 2, version = 5")
    for guard in ({"version": 4}, {"stock": 10, "expected_stock": 9}):
        assert admin.patch(f"/modify_product?id={product_id}", {"price": "2.00"} | guard).status == 409
    assert admin.patch(f"/modify_product?id={product_id}", {"price": "2.00"}).json()["version"] == 5
    assert anyone.get(f"/products?id={product_id}").json()["price"] == "2.00"
