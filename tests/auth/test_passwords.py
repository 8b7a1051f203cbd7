"""Which passwords are taken: by their length and by how common they are, whatever they are made of, and to the last character."""

from __future__ import annotations

import json

import pytest

from petstore.auth.passwords import hash_password, password_fault, verify_password
from petstore.settings import Settings
from petstore.web.validation import SCHEMAS
from tests.client import Client
from tests.factories import PASSWORD

ANA = "ana@example.com"
LENGTH = "must have 8 to 256 characters"
COMMON = "is among the most common passwords"
EMAIL = "must have at least 8 characters besides the part of your email"
UNSEEN = "must have at least 8 characters that can be seen"
FEW = "must have at least 4 different characters"
NAME = "must not be the name of this service"
TEXT = "zq7-Xk4v " * 29  # 261 characters
CATS = "\U0001f408\U0001f415\U0001f98e\U0001f40d" * 65  # 260 characters that UTF-16 writes as two each
LONG_DECOMPOSED = "a\u0301e\u0301i\u0301o\u0301" * 65

E_ACUTE, COMBINED = "\u00e9", "e\u0301"  # é, in one and in two code points
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # one sign to see, five code points


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("", LENGTH),
        ("zq7-xk4", LENGTH),
        ("zq7-xk4v", None),
        ("zq7-xk4v ", None),
        (TEXT[:256], None),
        (TEXT[:257], LENGTH),
        # Characters are code points of the NFC form: neither bytes, nor UTF-16 units, nor what is seen as one sign.
        (CATS[:7], LENGTH),
        (CATS[:8], None),
        (CATS[:256], None),
        (CATS[:257], LENGTH),
        (FAMILY, LENGTH),
        (FAMILY * 2 + "\U0001f408", UNSEEN),  # of 11 code points, four are joiners
        (FAMILY * 2 + "\U0001f408\U0001f415", None),
        (LONG_DECOMPOSED[:14], LENGTH),
        (LONG_DECOMPOSED[:16], None),
        (LONG_DECOMPOSED[:512], None),
        (LONG_DECOMPOSED[:514], LENGTH),
        ("wzxq" + "\u0301" * 4, None),  # which nothing composes
        # No rules about what it is made of.
        ("correct horse battery", None),
        ("ZQXKVJWP", None),
        ("пароль с пробелами", None),
        ("'; DROP TABLE users; --", None),
        # But what cannot be seen does not count, and four different characters there must be.
        ("\u200b" * 8, UNSEEN),
        ("\u200b" * 8 + "zq7-xk4", UNSEEN),
        ("\u200b" * 8 + "zq7-xk4v", None),
        ("zq7-xk4\x1b", UNSEEN),
        ("zq7-xk4\u202e\ufeff", UNSEEN),
        ("zq7-xk4\u3164\u115f\ufe0f\u2800\u034f\U000e0101", UNSEEN),
        (" " * 8, FEW),
        ("\t\n\r \u00a0\u2003\u3000 ", FEW),
        ("aaaaaaaa", FEW),
        ("aAaAaAaAaA", FEW),
        ("x" * 256, FEW),
        ("1212 1212 3", FEW),
        ("abc abc abc", FEW),
        ("abc abc abcd", None),
        # Nor the name of the service, however it is decorated.
        ("petstore", NAME),
        ("Petstore2026!", NAME),
        ("**PETSTORE**", NAME),
        ("pet-store-1", NAME),
        ("petstorepetstore", NAME),
        ("\uff50\uff45\uff54\uff53\uff54\uff4f\uff52\uff45", NAME),
        ("my petstore", None),
        ("petstores", None),
        ("4711-0815-2398", None),
        # Common ones, in any case.
        ("password", COMMON),
        ("PASSWORD", COMMON),
        ("PassWord", COMMON),
        ("12345678", COMMON),
        ("password1", COMMON),
        ("Trustno1", COMMON),
        ("1qaz2wsx", COMMON),
        ("\u017funshine", COMMON),  # ſ is an s to whoever ignores case
        ("password-", None),
        (" password", None),
    ],
)
def test_what_a_new_password_may_be(password, fault):
    found = password_fault(password, ANA, Settings())
    assert found == fault if fault in (None, LENGTH) else found.startswith(fault)


@pytest.mark.parametrize(
    ("email", "password", "good"),
    [
        ("ana@example.com", "xx-ana-xx", False),
        ("ana@example.com", "Banana-7x", False),
        ("ana@example.com", "Another-Iguana-88", True),  # 14 characters without it
        ("ana@example.com", "zq7-xk4ana", False),  # 7
        ("ana@example.com", "zq7-xk4anav", True),  # 8
        ("ana@example.com", "zq7-ANA-xk4v", True),
        ("ana@example.com", "ana-ana-ana-ana-1", False),
        ("ana@example.com", "zq7-xkana\u200b\u200b\u200b", False),  # of what is left, 6 can be seen
        ("ana@example.com", "xx-ANA-xx", False),
        ("ANA@example.com", "xx-aNa-xx", False),
        ("ana@example.com", "xx-example-xx", True),  # the local part only
        ("ana@example.com", "xx-a.n.a-xx", True),
        ("anastasia@example.com", "xx-ana-xx", True),
        ("anastasia.petrova@example.com", "Anastasia.Petrova!", False),
        ("an@example.com", "xx-an-xx", True),  # so short a one is in too many
        ("a@example.com", "xx-a-xy-aaaa", True),
        ("\U0001f408\U0001f408\U0001f408@example.com", "xx-\U0001f408\U0001f408\U0001f408-xy", False),
        (f"zo{E_ACUTE}@example.com", f"xx-zo{COMBINED}-xx", False),
        (f"zo{COMBINED}@example.com", f"xx-ZO{E_ACUTE.upper()}-xx", False),
        ("straße@example.com", "xx-STRASSE-xx", False),
    ],
)
def test_the_local_part_of_the_email_does_not_count_in_a_password(email, password, good):
    fault = password_fault(password, email, Settings())
    assert fault is None if good else fault.startswith(EMAIL)


@pytest.mark.parametrize("minimum", [8, 15, 128])
def test_the_minimum_is_a_setting(minimum):
    wanted, text = Settings(password_min=minimum), "ждиф" * 32
    assert password_fault(text[: minimum - 1], ANA, wanted) == f"must have {minimum} to 256 characters"
    assert password_fault(text[: minimum - 1] + "\u200b", ANA, wanted) == f"{UNSEEN}, or are blanks".replace("8", str(minimum))
    assert password_fault(text[:minimum], ANA, wanted) is None


@pytest.mark.parametrize(
    ("issuer", "password", "good"),
    [
        ("Zoo Berlin", "zooberlin!", False),
        ("Zoo Berlin", "Zoo.Berlin.1844", False),
        ("Zoo Berlin", "petstore", False),  # who knows the software tries this one
        ("Zoo Berlin", "zoo hamburg 1", True),
        ("https://api.zoo.example", "https-api.zoo.example", False),
        ("https://petshop.example", "petshop.example", False),
        ("https://petshop.example", "petshop12", False),
        ("https://petshop.example", "petshop and more", True),
        ("an", "4711-an-0815", True),  # so short a one is in too many
        ("4711", "4711-0815-2398", True),
    ],
)
def test_a_password_is_not_the_name_of_the_issuer(issuer, password, good):
    fault = password_fault(password, ANA, Settings(issuer=issuer))
    assert fault is None if good else fault.startswith(NAME)


@pytest.mark.parametrize(
    "password", ["", "zq7-xk4", "x" * 257, "password1", "PassWord", "xx-ana-xx", "anaana", "aaaaaaaa", "petstore1"]
)
def test_a_fault_never_repeats_the_password(password):
    fault = password_fault(password, ANA, Settings())
    assert fault
    assert not password or password not in fault


@pytest.mark.parametrize(
    "password",
    [
        "x" * 256,
        "\U0001f408" * 256,  # 1,024 bytes
        f"{'y' * 71}zz",  # 73 bytes: more than bcrypt ever reads
        f"{'y' * 126}zz",
    ],
)
def test_every_character_of_a_password_counts(password):
    phc = hash_password(password)
    assert verify_password(password, phc)
    assert not verify_password(password[:-1], phc)
    assert not verify_password(password[:-1] + "?", phc)
    assert not verify_password(password + "x", phc)


def test_case_and_blanks_count_and_composition_does_not():
    phc = hash_password(f" caf{E_ACUTE} Noir ")
    assert verify_password(f" caf{COMBINED} Noir ", phc)
    for other in (f"caf{E_ACUTE} Noir", f" caf{E_ACUTE} noir ", " cafe Noir ", f" caf{E_ACUTE}  Noir "):
        assert not verify_password(other, phc)
    # NFC, not NFKC: what only looks alike is another character.
    assert not verify_password("ﬁnality", hash_password("finality"))


def test_one_password_has_another_hash_each_time_and_a_hash_of_nobody_fits_nothing():
    assert hash_password(PASSWORD) != hash_password(PASSWORD)
    assert not verify_password(PASSWORD, None)


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def raw(email, password):
    """JSON with every character written as \\u...: what the client sends is what is meant."""
    return json.dumps({"email": email, "password": password}, ensure_ascii=True).encode()


def test_registered_composed_and_logged_in_decomposed(make, anyone):
    """A phone's keyboard and a desktop's send the same password differently."""
    make.user("other@example.com")
    composed, decomposed = f"zq7-{E_ACUTE * 5}", f"zq7-{COMBINED * 5}"
    assert anyone.post("/register", raw=raw("one@example.com", composed)).status == 201
    assert anyone.post("/register", raw=raw("two@example.com", decomposed)).status == 201
    for email in ("one@example.com", "two@example.com"):
        for password in (composed, decomposed):
            assert anyone.post("/login", raw=raw(email, password)).status == 200
    assert anyone.post("/login", raw=raw("other@example.com", composed)).status == 401
    assert make.scalar("SELECT count(*) FROM users") == 3


def test_a_long_password_is_not_cut_on_the_way(make, anyone):
    password = CATS[:255] + "\U0001f415"
    assert anyone.post("/register", {"email": ANA, "password": password}).status == 201
    assert anyone.post("/login", {"email": ANA, "password": password}).status == 200
    assert anyone.post("/login", {"email": ANA, "password": password[:-1] + "\U0001f408"}).status == 401
    assert anyone.post("/login", {"email": ANA, "password": password[:-1]}).status == 401


@pytest.mark.parametrize("route", ["/register", "/login", "/me/password", "/me/delete"])
@pytest.mark.parametrize("password", ["zq7-xk4v\x00tail", "zq7-xk4v\ud800", "\udc00zq7-xk4v", "\x00" * 8])
def test_nul_and_lone_surrogates_are_422_and_reach_nothing(make, ana, buyer, route, password):
    members = {
        "/register": {"email": "new@example.com", "password": password},
        "/login": {"email": ana.email, "password": password},
        "/me/password": {"current_password": PASSWORD, "new_password": password},
        "/me/delete": {"current_password": password},
    }[route]
    answer = buyer.post(route, raw=json.dumps(members, ensure_ascii=True).encode())
    assert (answer.status, answer.pointers()) == (422, [f"/{list(members)[-1]}"])
    assert b"zq7" not in answer.body
    assert make.rows("SELECT id, token_version FROM users") == [(ana.id, 1)]


def test_a_pair_of_surrogates_is_one_character(anyone):
    body = b'{"email":"ana@example.com","password":"%s"}' % (rb"\ud83d\udc08\ud83d\udc15\ud83e\udd8e\ud83d\udc0d" * 2)
    assert anyone.post("/register", raw=body).status == 201
    assert anyone.post("/login", {"email": ANA, "password": CATS[:8]}).status == 200


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("zq7-xk4", LENGTH),
        ("zq" * 129, LENGTH),
        ("Trustno1", COMMON),
        ("zq7-my-ANA", EMAIL),
        ("\u200b" * 8, UNSEEN),
        ("aaaaaaaa", FEW),
        (" " * 8, FEW),
        ("Petstore!", NAME),
    ],
)
def test_a_refused_password_changes_nothing_and_is_not_repeated(make, ana, buyer, password, fault):
    bodies = {
        "/register": {"email": "ana@example.org", "password": password},
        "/me/password": {"current_password": PASSWORD, "new_password": password},
    }
    before = make.rows("SELECT * FROM users")
    for route, body in bodies.items():
        answer = buyer.post(route, body)
        assert (answer.status, answer.pointers()) == (422, [f"/{list(body)[-1]}"])
        assert answer.json()["errors"][0]["detail"].startswith(fault)
        assert password.encode() not in answer.body + str(answer.headers).encode()
    assert make.rows("SELECT * FROM users") == before


def test_a_password_that_is_far_too_long_is_not_repeated_either(anyone):
    for length in (300, 1025, 200_000):
        for route in ("/register", "/login"):
            answer = anyone.post(route, {"email": ANA, "password": "zq7" * length})
            assert answer.status in (401, 413, 422)
            assert b"zq7" not in answer.body


def test_the_minimum_of_the_setting_holds_at_register_and_at_a_change_and_not_at_login(make, ana, with_settings):
    with with_settings(password_min=22) as (services, server), Client(server.address, services.tokens.issue(ana)) as client:
        answer = client.post("/register", {"email": "new@example.com", "password": PASSWORD})  # of 21 characters
        assert (answer.status, answer.pointers()) == (422, ["/password"])
        change = {"current_password": PASSWORD, "new_password": PASSWORD[::-1]}
        assert client.post("/me/password", change).pointers() == ["/new_password"]
        assert client.post("/login", {"email": ana.email, "password": PASSWORD}).status == 200
        assert client.post("/register", {"email": "new@example.com", "password": PASSWORD + "!"}).status == 201


@pytest.mark.parametrize("password", ["petstore", "aaaaaaaa", " " * 8, "\u200b" * 8, "zq7-ana-"])
def test_who_has_such_a_password_already_still_logs_in(make, anyone, password):
    make.user(ANA, password=hash_password(password))
    assert anyone.post("/login", raw=raw(ANA, password)).status == 200


def test_the_schema_lets_every_password_through_that_the_rules_allow():
    # It counts code points before NFC, which makes one of up to four: Α with breathing, circumflex and iota.
    password = "\u0391\u0314\u0342\u0345\u0391\u0313\u0342\u0345\u0397\u0314\u0342\u0345\u03a9\u0314\u0342\u0345" * 64
    assert password_fault(password, ANA, Settings()) is None
    for schema, member in (("account_new", "password"), ("credentials", "password"), ("password_change", "new_password")):
        assert SCHEMAS[schema]["properties"][member]["maxLength"] >= len(password)
