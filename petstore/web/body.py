"""The body of a request: what its head says of it, and its bytes. petstore.web.validation reads the JSON in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from petstore import errors
from petstore.web.validation import MAX_BODY

_LENGTH = re.compile("[0-9]{1,4000}")  # int() takes no more than 4,300 digits
_WORD = r"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*(?:({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)"))?[ \t]*')


def check_length_and_type(environ: Mapping[str, Any]) -> int:
    """The Content-Length, 0 without one. Neither the length nor the media type needs the body."""
    length = _content_length(environ)
    if length > MAX_BODY:
        raise _too_large()
    if length:
        _check_type(environ)
    return length


def read_body(environ: Mapping[str, Any], length: int) -> bytes:
    """The body. length: as check_length_and_type gives it."""
    raw = _read_input(environ, length)
    if len(raw) > MAX_BODY:
        raise _too_large()
    if len(raw) < length:
        raise errors.BadRequest("The body ends before its Content-Length.")
    if raw:  # a chunked body may be empty, so its media type is looked at here
        _check_type(environ)
    return raw


def _too_large() -> errors.TooLarge:
    return errors.TooLarge(f"The body is larger than {MAX_BODY} bytes.")


def _content_length(environ: Mapping[str, Any]) -> int:
    text = environ.get("CONTENT_LENGTH") or "0"
    if not _LENGTH.fullmatch(text):
        raise errors.BadRequest("Content-Length must be a number.")
    return int(text)


def _read_input(environ: Mapping[str, Any], length: int) -> bytes:
    """At most MAX_BODY + 1 bytes. A server that does not mark the end of a body may block in a read past it (PEP 3333)."""
    marked = environ.get("wsgi.input_terminated")
    if not marked and "HTTP_TRANSFER_ENCODING" in environ:
        raise errors.NotImplementedHere("This server takes a body with a Content-Length only.")
    try:
        raw: bytes = environ["wsgi.input"].read(MAX_BODY + 1 if marked else length)
    except Exception as error:  # each server has its own, for a bad chunk or a client that went away
        raise errors.BadRequest("The body cannot be read.") from error
    return raw


def _check_type(environ: Mapping[str, Any]) -> None:
    content_type = environ.get("CONTENT_TYPE", "")
    if not content_type:
        raise errors.UnsupportedMediaType(
            "The request has a body, and no Content-Type that says what it is: send Content-Type: application/json."
        )
    if not _is_json(content_type) or environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise errors.UnsupportedMediaType()


def _is_json(content_type: str) -> bool:
    """Whether a media type (RFC 9110, 8.3.1) is JSON in UTF-8. Parameters that are not known are passed over (RFC 6838, 4.3)."""
    kind, semicolon, parameters = content_type.partition(";")
    place, rest = 0, semicolon + parameters
    while match := _PARAMETER.match(rest, place):
        name, value, quoted = match.groups()
        charset = value if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if name and name.lower() == "charset" and charset.lower() not in ("utf-8", "utf8"):
            return False
        place = match.end()
    return kind.strip(" \t").lower() == "application/json" and place == len(rest)
