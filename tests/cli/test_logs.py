"""The lines of the log: one per event, with its time in UTC, and no flood of the same."""

import logging
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from petstore.cli import logs, output

LINE = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+): (.*)"
BEGIN = """
import logging, sys, threading, time
from petstore.cli import logs, output
logs.REPEAT_SECONDS = 0.3
logs.configure_process()
log = logging.getLogger("petstore.some")
"""


def lines(code, status=0, **environ):
    """What a process writes to standard error: time, level, logger and message of each line; it must write nothing else."""
    done = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, env=environ)
    assert done.returncode == status, done.stderr
    found = [re.fullmatch(LINE, line) for line in done.stderr.splitlines()]
    assert None not in found, done.stderr
    return [line.groups() for line in found if line]


def messages(code, **how):
    return [message for *_, message in lines(code, **how)]


def test_times_are_utc_whatever_the_time_zone_of_the_machine_is():
    said = lines("log.warning('one'); output.report('two'); output.report('three', logging.ERROR)", TZ="Asia/Tokyo")
    assert [line[1:] for line in said] == [
        ("WARNING", "petstore.some", "one"),
        ("INFO", "petstore", "two"),
        ("ERROR", "petstore", "three"),
    ]
    for at, *_ in said:
        age = datetime.now(timezone.utc) - datetime.fromisoformat(at).replace(tzinfo=timezone.utc)
        assert timedelta(seconds=-1) < age < timedelta(seconds=60)


@pytest.mark.parametrize("created", [0.0, 1.9996, 1_772_366_399.9999, 1_772_366_400.0, 1_772_366_400.0625, 1_772_366_400.999])
def test_the_time_of_a_line_is_that_of_its_event_although_it_is_kept_for_a_second(created):
    formatter = output.LineFormatter()
    for seconds in (created, created + 0.001, created + 61, created):
        record = logging.makeLogRecord(
            {"created": seconds, "msecs": int(seconds % 1 * 1000) + 0.0, "name": "n", "msg": "m", "levelname": "INFO"}
        )
        time, *rest = formatter.format(record).split(" ")
        expected = datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        assert (time, rest) == (f"{expected}.{int(record.msecs):03d}Z", ["INFO", "n:", "m"])


def test_an_exception_is_one_line_with_all_its_causes():
    code = """
def fail():
    try:
        raise KeyError("first")
    except KeyError as error:
        raise RuntimeError("second\\r\\n  third \\x1b[31m") from error
try:
    fail()
except RuntimeError:
    log.exception("request %s failed", "5f1c")
"""
    (message,) = messages(code)
    unfolded = message.replace("\\n", "\n")
    assert unfolded.startswith("request 5f1c failed\nTraceback (most recent call last):\n")
    assert "KeyError: 'first'\n\nThe above exception was the direct cause of the following exception:\n" in unfolded
    assert re.search(r'File "<string>", line \d+, in fail\n', unfolded)
    assert unfolded.endswith("RuntimeError: second\\r\n  third \\x1b[31m")


@pytest.mark.parametrize(
    ("code", "status", "who"),
    [("1 / 0", 1, "the process"), ("threading.Thread(target=lambda: 1 / 0, name='x').start()", 0, "the thread x")],
)
def test_an_exception_that_nobody_catches_is_one_line_too(code, status, who):
    ((_, level, logger, message),) = lines(code, status)
    assert (level, logger) == ("CRITICAL", "petstore")
    assert message.startswith(f"{who} ends by an exception\\nTraceback")
    assert message.endswith("ZeroDivisionError: division by zero")


def test_a_message_of_several_lines_cannot_forge_one():
    assert messages("log.warning('it said: %s', 'no\\n2026-01-01T00:00:00.000Z ERROR petstore: forged')") == [
        "it said: no\\n2026-01-01T00:00:00.000Z ERROR petstore: forged"
    ]


# ── repeats ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_said_again_and_again_is_told_once_and_then_how_often():
    said = messages("for n in range(50): log.warning('no connection: %s', n)")
    assert said == ["no connection: 0", "repeated 49 times in 0 s, the last time: no connection: 49"]


def test_the_count_is_told_when_the_time_is_over_also_if_nothing_more_is_said():
    said = lines("for n in range(3): log.warning('%s', n)\ntime.sleep(1.5)\nlog.error('end')")
    assert [line[3] for line in said] == ["0", "repeated 2 times in 0 s, the last time: 2", "end"]
    told, end = (datetime.fromisoformat(said[number][0]) for number in (1, 2))
    assert end - told > timedelta(seconds=0.5)


def test_after_that_time_it_is_said_again():
    said = messages("for n in range(3): log.warning('%s', n)\ntime.sleep(1)\nlog.warning('%s', 3)")
    assert said == ["0", "repeated 2 times in 0 s, the last time: 2", "3"]


def test_what_differs_is_told_each_for_itself():
    code = """
other = logging.getLogger("petstore.other")
def fail(kind):
    raise kind("x")
for n in range(3):
    log.warning("a %s", n); log.error("a %s", n); log.warning("b %s", n); other.warning("a %s", n)
    for kind in (ValueError, KeyError):
        try:
            fail(kind)
        except Exception:
            log.exception("failed %s", n)
"""
    said = [message.partition("\\n")[0] for message in messages(code)]
    assert said[:6] == ["a 0", "a 0", "b 0", "a 0", "failed 0", "failed 0"]
    assert sorted(said[6:]) == sorted(
        f"repeated 2 times in 0 s, the last time: {what} 2" for what in ("a", "a", "a", "b", "failed", "failed")
    )


@pytest.mark.parametrize("name", logs._UNLIMITED)
def test_requests_and_what_is_about_security_are_never_left_out(name):
    said = messages(f"for n in range(50): logging.getLogger({name!r}).warning('of user %d', n)")
    assert said == [f"of user {n}" for n in range(50)]


def test_a_flood_of_different_faults_neither_grows_nor_loses_any():
    said = messages("logs._MOST_FAULTS = 10\nfor n in range(30): log.warning(f'fault {n}'); log.warning(f'fault {n}')")
    told = "\n".join(said)
    assert all(told.count(f"fault {n}\n") + told.endswith(f"fault {n}") == 2 for n in range(30))
