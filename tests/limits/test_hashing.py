"""At hashing take turns all processes of the machine: never more at once than may, nobody waits for ever, and the dead hold nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from petstore.errors import Unavailable
from petstore.limits import hashing
from tests.factories import PASSWORD

ROOT = Path(__file__).parents[2]
# What a process does that takes turns: arguments are how many may at once, threads, turns of each, and whether it really hashes.
WORK = """
import sys, threading, time
from petstore.limits import hashing

at_once, threads, times, hashes = map(int, sys.argv[1:])
hashing.MAX_CONCURRENT, hashing._slots_here = at_once, threading.BoundedSemaphore(at_once)
lock = threading.Lock()

def say(start):
    with lock:
        print(start, time.monotonic(), flush=True)

if hashes:
    from petstore.auth import passwords
    real = passwords._argon2id

    class Watched:
        def derive_phc_encoded(self, password):
            start = time.monotonic()
            made = real().derive_phc_encoded(password)
            say(start)
            return made

    passwords._argon2id = Watched

def work():
    for _ in range(times):
        if hashes:
            passwords.hash_password("correct horse battery", time.monotonic() + 60)
            continue
        with hashing.hashing_slot(time.monotonic() + 60):
            start = time.monotonic()
            time.sleep(0.02)
            say(start)

print("ready", flush=True)
input()
for one in [threading.Thread(target=work) for _ in range(threads)]:
    one.start()
"""
HOLD = """
import time
from petstore.limits import hashing
with hashing.hashing_slot(time.monotonic() + 60):
    print("mine", flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The machine's folder for temporary files, as far as this test goes: other runs of the tests take no turns of ours."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(hashing, "MAX_CONCURRENT", 1)
    monkeypatch.setattr(hashing, "_slots_here", threading.BoundedSemaphore(1))
    return tmp_path


@contextmanager
def process(folder, code, *arguments):
    """A Python with the service's code in it, and its first line said."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environ = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        try:
            assert one.stdout.readline()
            yield one
        finally:
            one.kill()


def go(one):
    """Let it go on."""
    one.stdin.write("\n")
    one.stdin.flush()


@contextmanager
def taken(folder):
    """As if another process were hashing."""
    hashing._slot_path(0).touch(0o600)
    with hashing._slot_path(0).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_free():
    try:
        with hashing.hashing_slot(time.monotonic() + 0.05):
            return True
    except Unavailable:
        return False


def most_at_once(spans):
    """How many of the spans of time had a moment in common."""
    events = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    now, most = 0, 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


def spans_of(folder, processes, *arguments):
    """When the processes had their turns."""
    with ExitStack() as stack:
        found = [stack.enter_context(process(folder, WORK, *arguments)) for _ in range(processes)]
        for one in found:
            go(one)
        printed = [one.communicate()[0] for one in found]
        assert [one.returncode for one in found] == [0] * processes
    return [tuple(map(float, line.split())) for text in printed for line in text.splitlines()]


@pytest.mark.parametrize("at_once", [1, 3])
def test_never_do_more_have_a_turn_at_once_than_may_in_whatever_processes(folder, at_once):
    spans = spans_of(folder, 3, at_once, 4, 2, 0)
    assert len(spans) == 3 * 4 * 2
    assert most_at_once(spans) == at_once  # and no fewer: those that may do not wait
    assert sorted(os.listdir(folder)) == [f"petstore-hashing-{os.getuid()}.{number}" for number in range(at_once)]


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2])
def test_never_do_more_hash_at_once_than_may(folder, at_once):
    spans = spans_of(folder, 4, at_once, 3, 4, 1)
    assert len(spans) == 4 * 3 * 4
    assert most_at_once(spans) == at_once


def test_half_of_the_cores_may_hash_and_one_at_the_least():
    code = "import os; os.sched_getaffinity = lambda _: range({}); from petstore.limits import hashing; print(hashing.MAX_CONCURRENT)"
    for cores, at_once in ((1, 1), (2, 1), (5, 2)):
        done = subprocess.run([sys.executable, "-c", code.format(cores)], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout == f"{at_once}\n", done.stderr


def test_the_turn_of_a_process_that_is_killed_is_free_at_once(folder):
    with process(folder, HOLD) as holder:
        assert not is_free()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert is_free()


def test_a_process_that_is_stopped_keeps_its_turn_and_others_do_not_wait_for_ever(folder):
    with process(folder, HOLD) as holder:
        holder.send_signal(signal.SIGSTOP)
        assert not is_free()
        holder.send_signal(signal.SIGCONT)
        go(holder)
        holder.wait()
        assert is_free()


@pytest.mark.parametrize("where", ["another process", "this process"])
def test_who_gets_no_turn_hears_so_at_its_time_and_not_before(folder, where):
    with taken(folder) if where == "another process" else hashing.hashing_slot(time.monotonic() + 1):
        started = time.monotonic()
        with pytest.raises(Unavailable, match="Too many logins at the moment") as caught, hashing.hashing_slot(started + 0.2):
            pytest.fail("it is not our turn")
        assert 0.2 <= time.monotonic() - started < 10
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
        started = time.monotonic()
        with pytest.raises(Unavailable), hashing.hashing_slot(started - 1):  # over before it began
            pytest.fail("it is not our turn")
    assert is_free()  # who has waited in vain holds nothing


def test_who_waits_gets_the_turn_when_it_is_given_back(folder):
    got = threading.Event()

    def wait():
        with hashing.hashing_slot(time.monotonic() + 30):
            got.set()

    with taken(folder):
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not got.wait(0.1)
    assert got.wait(30)
    waiter.join()


def test_a_turn_is_given_back_also_by_an_error(folder):
    with pytest.raises(ZeroDivisionError), hashing.hashing_slot(time.monotonic() + 1):
        raise ZeroDivisionError
    assert is_free()
    assert not [path for path in Path("/proc/self/fd").iterdir() if str(folder) in os.path.realpath(path)]


@pytest.mark.parametrize("how", ["a link", "a folder", "no place"])
def test_where_no_file_can_be_used_turns_are_taken_in_the_process(folder, how, monkeypatch, caplog):
    if how == "a link":
        hashing._slot_path(0).symlink_to(folder / "somebody's file")
    elif how == "a folder":
        hashing._slot_path(0).mkdir()
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "gone"))
    with hashing.hashing_slot(time.monotonic() + 1):
        assert not is_free()
    assert is_free()
    assert "hashing is limited per process only" in caplog.text
    assert not (folder / "somebody's file").exists()


def test_a_file_that_others_may_use_is_not_trusted(folder, caplog):
    hashing._slot_path(0).touch(0o666)
    hashing._slot_path(0).chmod(0o666)
    with hashing._slot_path(0).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # by whoever it was
        assert is_free()
    assert str(hashing._slot_path(0)) in caplog.text


def test_the_files_are_for_this_account_only(folder):
    with hashing.hashing_slot(time.monotonic() + 1):
        assert hashing._slot_path(0).stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_login_that_gets_no_turn_is_told_so_in_two_seconds_and_counts_as_no_failure(make, anyone, clients, folder):
    make.user("ana@example.com")
    other = clients()
    with taken(folder):
        started = time.monotonic()
        for _ in range(2):
            answer = anyone.post("/login", {"email": "ana@example.com", "password": PASSWORD})
            assert (answer.status, answer["Retry-After"]) == (503, "1")
            assert other.get("/products").status == 200
        assert 4 <= time.monotonic() - started < 6
    answer = anyone.post("/login", {"email": "ana@example.com", "password": "not this one, alas"})
    assert '"account-here";r=4;' in answer["RateLimit"]  # this one alone
