"""A client of the Petstore API that gets through, and does each write once. Python 3.10 or newer, standard library only."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

TIMEOUT_SECONDS = 5  # of one request. A lost answer of POST /refresh has to be asked for again within 10 s.
NEWER_SECONDS = 10  # so long another process may take to save the tokens that it has just got


class Refused(Exception):
    """The service refused. `problem` is its answer, `type` its kind, `retry_after` how many seconds to wait, if it says so."""

    def __init__(self, problem: Mapping[str, Any], retry_after: float) -> None:
        super().__init__(f"{problem['status']} {problem['type']}: {problem['detail']} (request {problem['request_id']})")
        self.problem, self.type, self.status, self.retry_after = problem, problem["type"], problem["status"], retry_after


class OutcomeUnknown(Exception):
    """A write without a key may have been done, or not. Read what it was to change, then decide."""


class LoggedOut(Exception):
    """The login has ended. Ask for the password, and call `login`."""


class Store:
    """Where all threads find the tokens. For several processes write one of your own, with a file and a lock that they share."""

    def __init__(self) -> None:
        self.lock, self.tokens = threading.Lock(), None

    def load(self) -> Any:
        return self.tokens

    def save(self, tokens: Any) -> None:
        self.tokens = tokens


class Answer(NamedTuple):
    status: int
    etag: str | None
    document: Any


class Petstore:
    """One for each thread or for all: only the store is shared. patience: seconds after which a request is given up."""

    def __init__(self, url: str, store: Store, patience: float = 60) -> None:
        self.url, self.store, self.patience = url, store, patience

    def login(self, email: str, password: str) -> None:
        credentials = {"email": email, "password": password}
        self.store.save(self._until_answered("POST", "/login", credentials, {}, again=True).document)

    def get(self, path: str, etag: str | None = None) -> Answer:
        return self._logged_in("GET", path, None, {"If-None-Match": etag} if etag else {}, again=True)

    def write(self, method: str, path: str, body: Any, key: str | None = None) -> Any:
        """Do it once. Save the key before you call: with it, you can go on after a crash. Without one: see OutcomeUnknown."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._logged_in(method, path, body, headers, again=key is not None).document

    def edit(self, product_id: int, change: Callable[[Any], Any], tries: int = 5) -> Any:
        """409: send what `change` makes of the product. If somebody has edited it meanwhile, read it and change it again."""
        while True:
            product = self.get(f"/products?id={product_id}").document
            body = {**change(product), "version": product["version"]}
            try:
                return self.write("PATCH", f"/modify_product?id={product_id}", body, str(uuid.uuid4()))
            except Refused as refused:
                tries -= 1
                if refused.type != "/problems/edit-conflict" or not tries:
                    raise

    def poll(self, path: str, seconds: float = 30) -> Iterator[Any]:
        """What there is, and again each time that it has changed. What has not is a 304, which costs the service little."""
        etag = None
        while True:
            answer = self.get(path, etag)
            if answer.status != 304:
                etag = answer.etag
                yield answer.document
            time.sleep(seconds * random.uniform(0.9, 1.1))  # so that many clients do not ask at the same moment

    def _logged_in(self, method: str, path: str, body: Any, headers: Mapping[str, str], again: bool) -> Answer:
        """401: refresh the tokens and send it again, but only once."""
        used = self.store.load()
        try:
            return self._until_answered(method, path, body, {**headers, **_bearer(used)}, again)
        except Refused as refused:
            if refused.type == "/problems/login-ended":
                raise LoggedOut from refused
            if refused.type != "/problems/unauthorized" or used is None:
                raise
        self._refresh(used)
        return self._until_answered(method, path, body, {**headers, **_bearer(self.store.load())}, again)

    def _refresh(self, used: Any) -> None:
        """One refresh for all threads: the first one does it, the others find its tokens in the store."""
        with self.store.lock:
            if self.store.load() != used:
                return
            try:
                body = {"refresh_token": used["refresh_token"]}
                self.store.save(self._until_answered("POST", "/refresh", body, {}, again=True).document)
            except Refused as refused:
                if refused.type == "/problems/refresh-token-just-used" and self._is_newer(used):
                    return
                if refused.status != 401:
                    raise
                self.store.save(None)
                raise LoggedOut from refused

    def _is_newer(self, used: Any) -> bool:
        """Another process is ahead: wait until it has saved its tokens."""
        end = time.monotonic() + NEWER_SECONDS
        while self.store.load() == used and time.monotonic() < end:
            time.sleep(0.1)
        return bool(self.store.load() != used)

    def _until_answered(self, method: str, path: str, body: Any, headers: Mapping[str, str], again: bool) -> Answer:
        """429, 503, 409 key-in-use: wait as told, and longer each time. again: it may be sent again after it was perhaps done."""
        end = time.monotonic() + self.patience
        failure: Exception
        attempt = 0
        while True:
            try:
                return self._send(method, path, body, headers)
            except Refused as refused:
                if refused.type == "/problems/outcome-unknown" and not again:
                    raise OutcomeUnknown from refused
                if refused.status not in (429, 503) and refused.type != "/problems/key-in-use":
                    raise
                failure, wait = refused, refused.retry_after
            except (OSError, http.client.HTTPException) as error:  # no answer
                unsent = isinstance(getattr(error, "reason", None), ConnectionRefusedError)
                if not again and not unsent:
                    raise OutcomeUnknown from error
                failure, wait = error, 0
            wait = max(wait, min(0.1 * 2**attempt, 10)) * random.uniform(1, 1.2)
            if time.monotonic() + wait > end:
                raise failure
            time.sleep(wait)
            attempt += 1

    def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        sent = {**headers, **({} if body is None else {"Content-Type": "application/json"})}
        request = urllib.request.Request(self.url + path, data, sent, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                text = answer.read()
                return Answer(answer.status, answer.headers["ETag"], json.loads(text) if text else None)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304:
                    return Answer(304, error.headers["ETag"], None)
                if error.headers.get_content_type() != "application/problem+json":
                    raise OSError(f"{error.code}, and not from the service") from error  # a proxy in between
                raise Refused(json.load(error), float(error.headers["Retry-After"] or 0)) from None


def _bearer(tokens: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"} if tokens else {}
