"""Validation of email addresses: the rules of email-validator (RFC 5321, 5322, 6531), without DNS."""

from __future__ import annotations

import unicodedata

from email_validator import EmailNotValidError, validate_email

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
    return None


def parse_email(text: str) -> str:
    """The text, if it is an email address; ValueError with what is wrong with it."""
    if fault := email_fault(text):
        raise ValueError(fault)
    return text
