"""Email addresses: the library's rules, kept as typed, and one account for each however it is written."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from petstore.emails import email_fault
from tests.client import Client
from tests.factories import PASSWORD
from tests.services import running

FAR = "a." * 92 + "example.com"  # 195 characters of domain


@pytest.mark.parametrize(
    ("email", "good"),
    [
        ("ana@example.com", True),
        ("a@b.co", True),
        ("Ana.B+tag@Example.COM", True),
        ("o'brien@example.com", True),
        ("!#$%&'*+-/=?^_`{|}~@example.com", True),
        ("ana@sub.sub.example.com", True),
        ("ana@petstore.example", True),
        ("ana@пример.рф", True),
        ("пользователь@example.com", True),
        ("用户@例子.广告", True),
        ("zo\u00eb@example.com", True),
        ("zoe\u0308@example.com", True),
        # Not one @, or nothing beside it.
        ("", False),
        ("ana", False),
        ("ana@", False),
        ("@example.com", False),
        ("ana@@example.com", False),
        ("ana@b@example.com", False),
        # Dots.
        (".ana@example.com", False),
        ("ana.@example.com", False),
        ("a..na@example.com", False),
        ("ana@example..com", False),
        ("ana@.example.com", False),
        ("ana@example.com.", False),
        # What is no domain of the public internet.
        ("ana@localhost", False),
        ("ana@test", False),
        ("ana@example.test", False),
        ("ana@example", False),
        ("ana@[192.0.2.1]", False),
        ("ana@192.0.2.1", False),
        ("ana@printer.local", False),
        ("ana@example.invalid", False),
        ("ana@-example.com", False),
        ("ana@example-.com", False),
        ("ana@exa_mple.com", False),
        ("ana@xn--zzzz.com", False),
        (f"ana@{'a' * 63}.com", True),
        (f"ana@{'a' * 64}.com", False),
        # Other spellings of a domain, each of which would be an account of its own.
        ("ana@ПРИМЕР.рф", True),
        ("ana@xn--e1afmkfd.xn--p1ai", False),
        ("ana@ｅxample.com", False),
        ("ana@example。com", False),
        # What needs quotes, and what only a mail program shows.
        ('"ana b"@example.com', False),
        ("ana b@example.com", False),
        ("ana,b@example.com", False),
        ("ana(b)@example.com", False),
        ("Ana <ana@example.com>", False),
        ("mailto:ana@example.com", False),
        # What cannot be seen, or is seen as something else.
        (" ana@example.com", False),
        ("ana@example.com ", False),
        ("ana@example.com\n", False),
        ("ana\r\nBcc: bob@example.com", False),
        ("ana\t@example.com", False),
        ("ana\x7f@example.com", False),
        ("ana\u200b@example.com", False),
        ("ana\u202e@example.com", False),
        ("ana\u00a0@example.com", False),
        ("\u0301ana@example.com", False),
        # What folds to somebody else's, before the @ or after it.
        ("\u212aim@example.com", False),
        ("\u212bsa@example.com", False),
        ("\u0130ris@example.com", False),
        ("\ufb01nn@example.com", False),
        ("\uff41na@example.com", False),
        ("an\u00aa@example.com", False),
        ("mi\u017fs@example.com", False),
        ("\u00b5@example.com", False),
        ("ana\u00b2@example.com", False),
        ("ana@\u0130xample.com", False),
        # Letters of their own, and other cases, which the database takes for the same.
        ("stra\u00dfe@example.com", True),
        ("STRA\u1e9eE@example.com", True),
        ("\u03bd\u03af\u03ba\u03bf\u03c2@example.com", True),
        ("\u039d\u0399\u039a\u039f\u03a3@example.com", True),
        ("\u03b2\u0390\u03b1@example.com", True),
        ("\u0131\u015f\u0131k@example.com", True),
        ("\u00c5sa@example.com", True),
        ("A\u030asa@example.com", True),
        ("na\u00efve.ANA@example.com", True),
        # At most 254 characters.
        (f"{'a' * (253 - len(FAR))}@{FAR}", True),
        (f"{'a' * (254 - len(FAR))}@{FAR}", False),
    ],
)
def test_what_an_email_may_be(email, good):
    assert (email_fault(email) is None) is good


def test_the_length_that_counts_is_254_characters():
    assert [len(f"{'a' * (length - len(FAR))}@{FAR}") for length in (253, 254)] == [254, 255]
    assert email_fault(f"{'a' * (254 - len(FAR))}@{FAR}") == "must have at most 254 characters"


@pytest.mark.parametrize("email", ["ana@localhost", "ana@exa mple.com", "a" * 400 + "@example.com", "ana\x1b[2J@example.com"])
def test_what_is_no_email_says_why_in_one_printable_line(anyone, make, email):
    answer = anyone.post("/register", {"email": email, "password": PASSWORD})
    assert (answer.status, answer.pointers()) == (422, ["/email"])
    assert answer.json()["errors"][0]["detail"].isprintable()
    assert email.encode() not in answer.body
    assert make.scalar("SELECT count(*) FROM users") == 0


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("Ana@Example.com", "aNA@eXAMPLE.COM"),
        ("zo\u00eb@example.com", "zoe\u0308@example.com"),
        ("zoe\u0308@example.com", "ZO\u00cb@example.com"),
        ("пользователь@example.com", "ПОЛЬЗОВАТЕЛЬ@example.com"),
    ],
)
def test_an_email_is_kept_as_typed_and_is_one_in_any_case_and_composition(make, anyone, first, again):
    make.user("zoe@example.com")  # without the dots, which make another one
    assert anyone.post("/register", {"email": first, "password": PASSWORD}).json()["email"] == first
    answer = anyone.post("/register", {"email": again, "password": PASSWORD})
    assert (answer.status, answer.json()["type"]) == (409, "/problems/email-taken")
    assert make.rows("SELECT email FROM users ORDER BY id") == [("zoe@example.com",), (first,)]
    token = anyone.post("/login", {"email": again, "password": PASSWORD}).json()["access_token"]
    assert anyone.get("/me", headers={"Authorization": f"Bearer {token}"}).json()["email"] == first


def test_who_folds_to_another_is_told_so_and_an_older_account_of_that_kind_still_logs_in(make, anyone):
    made = make.user("\u0130ris@example.com")
    answer = anyone.post("/register", {"email": "\u0130ris@example.org", "password": PASSWORD})
    assert (answer.status, answer.pointers()) == (422, ["/email"])
    assert "stand for others" in answer.json()["errors"][0]["detail"]
    assert anyone.post("/login", {"email": made.email, "password": PASSWORD}).status == 200
    assert make.scalar("SELECT count(*) FROM users") == 1


# Marks that compose with letters, of some letters in one case only.
MARKS = ("", "\u0301", "\u030c", "\u0307", "\u0308\u0301", "\u0342", "\u0345", "\u0331", "\u030a")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ana{}b@example.com", "ana@x{}y.com"])
def test_of_what_is_let_in_only_one_email_of_those_that_fold_to_the_same_is_an_account(make, place):
    """Of every character of Unicode, also with marks: the database has one key for all that are the same to somebody who ignores case."""
    characters = [chr(code) for code in range(0x21, 0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")]
    cased = [char for char in characters if char.lower() != char or char.casefold() != char or char.upper() != char]
    texts = [*characters, *(char + mark for char in cased for mark in MARKS[1:])]
    emails = [email for text in texts if email_fault(email := place.format(text)) is None]
    assert len(emails) > (100_000 if place.startswith("ana{") else 90_000)
    keys = make.scalar(
        "SELECT array_agg(lower(normalize(e)) ORDER BY i) FROM unnest(%s::text[]) WITH ORDINALITY AS t (e, i)", emails
    )
    by_fold = defaultdict(set)
    for email, key in zip(emails, keys, strict=True):
        by_fold["".join(char if char in "ßς" else char.casefold() for char in unicodedata.normalize("NFKC", email))].add(key)
    assert [found for found in by_fold.values() if len(found) > 1] == []
    # The same said the other way round: the key of each is the fold, whose case no other letter has.
    for email, key in zip(emails, keys, strict=True):
        assert key == "".join(map(str.lower, unicodedata.normalize("NFC", email)))


@pytest.mark.slow
def test_of_fifty_who_register_one_email_at_once_with_two_services_one_wins(make, service, settings):
    make.user("other@example.com")
    spellings = [
        "".join(letter.upper() if number >> place & 1 else letter for place, letter in enumerate("anastasia"))
        for number in range(50)
    ]
    with ExitStack() as stack:
        _, second = stack.enter_context(running(settings))
        clients = [stack.enter_context(Client(server.address)) for server in (service[1], second) for _ in range(25)]
        for client in clients:
            client._connection.connect()
        pool = stack.enter_context(ThreadPoolExecutor(50))

        def register(client, name):
            body = {"email": f"{name}@example.com", "password": PASSWORD}
            answer = client.post("/register", body)
            while answer.status == 503:  # too many hashes at once, on a small machine
                answer = client.post("/register", body)
            return answer.status

        statuses = list(pool.map(register, clients, spellings))
    assert sorted(statuses) == [201] + [409] * 49
    winner = spellings[statuses.index(201)]
    assert make.rows("SELECT email FROM users ORDER BY email DESC") == [("other@example.com",), (f"{winner}@example.com",)]
