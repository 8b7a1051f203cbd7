import json
import re
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from petstore.auth.passwords import hash_password
from petstore.settings import networks
from tests.client import Client
from tests.factories import PASSWORD
from tests.services import running
from tests.table_search import tables_with
from tests.waiting import eventually

NEW_PASSWORD = "a staple of another make"
ANA, BOB = "Ana@example.com", "bob@example.com"
ANAS_ADDRESS, BOBS_ADDRESS = "198.51.100.7", "2001:db8::b0b"
ANAS_WORDS, BOBS_WORDS = "Minka does not like it", "Rex ate it"
WRITTEN_BY_ADMIN = "came back in pieces"


@pytest.fixture(scope="module")
def behind_proxy(settings):
    """A service that believes what this machine says of addresses, so that each client can have one of its own."""
    with running(replace(settings, trusted_proxies=networks("127.0.0.1"))) as (_, server):
        yield server.address


class Traveller(Client):
    """A client with an address of its own."""

    def __init__(self, server, home):
        super().__init__(server)
        self.home = home

    def request(self, method, path, *body, headers=None, **more):
        return super().request(method, path, *body, headers={"X-Forwarded-For": self.home} | (headers or {}), **more)


@pytest.fixture
def travellers(make, behind_proxy):
    """Logs an account in from an address: travellers(email, address)."""
    made = []

    def log_in(email, home):
        client = Traveller(behind_proxy, home)
        made.append(client)
        answer = client.post("/login", {"email": email, "password": PASSWORD})
        assert answer.status == 200
        client.token = answer.json()["access_token"]
        return client

    yield log_in
    for client in made:
        client.close()


def live(client, admin, words, key):
    """Let a customer do all there is to do; the ids of the invoices: one cancelled, one credited, one refunded."""
    (product,) = (item["id"] for item in client.get("/products").json()["items"])
    order = {"products": [{"product_id": product, "quantity": 3}]}
    bought = client.post("/purchase_product", order, headers={"Idempotency-Key": key})
    ids = [bought.json()["id"]] + [client.post("/purchase_product", order).json()["id"] for _ in range(2)]
    assert client.post(f"/invoices/{ids[0]}/cancel", {"reason": words}).status == 200
    for invoice_id in ids[1:]:
        assert admin.patch(f"/admin/invoices/{invoice_id}", {"status": "paid"}).status == 200
    credit = {"lines": [{"product_id": product, "quantity": 1}], "reason": WRITTEN_BY_ADMIN}
    assert admin.post(f"/admin/invoices/{ids[1]}/credit_notes", credit).status == 201
    assert admin.patch(f"/admin/invoices/{ids[2]}", {"status": "refunded"}).status == 200
    return ids


@pytest.fixture
def lives(make, ana, admin, travellers):
    """Ana and bob, each with something of every kind: clients and invoice ids."""
    make.user(BOB)
    make.product(stock=100)
    both = travellers(ANA, ANAS_ADDRESS), travellers(BOB, BOBS_ADDRESS)
    ids = live(both[0], admin, ANAS_WORDS, "anas-own-key"), live(both[1], admin, BOBS_WORDS, "bobs-own-key")
    return both, ids


def in_order(make, *requests):
    """The answers to requests of which each waits for the locks that the test holds, before the next is sent."""
    pool, futures = ThreadPoolExecutor(len(requests)), []
    for number, request in enumerate(requests, 1):
        futures.append(pool.submit(request))
        waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
        eventually(lambda number=number, waiting=waiting: make.scalar(waiting) == number, seconds=5)
    pool.shutdown(wait=False)
    return futures


def people(make):
    return make.rows("SELECT * FROM users ORDER BY id")


# ── a new password ───────────────────────────────────────────────────────────────────────────────────────────────────────


def change(client, current=PASSWORD, new=NEW_PASSWORD):
    return client.post("/me/password", {"current_password": current, "new_password": new})


def test_a_new_password_is_kept_as_a_hash_of_the_account_alone(make, ana, buyer):
    bob = make.user(BOB)
    old = dict(make.rows("SELECT id, password FROM users"))
    answer = change(buyer)
    assert (answer.status, answer.body, answer["Cache-Control"]) == (204, b"", "no-store")
    new = dict(make.rows("SELECT id, password FROM users"))
    assert re.fullmatch(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", new[ana.id])
    assert new[ana.id] != old[ana.id]
    assert new[bob.id] == old[bob.id]
    assert tables_with(make.conn, NEW_PASSWORD) == []


def test_the_new_password_logs_in_and_the_old_one_does_not(make, ana, buyer, anyone):
    change(buyer)
    assert anyone.post("/login", {"email": ANA, "password": PASSWORD}).status == 401
    assert anyone.post("/login", {"email": ANA, "password": NEW_PASSWORD}).status == 200


def assert_wrong_password(answer):
    """It is no 401: the login is good, and a client must not refresh it and send the same again."""
    assert (answer.status, answer.json()["type"], answer["WWW-Authenticate"]) == (422, "/problems/invalid", None)
    assert answer.json()["errors"] == [{"pointer": "/current_password", "detail": "is wrong"}]


def test_a_wrong_current_password_changes_nothing(make, ana, buyer):
    before = people(make)
    answer = change(buyer, current="not this one")
    assert_wrong_password(answer)
    assert people(make) == before
    assert buyer.get("/me").status == 200


@pytest.mark.parametrize("new", ["seven77", "x" * 257, "password1", "i am ANA!"])
def test_a_new_password_must_be_a_good_one_and_is_never_repeated(make, ana, buyer, new):
    before = people(make)
    answer = change(buyer, new=new)
    assert (answer.status, answer.pointers()) == (422, ["/new_password"])
    assert new.encode() not in answer.body
    assert people(make) == before
    assert buyer.get("/me").status == 200


def test_of_two_new_passwords_at_once_one_counts(make, ana, clients, anyone):
    wanted = [NEW_PASSWORD, "the one of somebody else"]
    with make.conn.transaction():
        make.conn.execute("SELECT FROM users WHERE id = %s FOR NO KEY UPDATE", (ana.id,))
        # Both have proved the old password by now.
        futures = in_order(make, *(partial(change, clients(ana), new=new) for new in wanted))
    statuses = [future.result().status for future in futures]
    assert sorted(statuses) == [204, 422]
    assert make.rows("SELECT token_version FROM users") == [(2,)]
    for new, status in zip(wanted, statuses, strict=True):
        assert anyone.post("/login", {"email": ANA, "password": new}).status == (200 if status == 204 else 401)


# ── all that is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_export_holds_all_that_is_kept_about_the_caller_and_nothing_of_others(make, lives, admin, ana):
    (client, other), (ids, bobs_ids) = lives
    answer = client.get("/me/export")
    assert (answer.status, answer["Cache-Control"]) == (200, "private, no-cache")
    export = answer.json()
    assert set(export) == {"profile", "sessions", "invoices", "audit", "idempotency_keys"}
    assert export["profile"] == client.get("/me").json()
    # Each invoice as it is shown alone: lines, events with reasons, credit notes.
    assert export["invoices"] == [client.get(f"/invoices/{invoice_id}").json() for invoice_id in sorted(ids, reverse=True)]
    assert ANAS_WORDS in answer.body.decode()
    logins = make.rows("SELECT id, host(address) FROM sessions WHERE user_id = %s ORDER BY id", ana.id)
    assert [(session["id"], session["address"]) for session in export["sessions"]] == logins
    assert logins[-1][1] == ANAS_ADDRESS
    assert set(export["sessions"][0]) == {"id", "address", "created_at", "expires_at", "ended_at", "end_reason", "live"}
    made = [("session.start", ANAS_ADDRESS)] + [("invoice.create", ANAS_ADDRESS)] * 3 + [("invoice.update", ANAS_ADDRESS)]
    assert [(entry["action"], entry["address"]) for entry in export["audit"]] == made
    (key,) = export["idempotency_keys"]
    assert (key.pop("created_at")[:2], key) == (
        "20",
        {"route": "POST /purchase_product", "key": "anas-own-key", "status": 201, "location": f"/invoices/{ids[0]}"},
    )
    for text in (BOB, BOBS_ADDRESS, BOBS_WORDS, "bobs-own-key", "argon2id"):
        assert text not in answer.body.decode()
    assert not {invoice["id"] for invoice in export["invoices"]} & set(bobs_ids)
    assert other.get("/me/export").json()["profile"]["email"] == BOB


def test_an_export_has_every_invoice_however_many(make, ana, buyer):
    for _ in range(103):
        make.invoice(ana.id)
    assert len(buyer.get("/me/export").json()["invoices"]) == 103


def test_an_export_of_a_new_account_is_almost_empty(make, ana, buyer):
    export = buyer.get("/me/export").json()
    assert [len(export[name]) for name in ("sessions", "invoices", "audit", "idempotency_keys")] == [1, 0, 0, 0]


def test_an_export_tells_which_logins_live(make, ana, clients):
    login = (
        "INSERT INTO sessions (user_id, token_version, created_at, expires_at, ended_at, end_reason) VALUES"
        " (%s, %s, now() - interval '9 days', now() + %s * interval '1 day', %s, %s)"
    )
    for version, days, ended, reason in ((9, 1, None, None), (1, -1, None, None), (1, 1, "now", "logout"), (1, 1, None, None)):
        make.conn.execute(login, (ana.id, version, days, ended, reason))
    sessions = clients(ana).get("/me/export").json()["sessions"]
    # The caller's own; of another password; expired; logged out; and another that lives.
    assert [session["live"] for session in sessions] == [True, False, False, False, True]


def test_an_export_tells_what_others_did_to_the_account_and_not_from_where(make, boss, admin, ana, clients):
    bob = make.user(BOB)
    for user, body in ((ana, {"role": "admin"}), (bob, {"role": "admin"}), (ana, {"role": "user"})):
        assert admin.patch(f"/admin/users/{user.id}", body).status == 200
    # A product with the id of the account is another thing.
    assert [make.product(), make.product()][1] == ana.id
    assert admin.patch(f"/modify_product?id={ana.id}", {"price": 1}).status == 200
    entries = clients(ana).get("/me/export").json()["audit"]
    assert [(entry["actor_id"], entry["action"], entry["subject_id"]) for entry in entries] == [
        (boss.id, "user.update", ana.id)
    ] * 2
    assert [entry["address"] for entry in entries] == [None, None]


def test_an_export_can_be_asked_for_again_and_has_an_etag(make, ana, buyer):
    first = buyer.get("/me/export")
    again = buyer.get("/me/export", headers={"If-None-Match": first["ETag"]})
    assert (again.status, again["ETag"]) == (304, first["ETag"])


# ── an account is deleted ────────────────────────────────────────────────────────────────────────────────────────────────


def delete(client, current=PASSWORD):
    return client.post("/me/delete", {"current_password": current})


def test_nothing_personal_is_left_in_any_table_after_a_deletion(make, lives, ana):
    (client, _), _ = lives
    personal = {ANA: ["users"], ANAS_ADDRESS: ["audit_addresses", "sessions"], ANAS_WORDS: ["invoice_events"]}
    personal |= {"anas-own-key": ["idempotency_keys"]}
    assert {text: tables_with(make.conn, text) for text in personal} == personal
    of_bob = {text: tables_with(make.conn, text) for text in (BOB, BOBS_ADDRESS, BOBS_WORDS, "bobs-own-key")}
    answer = delete(client)
    assert (answer.status, answer.body, answer["Cache-Control"]) == (204, b"", "no-store")
    assert {text: tables_with(make.conn, text) for text in personal} == {text: [] for text in personal}
    assert {text: tables_with(make.conn, text) for text in of_bob} == of_bob
    assert all(of_bob.values())
    erased = make.rows(
        "SELECT email, password, role, active, token_version, erased_at IS NOT NULL FROM users WHERE id = %s", ana.id
    )
    assert erased == [(None, None, "user", False, 2, True)]
    for table in ("sessions", "idempotency_keys"):
        assert make.scalar(f"SELECT count(*) FROM {table} WHERE user_id = %s", ana.id) == 0


def test_after_a_deletion_the_invoices_remain_and_admins_still_read_them(make, lives, admin, ana):
    (client, _), (ids, bobs_ids) = lives
    tables = ("invoices", "invoice_details", "credit_notes", "credit_note_lines", "stock_movements", "number_series")
    books = {table: make.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables}
    shown = {invoice_id: admin.get(f"/invoices/{invoice_id}").json() for invoice_id in ids + bobs_ids}
    events = make.rows("SELECT id, invoice_id, from_status, to_status, actor_id, restocked FROM invoice_events ORDER BY id")
    assert delete(client).status == 204
    assert {table: make.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables} == books
    assert (
        make.rows("SELECT id, invoice_id, from_status, to_status, actor_id, restocked FROM invoice_events ORDER BY id") == events
    )
    (cancelled,) = (event for event in shown[ids[0]]["events"] if event["to_status"] == "cancelled")
    assert cancelled["reason"] == ANAS_WORDS
    cancelled["reason"] = None  # only that was the customer's own
    assert {invoice_id: admin.get(f"/invoices/{invoice_id}").json() for invoice_id in ids + bobs_ids} == shown
    listed = admin.get(f"/admin/invoices?user_id={ana.id}").json()["items"]
    assert sorted(item["id"] for item in listed) == sorted(ids)
    assert admin.patch(f"/admin/invoices/{ids[1]}", {"status": "shipped"}).status == 200


def test_a_deleted_account_is_out_at_once(make, lives, anyone):
    (client, other), _ = lives
    make.user("third@example.com")
    second_login = anyone.post("/login", {"email": ANA, "password": PASSWORD}).json()
    assert delete(client).status == 204
    assert client.get("/me").status == 401
    assert client.get("/me/export").status == 401
    assert anyone.get("/me", headers={"Authorization": f"Bearer {second_login['access_token']}"}).status == 401
    assert anyone.post("/refresh", {"refresh_token": second_login["refresh_token"]}).status == 401
    gone, wrong = (
        anyone.post("/login", {"email": email, "password": password})
        for email, password in ((ANA, PASSWORD), ("third@example.com", "not this one"))
    )
    assert gone.status == wrong.status == 401
    assert gone.json() | {"request_id": ""} == wrong.json() | {"request_id": ""}
    assert other.get("/me").status == 200


def test_the_email_of_a_deleted_account_can_be_registered_anew_and_inherits_nothing(make, lives, anyone, ana):
    (client, _), _ = lives
    assert anyone.post("/register", {"email": ANA.upper(), "password": PASSWORD}).status == 409
    assert delete(client).status == 204
    again = anyone.post("/register", {"email": ANA, "password": NEW_PASSWORD})
    assert again.status == 201
    assert again.json()["id"] not in {user_id for (user_id,) in make.rows("SELECT user_id FROM invoices")} | {ana.id}
    anyone.token = anyone.post("/login", {"email": ANA, "password": NEW_PASSWORD}).json()["access_token"]
    assert anyone.get("/invoices").json()["items"] == []
    export = anyone.get("/me/export").json()
    assert [len(export[name]) for name in ("sessions", "invoices", "idempotency_keys")] == [1, 0, 0]
    assert [entry["action"] for entry in export["audit"]] == ["user.create", "session.start"]


def test_a_wrong_current_password_deletes_nothing(make, lives):
    (client, _), _ = lives
    before = people(make), make.rows("SELECT * FROM sessions"), make.rows("SELECT * FROM idempotency_keys")
    assert_wrong_password(delete(client, "not this one"))
    assert (people(make), make.rows("SELECT * FROM sessions"), make.rows("SELECT * FROM idempotency_keys")) == before
    assert client.get("/me").status == 200


@pytest.mark.slow  # they dead-lock, and PostgreSQL looks for that after a second
def test_an_account_is_deleted_once(make, ana, clients):
    with make.conn.transaction():
        make.conn.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (ana.id,))
        futures = in_order(make, lambda: delete(clients(ana)), lambda: delete(clients(ana)))
    assert sorted(future.result().status for future in futures) == [204, 401]
    assert make.scalar("SELECT count(*) FROM audit_log WHERE action = 'user.erase'") == 1


def test_a_deletion_with_a_password_that_was_right_when_it_was_checked_deletes_nothing(make, ana, clients):
    other = hash_password(NEW_PASSWORD)
    with make.conn.transaction():
        make.conn.execute("UPDATE users SET password = %s WHERE id = %s", (other, ana.id))
        (answer,) = in_order(make, lambda: delete(clients(ana)))
    assert_wrong_password(answer.result())
    assert make.rows("SELECT email, password, active FROM users") == [(ANA, other, True)]
    assert make.scalar("SELECT count(*) FROM sessions") == 1


@pytest.mark.parametrize("under_way", ["purchase", "cancellation"])
def test_a_write_under_way_leaves_nothing_behind_of_who_deletes_the_account(make, ana, travellers, under_way):
    product_id = make.product(stock=10)
    one, two = travellers(ANA, ANAS_ADDRESS), travellers(ANA, ANAS_ADDRESS)
    order = {"products": [{"product_id": product_id, "quantity": 1}]}
    invoice_id = one.post("/purchase_product", order).json()["id"]
    write = {
        "purchase": lambda: one.post("/purchase_product", order, headers={"Idempotency-Key": "anas-own-key"}),
        "cancellation": lambda: one.post(f"/invoices/{invoice_id}/cancel", {"reason": ANAS_WORDS}),
    }[under_way]
    with ThreadPoolExecutor() as pool:
        with make.conn.transaction():
            make.conn.execute("SELECT FROM products FOR UPDATE")
            (written,) = in_order(make, write)
            deleted = pool.submit(delete, two)
            with suppress(NotYet):
                deleted.result(0.5)  # it may wait for the write, or be done by now
        assert written.result().status in (200, 201, 401)
        assert deleted.result().status == 204
    for text in (ANA, ANAS_ADDRESS, ANAS_WORDS, "anas-own-key"):
        assert tables_with(make.conn, text) == []


def test_the_data_of_a_deleted_account_is_no_longer_in_the_log(make, lives, admin, ana):
    (client, _), _ = lives
    assert delete(client).status == 204
    entries = admin.get(f"/admin/audit?actor={ana.id}").json()["items"]
    assert entries[0]["action"] == "user.erase"
    assert len(entries) == 6  # a login, three purchases, a cancellation: what was done stays
    assert "@" not in json.dumps(entries)


# ── there is always an admin ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["delete", "demotion", "disabling", "both"])
def test_the_last_active_admin_cannot_go(make, boss, admin, ana, way):
    disabled = make.user("former@example.com", role="admin")
    make.conn.execute("UPDATE users SET active = false WHERE id = %s", (disabled.id,))
    before = people(make)
    changes = {"demotion": {"role": "user"}, "disabling": {"active": False}, "both": {"role": "user", "active": False}}
    answer = delete(admin) if way == "delete" else admin.patch(f"/admin/users/{boss.id}", changes[way])
    assert (answer.status, answer.json()["type"]) == (409, "/problems/last-admin")
    assert people(make) == before
    assert make.rows("SELECT id FROM audit_log WHERE actor_id = %s", boss.id) == []
    assert admin.get("/admin/users").status == 200


@pytest.mark.parametrize("way", ["delete", "demotion", "disabling"])
def test_an_admin_who_is_not_the_last_one_can_go(make, boss, admin, way):
    other = make.user("other@example.com", role="admin")
    changes = {"demotion": {"role": "user"}, "disabling": {"active": False}}
    answer = delete(admin) if way == "delete" else admin.patch(f"/admin/users/{boss.id}", changes[way])
    assert answer.status == (204 if way == "delete" else 200)
    assert make.rows("SELECT id FROM users WHERE role = 'admin' AND active") == [(other.id,)]
    assert admin.get("/admin/users").status == (403 if way == "demotion" else 401)


def test_the_last_admin_may_stay_what_he_is_and_others_may_go(make, boss, admin, ana, buyer):
    assert admin.patch(f"/admin/users/{boss.id}", {"role": "admin"}).status == 200
    assert admin.patch(f"/admin/users/{boss.id}", {"role": "admin", "active": True}).status == 200
    assert admin.patch(f"/admin/users/{make.user().id}", {"active": False, "role": "user"}).status == 200
    assert delete(buyer).status == 204
    assert make.rows("SELECT id FROM users WHERE role = 'admin' AND active") == [(boss.id,)]


@pytest.mark.parametrize(
    "ways", [("demotion", "demotion"), ("disabling", "demotion"), ("delete", "disabling"), ("delete", "delete")]
)
def test_of_two_admins_who_go_at_the_same_time_one_stays(make, boss, clients, ways):
    """Demoted or disabled by each other, or deleting themselves."""
    other = make.user("other@example.com", role="admin")

    def go(goal, way):
        if way == "delete":
            return delete(clients(goal))
        by = boss if goal is other else other
        return clients(by).patch(f"/admin/users/{goal.id}", {"demotion": {"role": "user"}, "disabling": {"active": False}}[way])

    with make.conn.transaction():
        make.conn.execute("SELECT FROM users WHERE role = 'admin' ORDER BY id FOR NO KEY UPDATE")
        futures = in_order(make, lambda: go(other, ways[0]), lambda: go(boss, ways[1]))
    answers = [future.result() for future in futures]
    # PostgreSQL lets either of them be first; and who has gone meanwhile is nobody to answer to.
    (done,) = (answer for answer in answers if answer.status < 300)
    (refused,) = (answer for answer in answers if answer is not done)
    assert refused.json()["type"] in ("/problems/last-admin", "/problems/login-ended")
    stays = boss if done is answers[0] else other
    assert make.rows("SELECT id FROM users WHERE role = 'admin' AND active") == [(stays.id,)]
