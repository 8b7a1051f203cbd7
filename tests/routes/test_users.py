import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from petstore.auth.passwords import needs_rehash
from tests.factories import PASSWORD

ERASED = "email = NULL, password = NULL, role = 'user', active = false, erased_at = now()"
WEAK = "$argon2id$v=19$m=4096,t=1,p=1$"


def test_registering_gives_a_user_and_keeps_only_a_hash(make, anyone):
    answer = anyone.post("/register", {"email": "Ana@Example.com", "password": PASSWORD})
    assert answer.status == 201
    user = answer.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", user.pop("created_at"))
    assert user == {"id": 1, "email": "Ana@Example.com", "role": "user"}
    ((email, password, role),) = make.rows("SELECT email, password, role FROM users")
    assert (email, role) == ("Ana@Example.com", "user")
    assert re.fullmatch(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", password)


def test_a_known_email_is_a_conflict_in_whatever_case(make, anyone):
    make.user("ana@example.com")
    answer = anyone.post("/register", {"email": "ANA@example.COM", "password": PASSWORD})
    assert (answer.status, answer.json()["type"]) == (409, "/problems/email-taken")
    assert make.scalar("SELECT count(*) FROM users") == 1


def test_of_many_who_register_one_email_at_once_one_wins(make, clients):
    spellings = ["".join(map(random.Random(n).choice, zip("ana@example.com", "ANA@EXAMPLE.COM", strict=True))) for n in range(50)]

    def register(email):
        return clients().post("/register", {"email": email, "password": PASSWORD}).status

    with ThreadPoolExecutor(len(spellings)) as pool:
        statuses = sorted(pool.map(register, spellings))
    assert statuses == [201] + [409] * 49
    assert make.scalar("SELECT count(*) FROM users") == 1


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/email", "/password"]),
        ({"email": "ana@example.com"}, ["/password"]),
        ({"email": "ana@example.com", "password": PASSWORD, "role": "admin"}, ["/role"]),
        ({"email": "ana@example.com", "password": PASSWORD, "id": 7}, ["/id"]),
        ({"email": "ana", "password": PASSWORD}, ["/email"]),
        ({"email": "ana@exam ple.com", "password": PASSWORD}, ["/email"]),
        ({"email": "ana@example.com\n", "password": PASSWORD}, ["/email"]),
        ({"email": "a\u00a0na@example.com", "password": PASSWORD}, ["/email"]),
        ({"email": "ana\u200b@example.com", "password": PASSWORD}, ["/email"]),
        ({"email": f"{'a' * 243}@example.com", "password": PASSWORD}, ["/email"]),
        ({"email": ["ana@example.com"], "password": PASSWORD}, ["/email"]),
        ({"email": "ana@example.com", "password": "seven77"}, ["/password"]),
        ({"email": "ana@example.com", "password": "x" * 257}, ["/password"]),
        ({"email": "ana@example.com", "password": 12345678}, ["/password"]),
        ({"email": "ana@example.com", "password": "PassWord1"}, ["/password"]),
        ({"email": "ana@example.com", "password": "it's AnA's"}, ["/password"]),
        ({"email": "ana@localhost", "password": PASSWORD}, ["/email"]),
        ([], [""]),
    ],
)
def test_registering_says_what_is_wrong_and_where(make, anyone, body, pointers):
    answer = anyone.post("/register", body)
    assert answer.status == 422
    assert answer.pointers() == pointers
    assert make.scalar("SELECT count(*) FROM users") == 0


def test_an_error_never_repeats_a_password(anyone):
    answer = anyone.post("/register", {"email": "ana@example.com", "password": "s3cret!"})
    assert answer.status == 422
    assert b"s3cret!" not in answer.body


def test_an_email_of_254_characters_is_taken(anyone):
    assert anyone.post("/register", {"email": f"{'a' * 242}@example.com", "password": PASSWORD}).status == 201


def test_login_gives_a_token_that_opens_me(make, anyone, clients):
    make.user("someone@example.com")
    user = make.user("Ana@example.com")
    answer = anyone.post("/login", {"email": "aNA@example.com", "password": PASSWORD})
    assert (answer.status, answer["Cache-Control"]) == (200, "no-store")
    token = answer.json()["access_token"]
    assert answer.json().items() >= {"token_type": "Bearer", "expires_in": 900}.items()
    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    me = anyone.get("/me", headers={"Authorization": f"Bearer {token}"})
    assert me.status == 200
    assert (me.json()["id"], me.json()["email"], me.json()["role"]) == (user.id, "Ana@example.com", "user")
    assert set(me.json()) == {"id", "email", "role", "created_at"}


def test_a_wrong_password_and_an_unknown_email_are_the_same_answer(make, anyone):
    make.user("ana@example.com")
    wrong = anyone.post("/login", {"email": "ana@example.com", "password": "not this one"})
    unknown = anyone.post("/login", {"email": "bob@example.com", "password": "not this one"})
    for answer in (wrong, unknown):
        assert answer.status == 401
        assert answer["WWW-Authenticate"] == 'Bearer realm="petstore"'
    assert wrong.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}


def test_a_hash_with_weaker_parameters_is_replaced_at_login(make, anyone):
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    old = Argon2id(salt=b"0" * 16, length=32, iterations=1, lanes=1, memory_cost=4096).derive_phc_encoded(PASSWORD.encode())
    assert old.startswith(WEAK)
    user = make.user("ana@example.com", password=old)
    other = make.user("bob@example.com", password=old)
    credentials = {"email": "ana@example.com", "password": PASSWORD}
    assert anyone.post("/login", credentials | {"password": "wrong one"}).status == 401
    assert make.scalar("SELECT password FROM users WHERE id = %s", user.id) == old
    assert anyone.post("/login", credentials).status == 200
    new = make.scalar("SELECT password FROM users WHERE id = %s", user.id)
    assert new.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert anyone.post("/login", credentials).status == 200
    assert make.scalar("SELECT password FROM users WHERE id = %s", user.id) == new
    assert make.scalar("SELECT password FROM users WHERE id = %s", other.id) == old


def test_a_password_may_hold_any_characters(anyone):
    for number, password in enumerate(["пароль с пробелами", "🐈🐕🦎🐍🐈🐕🦎🐍", "\"\\'; drop table users; --", "zq7x" * 64]):
        credentials = {"email": f"user{number}@example.com", "password": password}
        assert anyone.post("/register", credentials).status == 201
        assert anyone.post("/login", credentials).status == 200
        assert anyone.post("/login", credentials | {"password": password[:-1] + "?"}).status == 401


def test_me_has_an_etag_and_answers_304(buyer):
    first = buyer.get("/me")
    assert first["Cache-Control"] == "private, no-cache"
    again = buyer.get("/me", headers={"If-None-Match": first["ETag"]})
    assert (again.status, again["ETag"]) == (304, first["ETag"])


def test_the_token_of_a_user_who_is_gone_is_refused(make, ana, buyer):
    product_id = make.product()
    make.conn.execute(f"UPDATE users SET {ERASED} WHERE id = %s", (ana.id,))
    bought = buyer.post("/purchase_product", {"products": [{"product_id": product_id, "quantity": 1}]})
    for answer in (buyer.get("/me"), bought):
        assert (answer.status, answer["WWW-Authenticate"]) == (401, 'Bearer realm="petstore", error="invalid_token"')
    assert make.stock(product_id) == 10


def test_the_token_of_an_admin_who_is_gone_changes_no_invoice(make, ana, admin):
    invoice_id = make.invoice(ana.id)
    make.conn.execute(f"UPDATE users SET {ERASED} WHERE role = 'admin'")
    assert admin.patch(f"/admin/invoices/{invoice_id}", {"status": "paid"}).status == 401
    assert make.rows("SELECT status FROM invoices") == [("pending",)]


@pytest.mark.parametrize(
    ("parameters", "weaker"),
    [
        ("m=19456,t=2,p=1", False),
        ("m=65536,t=3,p=4", False),
        ("m=65536,t=1,p=1", True),
        ("m=19455,t=9,p=1", True),
        ("m=9,t=2,p=1", True),
    ],
)
def test_a_hash_is_weaker_if_any_of_its_parameters_is(parameters, weaker):
    assert needs_rehash(f"$argon2id$v=19${parameters}$c2FsdA$aGFzaA") is weaker
