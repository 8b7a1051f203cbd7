"""Parameters of paths, queries and headers, parsed by their schemas in petstore/schemas/parameters.json."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

from petstore import errors
from petstore.request import Key
from petstore.texts import line_fault
from petstore.web.validation import SCHEMAS, SHOWN

Schema = Mapping[str, Any]
PARAMETERS: Mapping[str, Schema] = SCHEMAS["parameters"]["properties"]
MAX_ID = 2**63 - 1
MAX_KEY = 255  # characters of an Idempotency-Key
# As it is, or a string of a structured field (RFC 8941, 3.3.3), which the draft of the header writes.
KEY_PATTERN = f'^(?:[ !#-~][ -~]{{0,{MAX_KEY - 1}}}|"(?:[ !#-\\[\\]-~]|\\\\["\\\\]){{1,{MAX_KEY}}}")$'
_TAG = re.compile(r'[ \t,]*((?:W/)?"[!#-~\x80-\xff]*")[ \t]*(?=,|\Z)')  # an ETag in a list (RFC 9110, 8.8.3 and 5.6.1)
_TIME = re.compile(
    "([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt]([0-9]{2}:[0-9]{2}):([0-5][0-9]|60)(?:\.([0-9]+))?(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9])))?"
)


def parse_query(query_string: str, schemas: Mapping[str, Schema], required: Collection[str] = ()) -> dict[str, Any]:
    """Parse a query string. BadRequest names an unknown, repeated, empty or missing parameter."""
    try:
        pairs = parse_qsl(query_string, keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        detail = "The query cannot be read: it is name=value, with & between, 20 at most, in percent-encoded UTF-8."
        raise errors.BadRequest(detail) from None
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name not in schemas:
            raise fault(name, f"is not a parameter here; there are: {', '.join(schemas) or 'none'}")
        if name in found:
            raise fault(name, "is given twice: once is enough")
        found[name] = value = parse_parameter(name, text, schemas[name])
        if isinstance(value, str) and (wrong := line_fault(value)):
            raise fault(name, wrong)
    for name in required:
        if name not in found:
            raise fault(name, f"is missing: it must be {schemas[name]['description']}")
    _check_span(found)
    return found


def _check_span(query: Mapping[str, Any]) -> None:
    if "from" in query and "to" in query and query["to"] < query["from"]:
        details = {"from": "is after to", "to": "is before from"}
        faults = [{"parameter": name, "detail": detail} for name, detail in details.items()]
        raise errors.BadRequest("Parameter to is before from: nothing is between them. Perhaps they are swapped.", errors=faults)


def parse_path(wildcards: Mapping[str, str]) -> dict[str, Any]:
    """Parse the wildcards of a path, as `parse_query` does a query."""
    return {name: parse_parameter(name, text, PARAMETERS[name]) for name, text in wildcards.items()}


def schemas_of(query: Mapping[str, Schema] | Collection[str]) -> Mapping[str, Schema]:
    """The schemas of a route's query parameters, which it gives itself or by names of PARAMETERS."""
    return query if isinstance(query, Mapping) else {name: PARAMETERS[name] for name in query}


def parse_parameter(name: str, text: str, schema: Schema) -> Any:
    """The value, as its schema says: an int, a datetime or a string. BadRequest if it does not fit."""
    if not text:
        raise fault(name, "is empty: leave it out, or give it a value")
    if "anyOf" in schema:
        return _time(name, text)
    if schema.get("type") == "integer":
        return _integer(name, text, schema["minimum"], schema["maximum"])
    if text not in schema.get("enum", (text,)):
        raise fault(name, f"must be one of: {', '.join(schema['enum'])}")
    if not re.search(schema.get("pattern", ""), text):
        raise fault(name, f"must be {schema['description']}")
    return text


def idempotency_key(header: str | None) -> Key | None:
    """The Idempotency-Key of a request, if it has one. `k` and `"k"` are the same."""
    if header is None:
        return None
    if not re.fullmatch(KEY_PATTERN, header):
        detail = f"must have 1 to {MAX_KEY} printable ASCII characters"
        if header.startswith('"'):
            detail += ' between its quotes, where \\" is a quote and \\\\ a backslash, and nothing after the second quote'
        raise fault("Idempotency-Key", detail, kind="Header")
    if not header.startswith('"'):
        return Key(header)
    text, storable = re.sub(r"\\(.)", r"\1", header[1:-1]), len(header) <= MAX_KEY
    if text.startswith('"') and storable:  # stored as it was sent: its text may be what an older release stored of another key
        return Key(header)
    return Key(text, header if storable else None)


def no_idempotency_key(header: str | None) -> None:
    """Refuse an Idempotency-Key where none is taken: its client relies on it."""
    if header is not None:
        raise fault("Idempotency-Key", "is not taken by this request: leave it out", kind="Header")


def if_match(header: str | None) -> tuple[str, ...] | None:
    """The tags of an If-Match (RFC 9110, 13.1.1), if the request has one; ("*",) for whatever there is."""
    if header is None:
        return None
    if header.strip(" \t") == "*":
        return ("*",)
    tags, end = [], 0
    while found := _TAG.match(header, end):
        tags.append(found[1])
        end = found.end()
    if not tags or header[end:].strip(" \t,"):
        raise fault("If-Match", 'must be *, or ETags in their quotes, such as "3f2a" or "3f2a", "b07c"', kind="Header")
    return tuple(tags)


def _integer(name: str, text: str, minimum: int, maximum: int) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or not minimum <= int(text) <= maximum:
        raise fault(name, f"must be a whole number from {minimum} to {maximum}")
    return int(text)


def _time(name: str, text: str) -> datetime:
    """Parse a time (RFC 3339), or a day, which is its first moment in UTC. What is less than a microsecond is cut off."""
    try:
        if match := _TIME.fullmatch(text):
            day, minute, second, fraction, sign, hours, minutes = match.groups()
            moment = datetime.strptime(f"{day} {minute or '00:00'}", "%Y-%m-%d %H:%M").replace(tzinfo=timezone.utc)
            offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
            after = timedelta(seconds=int(second or 0), microseconds=int((fraction or "")[:6].ljust(6, "0")))
            # A leap second (60) is the first one of the next minute, as in PostgreSQL.
            return moment + (after + offset if sign == "-" else after - offset)
    except (ValueError, OverflowError):
        pass
    example = "2026-01-31 or 2026-01-31T12:00:00Z (a + in it must be sent as %2B)"
    raise fault(name, f"must be a day or a time such as {example}")


def fault(name: str, detail: str, kind: str = "Parameter") -> errors.BadRequest:
    """A 400 about one parameter of path or query, or about a header."""
    shown = name if re.fullmatch(f"[A-Za-z0-9_-]{{1,{SHOWN}}}", name) else ascii(name[:SHOWN])
    return errors.BadRequest(f"{kind} {shown} {detail}.", errors=[{"parameter": name[:SHOWN], "detail": detail}])
