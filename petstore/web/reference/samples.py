"""Code that sends a request: for curl, JavaScript and Python. A test runs it for every operation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from petstore.web.pages import ORIGIN, asset
from petstore.web.reference.schemas import fitting

LANGUAGES = {"curl": "curl", "javascript": "JavaScript", "python": "Python"}
PLACEHOLDER = "the access_token of POST /login"  # stands for the token
_WIDTH = 60  # characters of a body that stays on one line
_PAGE = 3  # items of a list, where the request may say how many


@dataclass(frozen=True)
class Call:
    """A request. body: None if it has none. answers: json, text, or nothing. token, key: which headers it takes."""

    method: str
    url: str
    body: Any
    answers: str
    token: bool
    key: bool


def samples(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, str]:
    """The code for an operation in each of LANGUAGES."""
    call = _call(method, path, operation)
    return {"curl": _curl(call), "javascript": _javascript(call), "python": _python(call)}


def value(parameter: Mapping[str, Any]) -> Any:
    """What a parameter is in the code: what it needs, an example."""
    if parameter["name"] == "file":
        return asset("pages.css").rpartition("/")[2]
    return fitting(parameter["name"], parameter["schema"])


def body_of(operation: Mapping[str, Any]) -> dict[str, Any]:
    """The examples of a body, by name; {} if the operation takes none."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {name: example["value"] for name, example in content.get("examples", {}).items()}


def _call(method: str, path: str, operation: Mapping[str, Any]) -> Call:
    query = {}
    for parameter in operation["parameters"]:
        name, place = parameter["name"], parameter["in"]
        if place == "path":
            path = path.replace(f"{{{name}}}", quote(str(value(parameter)), safe=""))
        elif place == "query" and parameter["required"]:
            query[name] = value(parameter)
        elif (place, name) == ("query", "limit"):
            query[name] = _PAGE
    success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
    media_types = list(success.get("content", ()))
    answers = "" if not media_types else "json" if media_types[0].endswith("json") else "text"
    bodies = list(body_of(operation).values())
    takes_key = any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
    url = ORIGIN + path + (f"?{urlencode(query)}" if query else "")
    return Call(method.upper(), url, bodies[0] if bodies else None, answers, bool(operation.get("security")), takes_key)


def _curl(call: Call) -> str:
    lines = [f"curl -X {call.method} '{call.url}'" if _needs_method(call) else f"curl '{call.url}'"]
    if call.token:
        lines.append('-H "Authorization: Bearer $token"')
    if call.key:
        lines.append('-H "Idempotency-Key: $(date +%s)-$$"')
    if call.body is not None:
        text = _json(call.body).replace("'", "'\\''")
        lines += ["-H 'Content-Type: application/json'", f"-d '{text}'"]
    first = f"token='{PLACEHOLDER}'\n\n" if call.token else ""
    return first + " \\\n  ".join(lines)


def _needs_method(call: Call) -> bool:
    """Whether curl would take another one: it sends POST with a body, else GET."""
    return call.method != ("GET" if call.body is None else "POST")


def _javascript(call: Call) -> str:
    lines = [f'const token = "{PLACEHOLDER}";\n'] if call.token else []
    options = [f'method: "{call.method}",'] if call.method != "GET" else []
    headers = _headers(call, "`Bearer ${token}`", "crypto.randomUUID()")
    if headers:
        options += ["headers: {", *(f'  "{name}": {text},' for name, text in headers), "},"]
    if call.body is not None:
        options += f"body: JSON.stringify({_json(call.body)}),".splitlines()
    arguments = ", {\n" + "".join(f"  {option}\n" for option in options) + "}" if options else ""
    lines.append(f'const response = await fetch("{call.url}"{arguments});')
    read = {"json": ", await response.json()", "text": ", await response.text()"}.get(call.answers, "")
    lines.append(f"console.log(response.status{read});")
    return "\n".join(lines)


def _python(call: Call) -> str:
    uses_json = call.body is not None or call.answers == "json"
    lines = [*(["import json"] if uses_json else []), "import urllib.request"]
    lines += ["import uuid"] if call.key else []
    lines += ["", *([f'token = "{PLACEHOLDER}"'] if call.token else [])]
    arguments = [f'"{call.url}",']
    arguments += [f'method="{call.method}",'] if call.method != "GET" else []
    headers = _headers(call, 'f"Bearer {token}"', "str(uuid.uuid4())")
    if headers:
        arguments += ["headers={", *(f'    "{name}": {text},' for name, text in headers), "},"]
    if call.body is not None:
        arguments += f"data=json.dumps({_as_python(_json(call.body))}).encode(),".splitlines()
    lines.append("request = urllib.request.Request(\n" + "".join(f"    {argument}\n" for argument in arguments) + ")")
    read = {"json": ", json.load(response)", "text": ", response.read().decode()"}.get(call.answers, "")
    lines += ["with urllib.request.urlopen(request) as response:", f"    print(response.status{read})"]
    return "\n".join(lines)


def _headers(call: Call, token: str, key: str) -> list[tuple[str, str]]:
    """The names of the headers, with the expressions that make them."""
    return list(_each_header(call, token, key))


def _each_header(call: Call, token: str, key: str) -> Iterator[tuple[str, str]]:
    if call.token:
        yield "Authorization", token
    if call.key:
        yield "Idempotency-Key", key
    if call.body is not None:
        yield "Content-Type", '"application/json"'


def _json(body: Any) -> str:
    line = json.dumps(body, ensure_ascii=False)
    return line if len(line) <= _WIDTH else json.dumps(body, ensure_ascii=False, indent=2)


def _as_python(text: str) -> str:
    """JSON as a Python expression."""
    words = {"true": "True", "false": "False", "null": "None"}
    return re.sub(r'"(?:\\.|[^"\\])*"|true|false|null', lambda found: words.get(found[0], found[0]), text)
