"""Request bodies: strict JSON, validation by JSON Schema, amounts of money."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import reduce
from importlib import resources
from operator import getitem
from typing import Any, NoReturn, cast

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from petstore import errors, texts

MAX_BODY = 262_144  # bytes
MAX_DEPTH = 32  # levels of nesting in a body
MAX_FAULTS = 20  # listed in one answer
SHOWN = 30  # characters of a client's own name for something that an answer repeats
_MAX_DIGITS = 40  # of a whole number that are parsed: enough to see that it is out of bounds


def parse_json(body: bytes, schema: str) -> Any:
    """Parse a body as JSON (RFC 8259) in UTF-8; MalformedJSON for NaN, duplicate keys and deep nesting, too.

    A number without a fraction becomes an int, however it is written (1, 1.0, 1e2); any other a Decimal. A BOM is read over.
    schema: of what is expected, for the error.
    """
    try:
        text = body.decode("utf-8").lstrip("\ufeff")
        if not text:
            example = {name: "..." if isinstance(value, str) else value for name, value in SCHEMAS[schema]["examples"][0].items()}
            raise errors.MalformedJSON(f"The body is empty; this request takes a JSON object such as {json.dumps(example)}.")
        hooks: dict[str, Any] = {"parse_constant": _no_constant, "parse_float": _number, "parse_int": _integer}
        value = json.loads(text, object_pairs_hook=_object, **hooks)
    except UnicodeDecodeError:
        raise errors.MalformedJSON("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at").removesuffix(" starting")
        raise errors.MalformedJSON(f"The body is not JSON at line {error.lineno}, column {error.colno}: {what}.") from None
    except RecursionError:
        _too_deep()
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise errors.MalformedJSON(f"An object has the member {json.dumps(twice[:SHOWN])} twice: once is enough.")
    return members


def _no_constant(name: str) -> NoReturn:
    raise errors.MalformedJSON(f"{name} is not JSON: a number has digits only, and what is not known is null or left out.")


def _number(text: str) -> int | Decimal:
    """The value of a number with a point or an exponent; a larger one than `_integer` parses is cut, so that it costs nothing."""
    mantissa, _, exponent = text.lower().partition("e")
    if not re.search("[1-9]", mantissa):
        return 0
    try:
        number = Decimal(text)
    except InvalidOperation:  # the exponent is too large for a Decimal
        number = Decimal("1E-999999" if exponent.startswith("-") else f"1E{_MAX_DIGITS}").copy_sign(Decimal(mantissa))
    if number.adjusted() >= _MAX_DIGITS:
        return int(Decimal(f"1E{_MAX_DIGITS}").copy_sign(number))
    return int(number) if number == number.to_integral_value() else number


def _integer(text: str) -> int:
    return int(text[: _MAX_DIGITS + 1])


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [container for container in level if isinstance(container, (dict, list))]:
        depth += 1
        if depth > MAX_DEPTH:
            _too_deep()
        level = [child for container in level for child in (container.values() if isinstance(container, dict) else container)]


def _too_deep() -> NoReturn:
    raise errors.MalformedJSON(f"The body is nested deeper than {MAX_DEPTH} levels.")


_no_text = re.compile("[\x00\ud800-\udfff]").search  # what the database cannot store


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, str):
        return
    if rule := texts.RULES.get(pattern):
        if value and not _no_text(value) and (fault := rule(value)):  # of an empty one, minLength tells
            yield ValidationError(fault)
    # Regular expressions of JSON Schema are those of ECMA 262: `$` matches at the very end only, `\d` is ASCII.
    elif not re.search(re.sub(r"(?<!\\)\$$", r"\\Z", pattern), value, re.ASCII):
        yield ValidationError("")


def _text(_validator: Any, types: Any, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if not any(_validator.is_type(value, kind) for kind in ([types] if isinstance(types, str) else types)):
        yield ValidationError("")
    elif isinstance(value, str) and _no_text(value):
        yield ValidationError("must not contain NUL characters or lone surrogates")


_Validator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern, "type": _text},
    # True is no number.
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: type(value) in (int, Decimal),
        }
    ),
)
_FILES: Mapping[str, Mapping[str, Any]] = {
    path.name.removesuffix(".json"): json.loads(path.read_text("utf-8"))
    for path in sorted(resources.files("petstore.schemas").iterdir(), key=lambda path: path.name)
    if path.name.endswith(".json")
}


def _resolve(part: Any, name: str) -> Any:
    """Replace each `$ref` to a part of another file (`product.json#/$defs/columns`) by that part. A `$ref` to a whole file stays.

    Members that come by `allOf` are merged with the schema's own, so that errors and OpenAPI show one list.
    """
    if isinstance(part, list):
        return [_resolve(child, name) for child in part]
    if not isinstance(part, dict):
        return part
    whole = {key: _resolve(value, name) for key, value in part.items() if key != "$defs"}
    file, _, pointer = str(part.get("$ref")).partition("#/")
    if pointer:
        del whole["$ref"]
        owner = file.removesuffix(".json") or name
        whole = _resolve(reduce(getitem, pointer.split("/"), _FILES[owner]), owner) | whole
    return _merged(whole) if "allOf" in whole else whole


def _merged(whole: dict[str, Any]) -> dict[str, Any]:
    """A closed object with the members of its `allOf` before its own."""
    (shared,) = whole["allOf"]
    members = {
        "required": [*shared.get("required", ()), *whole.get("required", ())],
        "additionalProperties": whole["unevaluatedProperties"],
        "properties": {**shared["properties"], **whole.get("properties", {})},
        "examples": whole["examples"],
    }
    head = {key: value for key, value in whole.items() if key not in (*members, "allOf", "unevaluatedProperties")}
    return {**head, **{key: value for key, value in members.items() if value != []}}


SCHEMAS: Mapping[str, Mapping[str, Any]] = {name: _resolve(file, name) for name, file in _FILES.items()}
MAX_PRICE: int = SCHEMAS["product_new"]["properties"]["price"]["maximum"]
_VALIDATORS = {name: _Validator(schema) for name, schema in SCHEMAS.items()}


def validate(schema: str, value: Any) -> None:
    """Validate by petstore/schemas/<schema>.json. Invalid lists every fault, MAX_FAULTS at most, and never repeats a value."""
    faults: list[errors.Fault] = []
    for error in _VALIDATORS[schema].iter_errors(value):
        faults.extend(_faults(error))
        if len(faults) >= MAX_FAULTS or error.validator == "maxItems":  # do not validate every item of a list that is too long
            break
    if faults:
        raise errors.Invalid(faults[:MAX_FAULTS])


def _faults(error: ValidationError) -> Iterator[errors.Fault]:
    path, schema, instance = list(error.absolute_path), cast(Any, error.schema), cast(Any, error.instance)
    if error.validator == "additionalProperties":
        known = ", ".join(schema["properties"])
        for name in instance:
            if name not in schema["properties"]:
                yield {"pointer": _pointer([*path, name]), "detail": f"is not a member here; there are: {known}"}
    elif error.validator == "required":
        for name in schema["required"]:
            if name not in instance and error.message.startswith(repr(name)):
                expected = f"it {_kind(schema['properties'][name])}"
                yield {"pointer": _pointer([*path, name]), "detail": f"is missing: {expected}"}
    elif "dependentSchemas" in error.absolute_schema_path:  # a member that stands without those that it goes with
        yield {"pointer": _pointer([*path, error.absolute_schema_path[-2]]), "detail": schema["description"]}
    else:
        yield {"pointer": _pointer(path), "detail": error.message if error.message.startswith("must") else _detail(error)}


_COUNTS = {
    "minLength": "at least {} character",
    "maxLength": "at most {} character",
    "minItems": "at least {} item",
    "maxItems": "at most {} item",
}


def _detail(error: ValidationError) -> str:
    schema: Any = error.schema
    wanted: Any = error.validator_value
    if error.validator in ("type", "enum"):
        return _kind(schema)
    if error.validator == "pattern":
        return f"must be {schema['description']}"
    if error.validator == "minProperties":
        alone = [name for name in schema["properties"] if name not in schema.get("dependentSchemas", ())]
        return f"must have at least one of: {', '.join(alone)}"
    if error.validator in _COUNTS:
        return f"must have {_COUNTS[error.validator].format(wanted)}{'s' * (wanted != 1)}"
    return f"must be at {'least' if error.validator == 'minimum' else 'most'} {wanted}"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"must be one of: {', '.join(map(str, schema['enum']))}"
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return "must be " + " or ".join(f"{'an' if kind[0] in 'aio' else 'a'} {kind}" for kind in kinds)


def _pointer(path: list[str | int]) -> str:
    """A JSON Pointer (RFC 6901), with overlong member names cut."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1")[:SHOWN] for step in path)


def money(pointer: str, value: str | int | Decimal, minor_digits: int) -> Decimal:
    """The amount, with the currency's digits. Invalid if it has more than those by value, or is too large.

    value: as its schema accepted it; pointer: where it is in the body.
    """
    amount = Decimal(value)
    if amount > MAX_PRICE:
        raise errors.invalid(pointer, f"must be at most {MAX_PRICE}")
    rounded = amount.quantize(Decimal(1).scaleb(-minor_digits))
    if rounded != amount:
        digits = f"at most {minor_digits} digits" if minor_digits else "no digits"
        raise errors.invalid(pointer, f"must have {digits} after the point: that is what the currency has")
    return abs(rounded)  # -0 is 0
