"""What is looked at when every test has run: nothing secret is in any log, and every refusal of the document was answered.

Several processes may have run the tests. Each tells the first one what it saw, which shows the two as one more test each.
"""

from __future__ import annotations

from typing import Any

import pytest

from petstore.app import create_router
from tests.logs import collector, secrets_in, without_what_is_written_on_purpose
from tests.openapi_contract import SEEN

EVERY_TEST = 3000  # with fewer, only some were asked for
_refused: set[tuple[str, str]] = set()
_told: list[str] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In each process; in the one that others have worked for, when they have ended."""
    _refused.update(SEEN)
    _told.extend(_secrets())
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["refused"], output["told"] = sorted(_refused), _told
    elif session.testscollected >= EVERY_TEST and not session.config.option.collectonly:
        _show(session, "nothing_secret_is_in_any_log", "\n".join(_told))
        _show(session, "every_problem_of_a_routes_own_was_answered", "\n".join(map(str, sorted(_documented() - _refused))))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process has ended, and hands over what it saw."""
    output = getattr(node, "workeroutput", {})
    _refused.update((operation, slug) for operation, slug in output.get("refused", ()))
    _told.extend(output.get("told", ()))


def _secrets() -> list[str]:
    return [
        f"{name}: {line[:300]}"
        for name, text in collector.texts()
        for line in secrets_in(without_what_is_written_on_purpose(name, text), collector.given)[:20]
    ]


def _documented() -> set[tuple[str, str]]:
    return {(route.callback.__name__, slug) for route in create_router(None).routes for slug in route.config.get("refuses", ())}


def _show(session: pytest.Session, name: str, fault: str) -> None:
    """As the result of a test, which counts in the last line and in the status."""
    path = "tests/after_all.py"
    report = pytest.TestReport(
        f"{path}::{name}", (path, None, name), {}, "failed" if fault else "passed", fault or None, "call"
    )  # fmt: skip
    session.config.hook.pytest_runtest_logreport(report=report)
    if fault:
        session.testsfailed += 1
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
