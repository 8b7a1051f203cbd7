"""How a test talks to the service: real HTTP on a real socket."""

from __future__ import annotations

import gzip
import http.client
import json
from dataclasses import dataclass
from typing import Any

from petstore.web.headers import HTML
from tests import openapi_contract as contract
from tests.logs import collector

NOTHING = object()


@dataclass(frozen=True)
class Response:
    """An answer as it came."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def content(self) -> bytes:
        """The body without its coding."""
        return gzip.decompress(self.body) if self["Content-Encoding"] == "gzip" else self.body

    def json(self) -> Any:
        return json.loads(self.content)

    def __getitem__(self, header: str) -> str | None:
        return self.headers[header]

    def pointers(self) -> list[str]:
        """Where the input was wrong."""
        return [fault["pointer"] for fault in self.json()["errors"]]


class Client:
    """One keep-alive connection, with or without a token. Every answer is held against the OpenAPI document.

    of_this_release: False if another one answers, which has a document of its own.
    """

    def __init__(self, address: tuple[str, int], token: str | None = None, of_this_release: bool = True) -> None:
        self.address, self.token, self._of_this_release = address, token, of_this_release
        self._connection = http.client.HTTPConnection(*address, timeout=30)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def request(
        self, method: str, path: str, body: Any = NOTHING, *, raw: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        sent = dict(headers or {})
        if body is not NOTHING:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        self._connection.request(method, path, raw, sent)
        answer = self._connection.getresponse()
        response = Response(answer.status, answer.headers, answer.read())
        collector.remember(raw, response.body)
        _check(method, response)
        if self._of_this_release:
            contract.check(method, path, response.status, response.headers, response.content)
        return response

    def get(self, path: str, **options: Any) -> Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = NOTHING, **options: Any) -> Response:
        return self.request("POST", path, body, **options)

    def patch(self, path: str, body: Any = NOTHING, **options: Any) -> Response:
        return self.request("PATCH", path, body, **options)

    def delete(self, path: str, **options: Any) -> Response:
        return self.request("DELETE", path, **options)


def _check(method: str, response: Response) -> None:
    """What holds for every answer of the service."""
    assert response["X-Request-ID"], "no request id"
    assert response["Server"] is None, "a Server banner"
    assert response["Cache-Control"], "no Cache-Control"
    if response.status >= 400 and method != "HEAD" and response["Content-Type"] != HTML:
        problem = response.json()
        assert response["Content-Type"] == "application/problem+json"
        assert problem["status"] == response.status
        if not response["Idempotent-Replayed"]:  # which has the bytes of the first answer
            assert problem["request_id"] == response["X-Request-ID"]
        assert problem["type"].startswith("/problems/")
        assert problem["title"]
        assert problem["detail"]
    elif response.status in (204, 304) or method == "HEAD":
        assert response.body == b""
