"""An account that is deleted while it is in use: nothing of it is dated after its end, and nobody waits in a circle."""

import pytest

from tests.factories import PASSWORD
from tests.routes.logins import age, held, in_order, login, logout, refresh, sid

ERASURE = {"current_password": PASSWORD}
# What the account has done, each with its date. What an admin does to its invoices later is the admin's.
DATED_AFTER = """
    SELECT w.what, w.created_at - u.erased_at
    FROM users AS u
    CROSS JOIN LATERAL (
        SELECT 'invoice' AS what, created_at FROM invoices WHERE user_id = u.id
        UNION ALL SELECT 'event', created_at FROM invoice_events WHERE actor_id = u.id
        UNION ALL SELECT 'login', created_at FROM sessions WHERE user_id = u.id
        UNION ALL SELECT action, created_at FROM audit_log WHERE actor_id = u.id
    ) AS w
    WHERE w.created_at > u.erased_at
"""


@pytest.fixture
def deadlocks(caplog):
    """Gives the lines of the log that tell of a deadlock. Its transaction is retried, so that no answer tells of it."""
    caplog.set_level("INFO", "petstore.db")
    return lambda: [record.getMessage() for record in caplog.records if "deadlock" in record.getMessage()]


def erase(client):
    return client.post("/me/delete", ERASURE)


def answers(futures):
    return [future.result().status for future in futures]


def test_a_purchase_that_commits_while_the_erasure_waits_is_dated_before_it(make, ana, clients):
    product = {"products": [{"product_id": make.product(), "quantity": 1}]}
    with held(make, "SELECT FROM users WHERE id = %s FOR KEY SHARE", ana.id):  # as a transaction of the account that runs long
        erasure = in_order(make, [lambda: erase(clients(ana))])
        assert clients(ana).post("/purchase_product", product).status == 201
    assert answers(erasure) == [204]
    assert make.rows(DATED_AFTER) == []
    assert make.rows("SELECT user_id FROM invoices") == [(ana.id,)]
    # The log tells it in the order in which it happened.
    assert make.rows("SELECT action FROM audit_log WHERE actor_id = %s ORDER BY created_at", ana.id) == [
        ("invoice.create",),
        ("user.erase",),
    ]


def test_a_purchase_that_waits_for_the_erasure_is_refused(make, ana, clients):
    product = {"products": [{"product_id": make.product(), "quantity": 1}]}
    make.conn.execute(
        "INSERT INTO idempotency_keys (user_id, route, key, fingerprint) VALUES (%s, '-', '-', sha256(''))", (ana.id,)
    )
    with held(make, "SELECT FROM idempotency_keys FOR UPDATE"):  # the erasure waits there, with the account locked
        both = in_order(make, [lambda: erase(clients(ana)), lambda: clients(ana).post("/purchase_product", product)])
    assert answers(both) == [204, 401]
    assert make.rows("SELECT id FROM invoices") == []
    assert make.rows(DATED_AFTER) == []


@pytest.mark.parametrize("how", ["logout", "reuse"])
def test_a_logout_while_the_erasure_deletes_the_logins_is_dated_before_it(make, ana, anyone, clients, how):
    first, second = login(anyone), login(anyone)  # deleted in this order
    if how == "reuse":
        assert refresh(anyone, second).status == 200
        age(make, second, 60)
    with held(make, "SELECT FROM sessions WHERE id = %s FOR UPDATE", sid(first)):  # the erasure waits there
        erasure = in_order(make, [lambda: erase(clients(ana))])
        assert logout(anyone, second).status == 204 if how == "logout" else refresh(anyone, second).status == 401
        assert make.scalar("SELECT count(*) FROM audit_log WHERE action = 'session.end'") == 1
    assert answers(erasure) == [204]
    assert make.rows(DATED_AFTER) == []
    assert (
        make.rows(
            "SELECT a.address FROM audit_addresses AS a JOIN audit_log AS l ON a.audit_id = l.id WHERE l.actor_id = %s", ana.id
        )
        == []
    )


def test_a_refresh_and_an_erasure_do_not_wait_for_each_other_in_a_circle(make, ana, anyone, clients, deadlocks):
    tokens = login(anyone)
    with held(make, "SELECT FROM sessions WHERE id = %s FOR UPDATE", sid(tokens)):
        both = in_order(make, [lambda: erase(clients(ana)), lambda: refresh(anyone, tokens)])
    assert answers(both) == [204, 401]
    assert deadlocks() == []
    assert make.rows("SELECT count(*) FROM refresh_tokens") == [(0,)]


def test_of_two_erasures_of_one_account_the_second_finds_it_gone(make, ana, clients, deadlocks):
    with held(make, "SELECT FROM users WHERE id = %s FOR KEY SHARE", ana.id):
        both = in_order(make, [lambda: erase(clients(ana)), lambda: erase(clients(ana))])
    assert sorted(answers(both)) == [204, 401]
    assert deadlocks() == []
    assert make.rows(DATED_AFTER) == []


def test_an_admin_who_leaves_and_changes_an_account_meanwhile_waits_in_no_circle(make, boss, ana, clients, deadlocks):
    other = make.user("second@example.com", role="admin")
    with held(make, "SELECT FROM users WHERE id = %s FOR KEY SHARE", boss.id):
        both = in_order(
            make,
            [lambda: erase(clients(boss)), lambda: clients(boss).patch(f"/admin/users/{other.id}", {"active": True})],
        )
    assert answers(both) == [204, 401]
    assert deadlocks() == []


def test_a_new_password_and_an_erasure_wait_in_no_circle(make, ana, clients, deadlocks):
    new = {**ERASURE, "new_password": "a staple of another make"}
    with held(make, "SELECT FROM users WHERE id = %s FOR SHARE", ana.id):  # as a login
        both = in_order(make, [lambda: erase(clients(ana)), lambda: clients(ana).post("/me/password", new)])
    assert answers(both) == [204, 401]
    assert deadlocks() == []
