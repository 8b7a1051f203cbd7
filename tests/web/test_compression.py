"""Answers in gzip: the same bytes, a tag of their own, and nothing that is secret."""

import gzip
import re
import threading
from dataclasses import replace

import pytest

from petstore.app import create_router
from petstore.cache.document import Validity
from petstore.cache.local import LocalCache
from petstore.web import compression, response_cache
from petstore.web.compression import LEAST_BYTES, asks_for_gzip
from petstore.web.validation import SCHEMAS
from tests.client import Client
from tests.routes.test_roles import ROUTES, VALID, scene  # noqa: F401
from tests.services import running

GZIP = {"Accept-Encoding": "gzip, deflate, br"}
SHOP = "https://shop.example.com"


def in_gzip(tag):
    return tag[:-1] + '-gzip"'


# ── what is asked for ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("header", "asks"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("deflate", False),
        ("gzipped", False),
        ("identity", False),
        ("identity, gzip", True),
        ("identity;q=0", False),
        ("identity;q=0, gzip", True),
        ("gzip;q=0.5, identity", False),
        ("gzip ; q=0.5 ,\tidentity;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=0, *", False),
        ("gzip;q=0.001", True),
        ("GZIP;Q=1", True),
        ("*", True),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("identity;q=0.5, *;q=0.1", False),
        (",, ,gzip,", True),
        # No weight (RFC 9110, 12.4.2): as if it were not there.
        ("gzip;q=2", False),
        ("gzip;q=0.0001", False),
        ("gzip;q=-1", False),
        ("gzip;q=", False),
        ("gzip;level=1", False),
        ("gzip;q=٠", False),
        ("gzip;q=1" + ", deflate" * 40, False),  # longer than any client needs: it is not read
    ],
)
def test_gzip_is_sent_to_who_prefers_it(header, asks):
    assert asks_for_gzip({} if header is None else {"HTTP_ACCEPT_ENCODING": header}) is asks


# ── cached reads ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=["machines", "machine"])
def worker(request, settings, tmp_path_factory):
    scoped = replace(settings, cache_scope=request.param, home=tmp_path_factory.mktemp("home"), cors_origins=(SHOP,))
    with running(scoped) as both:
        both[0].db.check()
        yield both


@pytest.fixture
def reader(worker, make, ana):
    """Ana's client, in a shop whose lists are long. It says which threads have compressed anything: reader.compressing."""
    for number in range(12):
        make.invoice(ana.id, {make.product(f"Tree {number} " + "ä" * 190): 1})
    services, server = worker
    services.cache.clear()
    for key in [*services.local_cache._entries]:
        services.local_cache._drop(key)
    with Client(server.address, services.tokens.issue(ana)) as client:
        client.get("/me")
        yield client


@pytest.fixture
def compressing(monkeypatch):
    """The name of the thread of each compression."""
    names = []

    def noting(body, *level):
        names.append(threading.current_thread().name)
        return compression.compress(body, *level)

    monkeypatch.setattr(response_cache, "compress", noting)
    return names


CACHED = ["/products", "/products?limit=7", "/invoices?limit=9"]  # one product alone is never over 1 KiB


def told(answer):
    """The headers of an answer that do not differ from one request to the next."""
    return {name: value for name, value in answer.headers.items() if name.lower() not in ("date", "x-request-id", "x-cache")}


def check_pair(plain, packed):
    """Hold an answer in gzip against the same as it is."""
    assert len(plain.body) > LEAST_BYTES
    assert packed.body[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00" + packed.body[8:10]  # no name, no time
    assert gzip.decompress(packed.body) == plain.body
    assert plain["Content-Encoding"] is None
    changed = {"Content-Encoding": "gzip", "Content-Length": str(len(packed.body)), "ETag": in_gzip(plain["ETag"])}
    assert {name.title(): value for name, value in told(packed).items()} == {
        **{name.title(): value for name, value in told(plain).items()},
        **{name.title(): value for name, value in changed.items()},
    }
    assert plain["Vary"] == packed["Vary"] == "Accept-Encoding, Origin"


@pytest.mark.parametrize("first", ["plain", "gzip"])
@pytest.mark.parametrize("path", CACHED)
def test_a_cached_read_in_gzip_is_the_same_wherever_it_comes_from(reader, compressing, path, first):
    """From the database, from Redis, from memory by a worker thread, and from memory by the I/O thread, which compresses nothing."""
    asked = [{}, GZIP] if first == "plain" else [GZIP, {}]
    found = [reader.get(path, headers=asked[number % 2]) for number in range(8)]
    assert [answer["X-Cache"] for answer in found] == ["MISS", *["HIT"] * 7]
    plain, packed = (found[0::2], found[1::2]) if first == "plain" else (found[1::2], found[0::2])
    for one in plain:
        for other in packed:
            check_pair(one, other)
    assert len({answer.body for answer in packed}) == 1
    assert len(compressing) == (1 if first == "plain" else 2)  # for the answer from the database, then for the entry: once
    assert "server" not in compressing  # the name of the I/O thread


@pytest.mark.parametrize("path", CACHED)
def test_head_and_304_tell_of_the_coding_that_would_have_been_sent(reader, path):
    for _ in range(2):  # from Redis, then from memory
        plain, packed = reader.get(path), reader.get(path, headers=GZIP)
        heads = [reader.request("HEAD", path, headers=headers) for headers in ({}, GZIP)]
        assert [told(head) for head in heads] == [told(plain), told(packed)]
        for tag in (plain["ETag"], packed["ETag"], f'"x", W/{packed["ETag"]}', "*"):
            for headers, whole in (({}, plain), (GZIP, packed)):
                unchanged = reader.get(path, headers={**headers, "If-None-Match": tag})
                assert (unchanged.status, unchanged["ETag"], unchanged["Vary"]) == (304, whole["ETag"], whole["Vary"])
                assert unchanged["Content-Encoding"] is unchanged["Content-Length"] is unchanged["Content-Type"] is None
        assert reader.get(path, headers={**GZIP, "If-None-Match": '"other-gzip"'}).status == 200


def test_a_304_compresses_nothing_and_needs_no_worker_thread(worker, reader, compressing, monkeypatch):
    tag = [reader.get("/products") for _ in range(3)][-1]["ETag"]
    monkeypatch.setattr(worker[1]._lanes, "add", None)  # whoever calls it now fails
    assert reader.get("/products", headers={**GZIP, "If-None-Match": tag}).status == 304
    assert compressing == []


def test_after_a_write_gzip_is_of_the_new_state(worker, reader, make, boss):
    before = [reader.get("/products", headers=GZIP) for _ in range(4)]
    with Client(worker[1].address, worker[0].tokens.issue(boss)) as admin:
        assert admin.patch("/modify_product?id=1", {"stock": 777}).status == 200
    after = [reader.get("/products", headers=GZIP) for _ in range(4)]
    assert {answer.json()["items"][0]["stock"] for answer in before} == {10}
    assert {answer.json()["items"][0]["stock"] for answer in after} == {777}
    assert len({answer["ETag"] for answer in (*before, *after)}) == 2


def test_a_small_answer_stays_as_it_is_and_depends_on_nothing(make, anyone):
    make.product()
    answers = [anyone.get("/products", headers=headers) for headers in [GZIP, {}] * 3]
    assert {(answer["Content-Encoding"], answer["Vary"], answer["ETag"]) for answer in answers} == {
        (None, None, answers[0]["ETag"])
    }


def test_compressed_bytes_count_in_the_memory_of_a_worker(worker, reader):
    local = worker[0].local_cache
    for path in CACHED:
        for headers in ({}, {}, {}, GZIP):
            reader.get(path, headers=headers)
    kept = [entry for entry in local._entries.values() if isinstance(entry.value, response_cache.CachedResponse)]
    assert len(kept) == len(CACHED)
    assert all(entry.size >= entry.value.size > len(entry.value.body) + len(entry.value.gzip[1]) for entry in kept)
    assert local._bytes == sum(entry.size for entry in local._entries.values())


def test_a_value_that_grows_pushes_the_oldest_out():
    memory, validity = LocalCache(max_bytes=100), Validity("p", "g", 60)
    values = [f"value {number}" for number in range(4)]
    for number, value in enumerate(values):
        memory.keep(number, value, validity, 25)
    memory.resize(2, "value 2 of another generation", 90)
    assert [number for number in range(4) if memory.get(number)] == [0, 1, 2, 3]
    memory.resize(2, values[2], 60)
    assert [number for number in range(4) if memory.get(number)] == [2, 3]
    assert (memory.get(2).value, memory.get(2).generation) == (values[2], "g")
    memory.resize(0, values[0], 60)  # which is gone
    memory.keep(4, "value", validity, 15)
    assert [number for number in range(5) if memory.get(number)] == [2, 3, 4]


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

READS = [route for route in ROUTES if route[0] == "GET"]
WRITES = [route for route in ROUTES if route[0] != "GET"]
# Members of schemas whose names sound secret, and which are not: names of keys, public keys, times, and what clients send.
HARMLESS = {
    ("tokens", "token_type"),
    ("idempotency_key", "key"),
    ("export", "idempotency_keys"),
    ("jwks", "keys"),
    ("ready", "keys"),
}
SENT = {"account_deletion", "account_new", "credentials", "password_change", "refresh_token"}  # bodies of requests


def members(schema):
    """The name and schema of every member, also of nested objects."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
    for child in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from members(child)


def test_every_member_that_sounds_secret_is_marked_as_one():
    sounding = {
        (name, member)
        for name, schema in SCHEMAS.items()
        for member, its in members(schema)
        if re.search("token|secret|password|key|otp|pin$", member) and "x-secret" not in its
    }
    assert {pair for pair in sounding if pair[0] not in SENT} - HARMLESS == set()
    assert {name for name, schema in SCHEMAS.items() for _, its in members(schema) if "x-secret" in its} == {"tokens"}


def test_a_token_is_a_string_in_generated_clients():
    """Of `"format": "password"` openapi-generator makes a SecretStr, which cannot be put into a header."""
    assert "password" not in [its.get("format") for schema in SCHEMAS.values() for _, its in members(schema)]


@pytest.mark.parametrize("routes", [READS, *([write] for write in WRITES)], ids=lambda routes: f"{routes[0][:2]}")
def test_what_holds_a_secret_is_never_compressed_and_everything_else_is(scene, monkeypatch, routes):  # noqa: F811
    monkeypatch.setattr(compression, "LEAST_BYTES", 0)
    monkeypatch.setattr(response_cache, "LEAST_BYTES", 0)
    for method, rule, facts in routes:
        valid = VALID[method, rule]
        client = scene.clients["admin" if valid.owner == 403 else "owner"]
        body = [] if valid.body is None else [scene.fill(valid.body)]
        answer = client.request(method, scene.fill(valid.path), *body, headers=GZIP)
        assert answer.status < 300
        secret = facts.get("returns") == "tokens"
        if facts.get("database", True):  # a page or a document may show an example of one
            assert secret is bool(re.search(rb'eyJ|_token":', answer.content))
        expected = (None, None) if secret or not answer.body else ("gzip", "Accept-Encoding")
        assert (answer["Content-Encoding"], answer["Vary"]) == expected, rule


def test_a_route_that_caches_secrets_cannot_be_made(monkeypatch):
    monkeypatch.setitem(SCHEMAS, "product", {**SCHEMAS["product"], "$defs": {"tokens": {"$ref": "tokens.json"}}})
    with pytest.raises(ValueError, match="GET /products: an answer that holds a secret must not be cached"):
        create_router(None)


# ── everything else ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_large_purchase_its_replay_and_its_reads_come_in_gzip_and_are_stored_as_they_are(make, buyer):
    lines = {"products": [{"product_id": make.product(stock=99), "quantity": 1} for _ in range(100)]}
    key = {"Idempotency-Key": "k"}
    bought = buyer.post("/purchase_product", lines, headers={**GZIP, **key})
    again, plain = (buyer.post("/purchase_product", lines, headers={**more, **key}) for more in (GZIP, {}))
    assert (bought.status, bought["Content-Encoding"], again["Content-Encoding"], plain["Content-Encoding"]) == (
        *(201, "gzip", "gzip", None),
    )
    assert bought.body == again.body
    assert bought.content == plain.body
    assert len(bought.body) < len(plain.body) / 5
    assert bought["Vary"] == plain["Vary"] == "Accept-Encoding"
    assert make.scalar("SELECT body FROM idempotency_keys") == plain.body
    path = bought["Location"]
    read, packed = buyer.get(path), buyer.get(path, headers=GZIP)
    assert (packed.content, packed["ETag"]) == (read.body, in_gzip(read["ETag"]))
    assert packed.content == plain.body


def test_a_large_problem_comes_in_gzip(make, buyer):
    lines = {"products": [{"product_id": 9_000 + number, "quantity": 1} for number in range(60)]}
    found = buyer.post("/purchase_product", lines, headers=GZIP)
    assert (found.status, found["Content-Encoding"], found["Vary"]) == (422, "gzip", "Accept-Encoding")
    assert len(found.json()["errors"]) == 60


def test_an_export_in_gzip_is_the_same(make, ana, buyer):
    for _ in range(30):
        make.invoice(ana.id, {make.product(): 1})
    plain, packed = buyer.get("/me/export"), buyer.get("/me/export", headers=GZIP)
    assert (packed.status, packed["Content-Encoding"], packed["Content-Length"]) == (200, "gzip", str(len(packed.body)))
    assert packed.content == plain.body
    assert len(packed.body) < len(plain.body) / 5
    assert packed["ETag"] == in_gzip(plain["ETag"])
    assert plain["Vary"] == packed["Vary"] == "Accept-Encoding"
    head = buyer.request("HEAD", "/me/export", headers=GZIP)
    assert told(head) == told(packed)
    for headers, whole in (({}, plain), (GZIP, packed)):
        for tag in (plain["ETag"], packed["ETag"]):
            unchanged = buyer.get("/me/export", headers={**headers, "If-None-Match": tag})
            assert (unchanged.status, unchanged["ETag"], unchanged["Vary"]) == (304, whole["ETag"], "Accept-Encoding")


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/problems", "/problems/invalid"])
def test_pages_are_compressed_once_and_as_well_as_can_be(service, anyone, monkeypatch, path):
    plain, packed = anyone.get(path), anyone.get(path, headers=GZIP)
    monkeypatch.setattr(compression, "compress", None)  # whoever calls it now fails
    assert anyone.get(path, headers=GZIP).body == packed.body
    monkeypatch.undo()
    assert packed.content == plain.body
    assert packed.body == compression.compress(plain.body, 9)
    assert packed["ETag"] == in_gzip(plain["ETag"])
    assert packed["Content-Security-Policy"] == plain["Content-Security-Policy"]
    assert anyone.get(path, headers={**GZIP, "If-None-Match": plain["ETag"]})["ETag"] == packed["ETag"]
