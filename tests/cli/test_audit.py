"""scripts/audit, with pip-audit and a service like osv.dev on this machine: a vulnerability is told from a service that is away."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cli.shops import ROOT
from tests.commands import environment

pytest.importorskip("pip_audit")
pytestmark = pytest.mark.slow
PINS = re.findall(r"^[a-z].*?==[^ \n]*", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
PROBE = "bottle==0.13.4"
Answer = Callable[[str], tuple[int, bytes]]  # of a package with its version: status and body
NOTHING_KNOWN = 200, b"{}"


@contextmanager
def service(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A service with the interface of osv.dev: its URL, and what it was asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(f"{query['package']['name']}=={query['version']}")
            status, body = answer(asked[-1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()
            thread.join()


def audit(url: str) -> tuple[int, str]:
    """The exit status and output. A minute is all that it may take."""
    command = [sys.executable, ROOT / "scripts/_audit.py", "--url", url]
    done = subprocess.run(command, env=environment(no_proxy="*"), capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout


def hole_in(pin: str) -> tuple[int, bytes]:
    name = pin.partition("==")[0]
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9999.1"}]}]
    affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}]
    return 200, json.dumps({"vulns": [{"id": "PYSEC-1", "summary": "A hole.", "affected": affected}]}).encode()


def test_every_pin_is_looked_up_and_no_known_vulnerability_passes():
    with service(lambda pin: NOTHING_KNOWN) as (url, asked):
        status, said = audit(url)
    assert (status, "No known vulnerabilities found" in said) == (0, True), said
    assert sorted(asked) == sorted(PINS)


def test_a_known_vulnerability_is_named_and_fails_whichever_python_the_pin_is_for():
    with service(hole_in) as (url, _):
        status, said = audit(url)
    assert status == 1
    named = re.findall(r"^(\S+) +(\S+) +PYSEC-1 +9999\.1", said, re.MULTILINE)
    assert sorted("==".join(one) for one in named) == sorted(PINS), said


def is_away(status: int, said: str, url: str) -> bool:
    return (
        status == 0 and said.count("\n") == 1 and said.startswith(f"scripts/audit: not looked up, as {url} cannot be reached: ")
    )


@pytest.mark.parametrize("listens", [False, True])
def test_a_service_that_does_not_answer_is_told_in_one_line_and_passes(listens):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1/query"
        assert is_away(*audit(url), url)


@pytest.mark.parametrize("instead", [(403, b"{}"), (200, b"<html>Log in first")])
def test_what_answers_in_place_of_the_service_is_no_data(instead):
    with service(lambda pin: instead) as (url, _):
        assert is_away(*audit(url), url)


def test_a_failure_while_the_service_is_there_is_no_all_clear():
    with service(lambda pin: NOTHING_KNOWN if pin == PROBE else (400, b"")) as (url, asked):
        assert audit(url)[0] == 1
    assert asked[-1] == PROBE
