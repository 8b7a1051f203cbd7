"""To import petstore changes nothing in the process: what serving needs changed, a Server and passwords.setup() change."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import petstore

# Run in a fresh interpreter. What is written in C opens its files unseen; ours are opened by Python.
PROGRAM = """
import ctypes, importlib, json, logging, os, pkgutil, resource, signal, sys, threading
import psycopg

opened, looked_up = [], []


def watch(event, arguments):
    if event == "open" and not isinstance(arguments[0], int):  # a number is that of a file which was opened by its name
        opened.append(os.fsdecode(arguments[0]))
    elif event == "ctypes.dlsym":
        looked_up.append(arguments[1])


sys.addaudithook(watch)


def state():
    return {
        "levels": {name: logger.level for name, logger in logging.root.manager.loggerDict.items() if getattr(logger, "level", 0)},
        "handlers": [str(handler) for handler in logging.root.handlers],
        "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
        "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
        "environment": dict(os.environ),
        "threads": threading.active_count(),
    }


before = state()
import petstore
modules = [module.name for module in pkgutil.walk_packages(petstore.__path__, "petstore.")]
for name in modules:
    importlib.import_module(name)
print(json.dumps({"before": before, "after": state(), "opened": opened, "looked_up": looked_up, "modules": modules}))
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """What the program tells."""
    folder = tmp_path_factory.mktemp("elsewhere")
    root = Path(petstore.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env={"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout)


def test_to_import_every_module_changes_nothing_in_the_process(imported):
    assert {"petstore.__main__", "petstore.server.waitress_channel", "petstore.auth.passwords"} < {*imported["modules"]}
    assert imported["after"] == imported["before"]
    assert "mallopt" not in imported["looked_up"]


def test_to_import_every_module_reads_no_file_but_those_of_the_packages(imported):
    known = [Path(petstore.__file__).parent, *map(Path, {sys.prefix, sys.base_prefix})]
    assert [name for name in imported["opened"] if not any(path in Path(name).parents for path in known)] == []
    assert not any("frequency_lists" in name for name in imported["opened"])


def test_setup_of_passwords_loads_their_list_and_sets_the_allocator():
    program = """
import ctypes, sys
asked = []
sys.addaudithook(lambda event, arguments: asked.append(arguments[1]) if event == "ctypes.dlsym" else None)
from petstore.auth import passwords
assert asked == []
passwords.setup()
assert passwords._common.cache_info().currsize == 1
print(asked)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['mallopt']\n", "")
