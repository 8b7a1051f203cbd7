import re
import socket
from contextlib import ExitStack
from dataclasses import replace

import pytest

from petstore.db.queries import load_reports
from petstore.routes import system
from petstore.settings import networks
from tests.client import Client
from tests.factories import PASSWORD
from tests.routes.test_roles import ROUTES, VALID, scene  # noqa: F401  scene is a fixture
from tests.services import running

SHOP, LOCAL = "https://shop.example.com", "http://localhost:3000"
# Alike, and others.
OTHERS = [
    "https://evil.example.com",
    "https://shop.example.com.evil.example",
    "https://evil-shop.example.com",
    "http://shop.example.com",
    "https://shop.example.com:8443",
    "https://SHOP.example.com",
    "https://shop.example.com/",
    "http://localhost:3001",
    "http://localhost",
    "null",
    "*",
    "",
]
# The policy of our own pages: nothing of another host, and no script or style inside the HTML.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
READABLE = {"ETag", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Cache", "X-Request-ID"}
READABLE |= {"Idempotent-Replayed"}
HSTS = "Strict-Transport-Security"


@pytest.fixture(scope="module")
def open_to_shop(settings):
    """A service that two origins may call."""
    with running(replace(settings, cors_origins=(SHOP, LOCAL))) as (services, server):
        services.db.check()  # before it knows its database, it has no cache
        yield server.address


@pytest.fixture
def shop(make, open_to_shop):
    """Somebody without a token, at that service."""
    with Client(open_to_shop) as client:
        yield client


def paths():
    """Each rule of the table with something in place of its wildcards, and the methods that it takes."""
    methods = {}
    for method, rule, _ in ROUTES:
        methods.setdefault(rule, set()).update({"GET", "HEAD"} if method == "GET" else {method})
    return [(re.sub("<.*?>", "1", rule), found) for rule, found in methods.items()]


READ = {"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Request-ID"}
ADDED_BY_LIBRARIES = {"Cache-Control", "X-Requested-With", "traceparent", "tracestate"}


def preflight(client, path, origin=SHOP, method="POST"):
    wanted = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type"}
    return client.request("OPTIONS", path, headers=({} if origin is None else {"Origin": origin}) | wanted)


def cors(answer):
    """What an answer says of other origins."""
    return {name for name in answer.headers if name.lower().startswith("access-control-")}


def varies(answer):
    """What the answer varies by. Where there is nothing, a browser gets a page (Accept), as tests/routes/test_pages.py has it."""
    return [part.strip() for part in (answer["Vary"] or "").split(",") if part not in ("", "Accept")]


def raw(address, request):
    """The answer to bytes that no client library would send."""
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(": ") for line in lines]
    assert len({name.lower() for name, _, _ in pairs}) == len(pairs), "a header twice"
    return int(first.split()[1]), {name.title(): value for name, _, value in pairs}, body


# ── preflight ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("origin", [SHOP, LOCAL])
@pytest.mark.parametrize(("path", "methods"), paths())
def test_an_allowed_origin_is_told_what_it_may_send(shop, path, methods, origin):
    for method in sorted(methods):
        answer = preflight(shop, path, origin, method)
        assert (answer.status, answer.body, answer["Cache-Control"]) == (204, b"", "no-store")
        assert answer["Access-Control-Allow-Origin"] == origin
        assert {name.strip() for name in answer["Access-Control-Allow-Methods"].split(",")} == methods
        allowed = {name.strip() for name in answer["Access-Control-Allow-Headers"].split(",")}
        assert allowed == READ | ADDED_BY_LIBRARIES
        assert answer["Access-Control-Max-Age"] == "600"
        assert varies(answer) == ["Origin"]
        assert answer["Access-Control-Allow-Credentials"] is None  # tokens come in a header, never in a cookie
        assert {name: answer[name] for name in SECURITY} == SECURITY


def test_a_preflight_needs_no_token_and_does_nothing(make, shop, boss, ana):
    before = make.rows("SELECT * FROM users"), make.rows("SELECT * FROM audit_log")
    shop.token = "not.a.token"
    for path, _ in paths():
        assert preflight(shop, path).status == 204
    assert (make.rows("SELECT * FROM users"), make.rows("SELECT * FROM audit_log")) == before


@pytest.mark.parametrize("origin", [*OTHERS, None])
def test_another_origin_is_told_nothing(shop, origin):
    for path in ("/products", "/login", "/admin/users/1"):
        answer = preflight(shop, path, origin)
        assert (answer.status, answer.json()["type"]) == (405, "/problems/method-not-allowed")
        assert answer["Allow"]
        assert "OPTIONS" not in answer["Allow"]
        assert cors(answer) == set()
        assert varies(answer) == ["Origin"]  # what is kept of it must not be given to the shop


def test_without_configured_origins_there_is_no_cors(anyone):
    for origin in (SHOP, "null", None):
        for answer in (preflight(anyone, "/products", origin), anyone.get("/products", headers={"Origin": origin or SHOP})):
            assert cors(answer) == set()
            assert varies(answer) == []
            assert answer.status in (405, 200)
    assert preflight(anyone, "/products").status == 405


@pytest.mark.parametrize("path", ["/nothing", "/products/", "/products/1", "/admin", "/invoices/1/x", "//products", "/docs/"])
def test_a_preflight_of_a_path_that_is_not_there_is_a_404(shop, path):
    answer = preflight(shop, path)
    assert answer.status == 404
    assert answer["Access-Control-Allow-Origin"] == SHOP  # so that a page can tell why
    assert answer["Access-Control-Allow-Methods"] is None


def test_options_that_is_no_preflight_is_a_405(shop):
    for path, methods in paths():
        answer = shop.request("OPTIONS", path, headers={"Origin": SHOP})
        assert (answer.status, set(answer["Allow"].split(", "))) == (405, methods)
        assert answer["Access-Control-Allow-Methods"] is None
        assert answer["Access-Control-Allow-Origin"] == SHOP


# ── what a page may read ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def broken(monkeypatch):
    """The health check fails in a way that nobody thought of."""

    def fail(call):
        raise ZeroDivisionError

    monkeypatch.setattr(system, "livez", fail)


@pytest.fixture
def every_answer(make, settings, clients, broken):
    """Answers of every kind to requests of one origin: every_answer(origin, **settings) gives status and answer of each."""

    def ask(origin, **changes):
        nowhere = "postgresql://petstore_app@127.0.0.1:1/pet_ecommerce"
        own = {"Origin": origin} if origin else {}
        make.product()
        ana = make.user("Ana@example.com")
        with ExitStack() as stack:

            def service(**more):
                services, server = stack.enter_context(running(replace(settings, **(changes | more))))
                return services, stack.enter_context(Client(server.address))

            services, client = service()
            _, hurried = service(rate_limit=1)
            _, cut_off = service(database_url=nowhere)
            user = stack.enter_context(Client(client.address, services.tokens.issue(ana)))
            etag = client.get("/products")["ETag"]
            for _ in range(10):
                hurried.get("/livez")
            login = {"email": "ana@example.com", "password": PASSWORD}
            return [
                (200, client.get("/products", headers=own)),
                (200, client.request("HEAD", "/products", headers=own)),
                (200, client.post("/login", login, headers=own)),
                (204, client.post("/logout", {"refresh_token": "x"}, headers=own)),
                (304, client.get("/products", headers=own | {"If-None-Match": etag})),
                (400, client.get("/products?x=1", headers=own)),
                (400, client.get("/products", headers=own | {"Host": "a b"})),
                (401, client.get("/me", headers=own)),
                (403, user.get("/admin/users", headers=own)),
                (404, client.get("/nothing", headers=own)),
                (404, client.get("/products?id=999", headers=own)),
                (405, client.get("/login", headers=own)),
                (409, client.post("/register", login, headers=own)),
                (413, client.post("/login", raw=b" " * 262_145, headers=own)),
                (415, client.post("/login", raw=b"x", headers=own | {"Content-Type": "text/plain"})),
                (422, client.post("/login", {}, headers=own)),
                (429, hurried.get("/products", headers=own)),
                (500, client.get("/livez", headers=own)),
                (503, cut_off.get("/products", headers=own)),
            ]

    return ask


@pytest.mark.slow
def test_every_answer_can_be_read_by_an_allowed_origin(every_answer):
    for status, answer in every_answer(SHOP, cors_origins=(SHOP, LOCAL)):
        assert answer.status == status
        assert (answer["Access-Control-Allow-Origin"], varies(answer)) == (SHOP, ["Origin"]), status
        exposed = {name.strip() for name in answer["Access-Control-Expose-Headers"].split(",")}
        assert exposed >= READABLE
        assert answer["Access-Control-Allow-Credentials"] is None
        assert {name: answer[name] for name in SECURITY} == SECURITY
        assert all(len(answer.headers.get_all(name)) == 1 for name in [*SECURITY, "Vary", "Access-Control-Allow-Origin"])
        assert answer[HSTS] is None


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["https://evil.example.com", None])
def test_no_answer_can_be_read_by_another_origin(every_answer, origin):
    for status, answer in every_answer(origin, cors_origins=(SHOP, LOCAL)):
        assert (answer.status, cors(answer), varies(answer)) == (status, set(), ["Origin"])
        assert {name: answer[name] for name in SECURITY} == SECURITY


def test_the_answers_that_pages_meet_most_can_be_read(shop, ana):
    login = {"email": "ana@example.com", "password": PASSWORD}
    answers = [
        (200, shop.get("/products", headers={"Origin": SHOP})),
        (200, shop.post("/login", login, headers={"Origin": SHOP})),
        (401, shop.get("/me", headers={"Origin": SHOP})),
        (404, shop.get("/products?id=999", headers={"Origin": SHOP})),
        (422, shop.post("/login", {}, headers={"Origin": SHOP})),
    ]
    for status, answer in answers:
        assert (answer.status, answer["Access-Control-Allow-Origin"], varies(answer)) == (status, SHOP, ["Origin"])
    for origin in OTHERS:
        assert cors(shop.get("/products", headers={"Origin": origin})) == set()


def test_a_cached_read_is_told_to_each_origin_in_its_own_words(make, shop):
    """The cache keeps bytes, not headers."""
    make.product()
    told = [shop.get("/products", headers={"Origin": origin}) for origin in (SHOP, LOCAL, "https://evil.example.com")]
    assert [answer["X-Cache"] for answer in told] == ["MISS", "HIT", "HIT"]
    assert [answer["Access-Control-Allow-Origin"] for answer in told] == [SHOP, LOCAL, None]


# ── security headers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("method", "rule", "facts"), ROUTES)
def test_every_route_answers_with_security_headers(scene, method, rule, facts):  # noqa: F811
    valid = VALID[method, rule]
    for who in ("nobody", "admin"):
        answer = scene.send(who, method, valid, scene.fill(valid.body))
        page = facts.get("returns") == "text/html"
        assert {name: answer[name] for name in SECURITY} == SECURITY | ({"Content-Security-Policy": PAGE_POLICY} if page else {})
        assert answer[HSTS] is None


NEVER_ROUTED = [
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\nX: bare line feed\r\n\r\n", 400),
    (b"GET /livez HTTP/3.7\r\nHost: x\r\n\r\n", 400),
    (b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n", 413),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # these two are refused in front of the routes, not by the server
    (b"GET /%FF HTTP/1.1\r\nHost: x\r\n\r\n", 400),
]


@pytest.mark.parametrize(("request_bytes", "status"), NEVER_ROUTED)
def test_what_never_reaches_a_route_has_security_headers_too(make, open_to_shop, request_bytes, status):
    found, headers, body = raw(open_to_shop, request_bytes)
    assert found == status
    assert headers.items() >= SECURITY.items()
    assert (headers["Cache-Control"], headers["Content-Type"]) == ("no-store", "application/problem+json")
    assert b'"request_id"' in body
    assert HSTS not in headers


@pytest.mark.parametrize(("request_bytes", "status"), NEVER_ROUTED)
def test_what_never_reaches_a_route_can_be_read_by_an_allowed_origin(make, open_to_shop, request_bytes, status):
    """As far as the server can read who asks. What no browser sends it cannot: another origin's must not be taken for it."""
    readable = b"bare line feed" not in request_bytes
    for origin, told in ((SHOP, SHOP if readable else None), ("https://evil.example.com", None), (None, None)):
        found, headers, _ = raw(open_to_shop, with_origin(request_bytes, origin))
        assert (found, headers.get("Access-Control-Allow-Origin"), headers["Vary"]) == (status, told, "Origin")
        assert ("X-Request-ID" in headers.get("Access-Control-Expose-Headers", "")) == (told is not None)


def with_origin(request_bytes, origin):
    head, _, body = request_bytes.partition(b"\r\n\r\n")
    return head + (f"\r\nOrigin: {origin}".encode() if origin else b"") + b"\r\n\r\n" + body


@pytest.mark.parametrize(("size", "told"), [(33_000, True), (64_000, True), (66_000, False)])
def test_of_headers_that_are_too_large_as_much_is_read_again_to_learn_the_origin(make, open_to_shop, size, told):
    for method in (b"GET", b"POST"):
        request_bytes = method + b" /login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nX: " + b"x" * size + b"\r\n\r\n"
        found, headers, _ = raw(open_to_shop, with_origin(request_bytes, SHOP))
        assert (found, headers.get("Access-Control-Allow-Origin")) == (431, SHOP if told else None)


def test_without_configured_origins_the_servers_own_answers_name_none(service, make):
    assert cors_of(raw(service[1].address, with_origin(b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", SHOP))) == set()


def cors_of(answer):
    return {name for name in answer[1] if name.startswith("Access-Control-") or name == "Vary"}


def test_an_exception_outside_of_the_routes_can_be_read_by_an_allowed_origin(make, open_to_shop, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("petstore.web.middleware.client_address", fail)
    found, headers, body = raw(open_to_shop, with_origin(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\n\r\n", SHOP))
    assert (found, headers["Access-Control-Allow-Origin"]) == (500, SHOP)
    assert b'"request_id":"mine"' in body


@pytest.mark.parametrize(
    ("trusted", "scheme", "told"),
    [
        ("127.0.0.1", "https", True),
        ("127.0.0.0/8, 10.0.0.0/8", "https", True),
        ("127.0.0.1", "http", False),
        ("127.0.0.1", None, False),
        ("127.0.0.1", "httpsx", False),
        ("10.0.0.0/8", "https", False),
        (None, "https", False),
    ],
)
def test_only_a_trusted_proxy_that_says_https_gets_strict_transport(make, with_settings, trusted, scheme, told):
    sent = {"X-Forwarded-For": "127.0.0.1"} | ({"X-Forwarded-Proto": scheme} if scheme else {})
    with with_settings(trusted_proxies=networks(trusted) if trusted else ()) as (_, server), Client(server.address) as client:
        for path in ("/livez", "/nothing", "/me"):
            assert client.get(path, headers=sent)[HSTS] == ("max-age=31536000" if told else None)


# ── what may be kept of an answer ────────────────────────────────────────────────────────────────────────────────────────

# By the contract: no-cache on public reads, private on personal ones, no-store where tokens are and on all that is no read.
PUBLIC, PERSONAL = "no-cache", "private, no-cache"
CACHE_CONTROL = {
    "/products": PUBLIC,
    "/livez": PUBLIC,
    "/readyz": PUBLIC,
    "/.well-known/jwks.json": "public, max-age=300",
    "/me": PERSONAL,
    "/me/export": PERSONAL,
    "/invoices": PERSONAL,
    "/invoices/<invoice_id>": PERSONAL,
    "/admin/users": PERSONAL,
    "/admin/users/<user_id>": PERSONAL,
    "/admin/invoices": PERSONAL,
    "/admin/audit": PERSONAL,
    "/admin/products/movements": PERSONAL,
    **{f"/admin/{name}": PERSONAL for name in load_reports()},
    "/": PUBLIC,
    "/docs": PUBLIC,
    "/openapi.json": PUBLIC,
    "/problems": PUBLIC,
    "/problems/<slug>": PUBLIC,
    "/assets/<file>": "public, max-age=31536000, immutable",
}


def test_every_read_has_a_line_in_the_table():
    assert set(CACHE_CONTROL) == {rule for method, rule, _ in ROUTES if method == "GET"}


@pytest.mark.parametrize(("method", "rule", "facts"), ROUTES)
def test_what_may_be_kept_is_as_the_contract_says(scene, method, rule, facts):  # noqa: F811
    valid = VALID[method, rule]
    who = "admin" if valid.owner == 403 else "owner"
    answer = scene.send(who, method, valid, scene.fill(valid.body))
    assert answer.status < 300
    assert answer["Cache-Control"] == (CACHE_CONTROL[rule] if method == "GET" else "no-store")
    if answer["ETag"] and method == "GET":
        path = scene.fill(valid.path)
        for again in (
            scene.clients[who].request("HEAD", path),
            scene.clients[who].get(path, headers={"If-None-Match": scene.clients[who].get(path)["ETag"]}),
        ):
            assert (again.status, again["Cache-Control"]) in ((200, CACHE_CONTROL[rule]), (304, CACHE_CONTROL[rule]))
    # An error is kept by nobody.
    assert scene.clients[who].request(method, scene.fill(valid.path).partition("?")[0] + "?x=1")["Cache-Control"] == "no-store"
