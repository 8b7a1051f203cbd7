"""Exports: one snapshot however large, in memory that stays the same, and an account's takes nothing from another's."""

import http.client
import resource
import socket
import tempfile
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import pytest

from petstore.domain import exports
from petstore.domain.invoices import full_invoices
from petstore.limits.exports import MAX_ACCOUNTS, MAX_OF_CLIENT, ExportTurns
from petstore.repository import audit, idempotency, invoices, sessions, users
from petstore.request import Request, encode
from tests.client import Client
from tests.raw_http import get
from tests.waiting import at_once, eventually

FAR = 30  # seconds


@pytest.fixture
def enlarge(make, _superuser):
    """Gives an account invoices of 100 lines, 30 kB each in an export, and entries of the audit log: enlarge(user, invoices)."""

    def fill(user, count, entries=0):
        with _superuser.transaction():
            _superuser.execute("SET LOCAL session_replication_role = replica")  # no triggers
            _superuser.execute(
                "WITH made AS (INSERT INTO invoices (user_id, total) SELECT %s, 100 FROM generate_series(1, %s) RETURNING id)"
                " INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity)"
                " SELECT id, line, repeat('x', 190), 1, 1 FROM made, generate_series(1, 100) AS s (line)",
                (user.id, count),
            )
            _superuser.execute(
                "INSERT INTO audit_log (actor_id, action, subject_id, fields)"
                " SELECT %s, 'product.update', 1, '{stock}' FROM generate_series(1, %s)",
                (user.id, entries),
            )
        _superuser.execute("ANALYZE invoices, invoice_details, audit_log")

    return fill


@pytest.fixture
def turns(service):
    """Those of the shared service, which all have ended before and after the test."""
    turns = service[0].exports
    eventually(lambda: not turns._turns)
    yield turns
    eventually(lambda: not turns._turns, 5)


@pytest.fixture
def terminate(_superuser):
    """Ends a backend, and waits until it has ended: terminate(pid)."""
    return lambda pid: _superuser.execute("SELECT pg_terminate_backend(%s::int, 5000)", (pid,))


@pytest.fixture
def midway(monkeypatch):
    """Has a function called between an export's invoices, while it is made: midway(act)."""
    plain = exports._invoices

    def arrange(act):
        def calling(conn, user_id):
            for item in plain(conn, user_id):
                yield item
                act(conn)

        monkeypatch.setattr(exports, "_invoices", calling)
        monkeypatch.setattr(exports, "_INVOICES", 1)

    return arrange


def collected(services, user_id):
    """An export that is made as one value in memory."""

    def collect(conn):
        own = invoices.list_invoices(conn, user_id=user_id, before=0, limit=2**31 - 1)
        return {
            "profile": users.get_user(conn, user_id=user_id),
            "sessions": list(sessions.list_sessions(conn, user_id=user_id)),
            "invoices": full_invoices(conn, own),
            "audit": list(audit.list_own_entries(conn, user_id=user_id)),
            "idempotency_keys": list(idempotency.list_keys(conn, user_id=user_id)),
        }

    return encode(services.db.snapshot(collect), services.settings.minor_digits)


def request_of(services, user):
    """A request for an export, as a handler gets it."""
    turn = services.exports.take(user.id, "somewhere")
    return Request(services, "id", time.monotonic() + FAR, "GET /me/export", {}, {}, None, user, turn=turn)


class Asking:
    """A connection on which an export is asked for, and read as the test wants."""

    def __init__(self, services, address, user, method="GET", receive_buffer=None):
        self.connection = socket.socket()
        if receive_buffer:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.connection.settimeout(FAR)
        self.connection.connect(address)
        token = services.tokens.issue(user).encode()
        request = get(b"/me/export", b"Authorization: Bearer %b\r\nConnection: close\r\n" % token)
        self.connection.sendall(request.replace(b"GET", method.encode(), 1))

    def answer(self):
        answer = http.client.HTTPResponse(self.connection)
        answer.begin()
        return answer.status, answer.read()

    def close(self):
        self.connection.close()


def test_an_export_has_the_bytes_of_one_that_is_collected_in_memory(make, ana, buyer, service, enlarge, turns):
    product = make.product(stock=50)
    for number in range(3):
        lines = {"products": [{"product_id": product, "quantity": 1}]}
        made = buyer.post("/purchase_product", lines, headers={"Idempotency-Key": f"key {number}"})
        assert made.status == 201
    assert buyer.post(f"/invoices/{made.json()['id']}/cancel", {"reason": 'ä "quoted" \\ \u2009 reason'}).status == 200
    enlarge(ana, 203, entries=1700)  # of each more than two batches
    answer = buyer.get("/me/export")
    assert answer.status == 200
    assert answer.body == collected(service[0], ana.id)
    assert len(answer.body) > exports._IN_MEMORY
    found = answer.json()
    assert [len(found[name]) for name in ("invoices", "audit", "idempotency_keys")] == [206, 1704, 3]
    assert answer["Content-Length"] == str(len(answer.body))
    head = buyer.request("HEAD", "/me/export")
    assert (head.status, head["Content-Length"], head["ETag"]) == (200, answer["Content-Length"], answer["ETag"])
    again = buyer.get("/me/export", headers={"If-None-Match": answer["ETag"]})
    assert (again.status, again.body, again["ETag"], again["Content-Length"]) == (304, b"", answer["ETag"], None)


def test_a_purchase_in_the_middle_of_an_export_is_not_in_it_and_is_in_the_next(make, ana, clients, service, midway, turns):
    product = make.product(stock=50)
    for _ in range(3):
        make.invoice(ana.id, {product: 1})
    before, bought = collected(service[0], ana.id), []

    def buy(_):
        if not bought:
            lines = {"products": [{"product_id": product, "quantity": 2}]}
            bought.append(clients(ana).post("/purchase_product", lines, headers={"Idempotency-Key": "k"}))

    midway(buy)
    client = clients(ana)
    assert client.get("/me/export").body == before
    assert bought[0].status == 201
    found = client.get("/me/export").json()
    assert bought[0].json()["id"] == found["invoices"][0]["id"]
    assert [key["key"] for key in found["idempotency_keys"]] == ["k"]


def test_the_memory_that_an_export_takes_is_far_below_its_size(make, ana, service, enlarge):
    enlarge(ana, 400, entries=20_000)
    tracemalloc.start()
    try:
        made = exports.make_export(request_of(service[0], ana))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with closing(made.file):
        assert made.size > 14_000_000
        assert made.size == made.file.seek(0, 2)
    assert peak < 12_000_000, peak


@pytest.mark.slow
def test_an_export_may_take_longer_than_a_request(make, ana, buyer, midway, turns):
    for _ in range(4):
        make.invoice(ana.id)
    midway(lambda _: time.sleep(1))
    started = time.monotonic()
    answer = buyer.get("/me/export")
    assert (answer.status, len(answer.json()["invoices"])) == (200, 4)
    assert time.monotonic() - started > 4


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def waiting_for_its_making(turns):
    """Nobody's export is made, for the block."""
    with turns.making(time.monotonic() + FAR):
        yield


def test_a_second_export_of_an_account_is_refused_at_once_while_the_first_one_is_made(make, ana, clients, turns):
    with ThreadPoolExecutor(2) as pool:
        with waiting_for_its_making(turns):
            first = pool.submit(clients(ana).get, "/me/export")
            eventually(lambda: ana.id in turns._turns)
            refused = at_once(*[partial(clients(ana).get, "/me/export") for _ in range(4)])
            other = pool.submit(clients(make.user()).get, "/me/export")
            eventually(lambda: len(turns._turns) == 2)
            assert not first.done()
        assert [answer.status for answer in refused] == [429] * 4
        assert {(answer["Retry-After"], answer.json()["type"]) for answer in refused} == {("1", "/problems/too-many-requests")}
        assert (first.result().status, other.result().status) == (200, 200)
    assert clients(ana).get("/me/export").status == 200


def test_a_second_export_of_an_account_is_refused_while_the_first_one_is_read(service, ana, clients, enlarge, turns):
    enlarge(ana, 500)  # more than the buffers of the sockets hold
    reader = Asking(service[0], service[1].address, ana, receive_buffer=20_000)
    eventually(lambda: any(turn.sending for turn in turns._turns.values()))
    # A thread and a connection that were held would be missing here.
    eventually(lambda: service[1]._lanes._exports.active_count == 0)
    with Client(service[1].address, service[0].tokens.issue(ana)) as again:
        assert again.get("/me/export").status == 429
    status, body = reader.answer()
    reader.close()
    assert status == 200
    assert body == collected(service[0], ana.id)
    eventually(lambda: not turns._turns)


def test_there_is_room_for_so_many_exports_and_no_more(make, ana, buyer, turns):
    taken = [turns.take(-number, f"client {number}") for number in range(MAX_ACCOUNTS)]
    refused = buyer.get("/me/export")
    assert (refused.status, refused["Retry-After"]) == (503, "1")
    for turn in taken:
        turn.end()
    assert buyer.get("/me/export").status == 200


def test_a_turn_that_has_ended_does_not_end_the_next_one_of_its_account():
    turns = ExportTurns()
    first = turns.take(7, "here")
    first.end()
    turns.take(7, "here")
    first.end()
    with pytest.raises(exports.errors.TooManyRequests):
        turns.take(7, "here")


def test_the_accounts_of_one_address_do_not_take_the_exports_of_others(make, ana, buyer, turns):
    taken = [turns.take(-number, "192.0.2.7") for number in range(MAX_OF_CLIENT)]
    with pytest.raises(exports.errors.TooManyRequests) as refused:
        turns.take(-99, "192.0.2.7")
    assert refused.value.headers["Retry-After"] == "1"
    assert buyer.get("/me/export").status == 200
    taken[0].end()
    for turn in (turns.take(-99, "192.0.2.7"), *taken):
        turn.end()


def test_who_goes_away_while_its_export_waits_or_is_refused_then_gives_its_turn_back(make, ana, admin, service, clients, turns):
    gone, out = make.user(), make.user()
    with ThreadPoolExecutor(2) as pool:
        with waiting_for_its_making(turns):
            first = pool.submit(clients(ana).get, "/me/export")
            eventually(lambda: ana.id in turns._turns)
            leaving = Asking(service[0], service[1].address, gone)
            disabled = pool.submit(clients(out).get, "/me/export")
            eventually(lambda: len(turns._turns) == 3)
            leaving.close()
            assert admin.patch(f"/admin/users/{out.id}", {"active": False}).status == 200
        assert (first.result().status, disabled.result().status) == (200, 401)
    eventually(lambda: not turns._turns)


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off_and_its_turn_given_back(ana, enlarge, with_settings):
    enlarge(ana, 500)
    with with_settings(read_seconds=2) as (services, server):
        dead = Asking(services, server.address, ana, receive_buffer=20_000)
        eventually(lambda: services.exports._turns)
        (turn,) = services.exports._turns.values()
        eventually(lambda: not services.exports._turns, 8)
        assert turn.sending
        with pytest.raises((ConnectionError, http.client.IncompleteRead)):
            dead.answer()
        dead.close()


def test_a_client_that_goes_away_while_it_reads_gives_its_turn_back(ana, service, enlarge, turns):
    enlarge(ana, 500)
    reader = Asking(service[0], service[1].address, ana, receive_buffer=20_000)
    eventually(lambda: any(turn.sending for turn in turns._turns.values()))
    reader.connection.recv(1000)
    reader.close()
    eventually(lambda: not turns._turns, 5)


@pytest.mark.slow
def test_eight_connections_of_one_account_keep_no_other_from_its_export(make, ana, enlarge, with_settings):
    enlarge(ana, 700)
    statuses, sizes, done = set(), set(), threading.Event()
    with with_settings(threads=4, pool_size=6) as (services, server):

        def ask():
            while not done.is_set():
                asking = Asking(services, server.address, ana)
                status, body = asking.answer()
                asking.close()
                statuses.add(status)
                sizes.add(len(body) > 20_000_000)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            with Client(server.address, services.tokens.issue(make.user())) as other:
                found = [other.get("/me/export").status for _ in range(30)]
                read = [other.get(path).status for path in ("/me", "/invoices", "/products", "/livez") * 10]
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert found == [200] * 30
    assert read == [200] * 40
    assert statuses == {200, 429}
    assert sizes == {True, False}


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_export_whose_connection_breaks_is_begun_anew(make, ana, buyer, service, terminate, midway, turns):
    for _ in range(3):
        make.invoice(ana.id)
    whole, ended = collected(service[0], ana.id), []

    def end_once(conn):
        if not ended:
            ended.append(conn.pgconn.backend_pid)
            terminate(ended[0])

    midway(end_once)
    answer = buyer.get("/me/export")
    assert (answer.status, answer.body) == (200, whole)
    assert ended


def test_a_database_that_is_lost_in_the_middle_is_a_503_and_nothing_was_sent(make, ana, buyer, terminate, midway, turns):
    for _ in range(3):
        make.invoice(ana.id)
    ended = []

    def end(conn):
        ended.append(conn.pgconn.backend_pid)
        terminate(ended[-1])

    midway(end)
    answer = buyer.get("/me/export")
    assert (answer.status, answer["Retry-After"], answer.json()["type"]) == (503, "1", "/problems/unavailable")
    assert len(ended) == 4
    midway(lambda _: None)
    assert buyer.get("/me/export").status == 200


@pytest.mark.slow
def test_an_export_that_makes_no_progress_ends(make, ana, buyer, midway, turns):
    for _ in range(2):
        make.invoice(ana.id)
    midway(lambda conn: conn.execute("SELECT pg_sleep(10)"))
    started = time.monotonic()
    assert buyer.get("/me/export").status == 503
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("fault", ["no folder", "no room"])
def test_an_export_that_cannot_be_written_is_a_503_and_a_small_one_needs_no_file(
    ana, buyer, clients, make, enlarge, monkeypatch, tmp_path, turns, fault
):
    enlarge(ana, 70)
    small = clients(make.user())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if fault == "no folder":
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, hard))  # bytes of a file
    try:
        refused, kept = buyer.get("/me/export"), small.get("/me/export")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        monkeypatch.undo()
    assert (refused.status, refused["Retry-After"]) == (503, "1")
    assert "no room" in refused.json()["detail"]
    assert kept.status == 200
    assert buyer.get("/me/export").status == 200
