"""`petstore generate-keys` and `petstore rotate-keys`."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from petstore import signals
from petstore.auth import key_rotation, signing_keys
from petstore.auth.tokens import CLOCK_SECONDS
from petstore.cli.output import CommandError, report
from petstore.settings import Settings


def generate_keys(settings: Settings, options: argparse.Namespace) -> None:
    """Make the keys of tokens. --replace puts them in place of the present ones, which ends every access token."""
    _check_bits(options.bits)
    path = settings.keys / signing_keys.KEY_FILE
    if options.replace and path.exists():
        with _exclusive(settings.keys):
            key_rotation.replace_key(settings.keys, options.bits)
    else:
        key_rotation.generate_key(settings.keys, options.bits)
    key_rotation.close_folder(settings.keys)
    report(f"new signing key: {path}")
    if fault := signing_keys.folder_fault(settings.keys):
        report(fault, logging.WARNING)


def rotate_keys(settings: Settings, options: argparse.Namespace) -> None:
    """Rotate the signing key, so that no token is refused meanwhile: publish a new key, sign with it, retire the old one."""
    _check_bits(options.bits)
    folder = settings.keys
    signing_keys.load_keys(folder)
    with _exclusive(folder):
        if not signing_keys.retired(folder) or (folder / signing_keys.NEXT_FILE).exists():
            _publish_and_switch(folder, options)
        for path in signing_keys.retired(folder):
            _wait(path.stat().st_mtime + settings.token_seconds + CLOCK_SECONDS, f"{path.name} retires")
            path.unlink()
            report(f"{path.name} is retired: the rotation is done")


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder; CommandError when another command has it."""
    with key_rotation.rotation_lock(folder) as locked:
        if not locked:
            raise CommandError(f"the keys in {folder} are being rotated right now")
        yield


def _publish_and_switch(folder: Path, options: argparse.Namespace) -> None:
    path = folder / signing_keys.NEXT_FILE
    if not path.exists():
        key_rotation.generate_key(folder, options.bits, signing_keys.NEXT_FILE)
        report(f"{path} is published")
    _wait(path.stat().st_mtime + options.publish_seconds, "the new key signs")
    with signals.deferred():
        report(f"key {key_rotation.switch(folder)} signs now")


def _wait(until: float, what: str) -> None:
    """Sleep until `until` (time.time()). what: what happens then."""
    seconds = until - time.time()
    if seconds > 0:
        report(f"{what} in {seconds:.0f} s; after Ctrl-C the next run continues from here")
        time.sleep(seconds)


def _check_bits(bits: int) -> None:
    if not signing_keys.MINIMUM_BITS <= bits <= signing_keys.MINIMUM_BITS * 4:
        raise CommandError(f"--bits must be from {signing_keys.MINIMUM_BITS} to {signing_keys.MINIMUM_BITS * 4}")
