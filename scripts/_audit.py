"""Looks up known vulnerabilities of the packages in constraints.txt, by pip-audit in the database of osv.dev."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import urllib.request
from http.client import HTTPException
from itertools import zip_longest
from pathlib import Path

import _bootstrap

OSV = "https://api.osv.dev/v1/query"
PROBE = {"package": {"name": "bottle", "ecosystem": "PyPI"}, "version": "0.13.4"}
ANSWER_SECONDS, AUDIT_SECONDS = 5, 40  # where the network is closed, a run of CI loses no more than a minute
COMMAND = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--requirement", "/dev/stdin"]
COMMAND += ["--vulnerability-service", "osv", "--timeout", str(ANSWER_SECONDS), "--progress-spinner", "off"]


def rounds(constraints: str) -> list[str]:
    """The pins of all Pythons, without markers. pip-audit takes one version of a package at a time, for its own Python."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([^\s#=]+)==([^\s;]+)", constraints, re.MULTILINE):
        versions.setdefault(name, []).append(f"{name}=={version}\n")
    return ["".join(pins) for pins in zip_longest(*versions.values(), fillvalue="")]


def why_no_data(url: str) -> str | None:
    """Why the service gives no data; None if it does. A proxy that answers in its place is no data, either."""
    try:
        json.load(urllib.request.urlopen(url, json.dumps(PROBE).encode(), timeout=ANSWER_SECONDS))  # noqa: S310 (an option)
    except (OSError, HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def audit(url: str) -> bool:
    """Look up every pin and print what is found. Whether there was no vulnerability, as far as the service can be reached."""
    well, until = True, time.monotonic() + AUDIT_SECONDS
    for pins in rounds(Path(_bootstrap.CONSTRAINTS).read_text("utf-8")):
        options = {"input": pins, "capture_output": True, "text": True, "timeout": max(until - time.monotonic(), 0)}
        try:
            done = subprocess.run([*COMMAND, "--osv-url", url], **options)
            failed, table, said = done.returncode, done.stdout, done.stderr  # its status is 1 for a failure, too
        except subprocess.TimeoutExpired:
            failed, table, said = 1, "", f"pip-audit took more than {AUDIT_SECONDS} s"
        if failed and not table and (why := why_no_data(url)):
            print(f"scripts/audit: not looked up, as {url} cannot be reached: {why}")
            return well
        print(table or said.strip())
        well = well and not failed
    return well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/audit", description=__doc__)
    parser.add_argument("--url", default=OSV, help="another server with the interface of osv.dev")
    sys.exit(not audit(parser.parse_args().url))
