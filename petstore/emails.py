"""Validation of email addresses: the rules of email-validator (RFC 5321, 5322, 6531), without DNS."""

from __future__ import annotations

import unicodedata

from email_validator import EmailNotValidError, validate_email

from petstore.texts import is_visible

_LETTERS = "ßς"  # which casefold() replaces, and which are used in names
MAX_LENGTH = 254  # characters (RFC 5321, 4.5.3.1.3)


def email_fault(email: str) -> str | None:
    """What is wrong with an email address, or None."""
    if len(email) > MAX_LENGTH:
        return f"must have at most {MAX_LENGTH} characters"
    try:
        domain = validate_email(email, check_deliverability=False).domain
    except EmailNotValidError as error:
        return f"must be an email address such as ana@example.com: {error}"
    if domain != unicodedata.normalize("NFC", email.rpartition("@")[2]).lower():  # two spellings would be two accounts
        return f"must have the part after the @ written as {domain}"
    if not all(map(is_visible, email)):  # it would look like another one
        return "must not have characters that cannot be seen"
    if _stands_for_another(email):
        return "must not have characters that stand for others, such as the Kelvin sign for k, or one character for the two of fi"
    return None


def _stands_for_another(email: str) -> bool:
    """Whether an address is another one's when case and compatibility are disregarded, and yet is not the same to the database.

    What is let in is, in lower case, its own folded form. So two addresses that fold to the same one have the same key in the
    database (lower(normalize(email))), and nobody can take the look of somebody else's. `ß` and `ς` are letters of their own.
    """
    plain = unicodedata.normalize("NFC", email)
    # One by one, as the database does it: of a whole word, Python makes the last Σ a ς.
    lower = "".join(map(str.lower, plain))
    folded = unicodedata.normalize("NFC", "".join(map(_fold, unicodedata.normalize("NFKC", email))))
    # İ: to the database its lower case is i. A character that NFC replaces by another one is a copy, such as the Kelvin sign.
    return folded != lower or "\u0130" in plain or any(_is_copy(char) for char in email)


def _fold(char: str) -> str:
    """A character without its case; lower(), as that of Cherokee letters is the upper one."""
    return lower if (lower := char.lower()) in _LETTERS else char.casefold().lower()


def _is_copy(char: str) -> bool:
    normal = unicodedata.normalize("NFC", char)
    return normal != char and len(normal) == 1


def parse_email(text: str) -> str:
    """The text, if it is an email address; ValueError with what is wrong with it."""
    if fault := email_fault(text):
        raise ValueError(fault)
    return text
