"""TypeScript for tests: what package-lock.json names, installed once into .venv, and programs compiled against the OpenAPI document."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.test_openapi import COMMITTED

HERE = Path(__file__).with_name("clients")
CLIENTS = COMMITTED.parent / "clients"
NPM, NODE = shutil.which("npm"), shutil.which("node")
STRICT = ["--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--skipLibCheck", "--types", "node"]
STRICT += ["--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler", "--lib", "es2022,dom,dom.iterable"]
needs_node = pytest.mark.skipif(not (NPM and NODE), reason="there is no Node.js: apt-get install nodejs npm")


def install() -> Path:
    """The folder with node_modules. The first time it needs a network."""
    folder = Path(sys.prefix) / "typescript"
    folder.mkdir(exist_ok=True)
    lock = "package-lock.json"
    with (folder / "busy").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)  # when two processes of tests start at once, one installs
        installed = folder / "node_modules" / ".installed"
        if not installed.exists() or installed.read_bytes() != (HERE / lock).read_bytes():
            for name in ("package.json", lock):
                shutil.copy(HERE / name, folder)
            run(str(NPM), "ci", "--no-audit", "--no-fund", "--ignore-scripts", folder=folder)
            shutil.copy(HERE / lock, installed)
    return folder


def project(folder: Path) -> Path:
    """Make `folder` one in which docs/clients/client.ts and the programs of tests/contract/clients can be compiled."""
    (folder / "node_modules").symlink_to(install() / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")
    run(str(NODE), "node_modules/openapi-typescript/bin/cli.js", str(COMMITTED), "-o", "petstore.d.ts", folder=folder)
    for file in (CLIENTS / "client.ts", *HERE.glob("*.ts")):
        shutil.copy(file, folder)
    return folder


def compile_strictly(folder: Path, *programs: str) -> str:
    """What tsc has against the programs; nothing if they are right."""
    tsc = [str(NODE), "node_modules/typescript/bin/tsc", *STRICT, *programs]
    return subprocess.run(tsc, cwd=folder, capture_output=True, text=True, timeout=120).stdout


def run(*command: str, folder: Path) -> str:
    """The output of a program, which has ended well."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
