"""`petstore generate-keys` and `petstore rotate-keys`."""

from __future__ import annotations

import argparse
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
    """Make the key that signs tokens; the present one stays, unless --replace is given (rotate-keys is the gentle way)."""
    _check_bits(options.bits)
    path = settings.keys / signing_keys.KEY_FILE
    if options.replace and path.exists():
        with _alone(settings.keys):
            key_rotation.replace_key(settings.keys, options.bits)
    else:
        key_rotation.generate_key(settings.keys, options.bits)
    report(f"a new signing key: {path}")


def rotate_keys(settings: Settings, options: argparse.Namespace) -> None:
    """Change the signing key without refusing a token on the way: publish a new one, let it sign, retire the old one."""
    _check_bits(options.bits)
    folder = settings.keys
    signing_keys.load_keys(folder)
    with _alone(folder):
        if not signing_keys.retired(folder) or (folder / signing_keys.NEXT_FILE).exists():
            _publish_and_switch(folder, options)
        for path in signing_keys.retired(folder):
            _wait(path.stat().st_mtime + settings.token_seconds + CLOCK_SECONDS, f"{path.name} retires")
            path.unlink()
            report(f"{path.name} is retired; the rotation is done")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with key_rotation.rotating(folder) as alone:
        if not alone:
            raise CommandError(f"the keys in {folder} are being rotated right now")
        yield


def _publish_and_switch(folder: Path, options: argparse.Namespace) -> None:
    path = folder / signing_keys.NEXT_FILE
    if not path.exists():
        key_rotation.generate_key(folder, options.bits, signing_keys.NEXT_FILE)
        report(f"{path} is published")
    _wait(path.stat().st_mtime + options.publish_seconds, "it signs")
    with signals.held():
        report(f"key {key_rotation.switch(folder)} signs")


def _wait(until: float, what: str) -> None:
    seconds = until - time.time()
    if seconds > 0:
        report(f"{what} in {seconds:.0f} s; Ctrl-C leaves it as it is, and the next run goes on from here")
        time.sleep(seconds)


def _check_bits(bits: int) -> None:
    if not signing_keys.MINIMUM_BITS <= bits <= signing_keys.MINIMUM_BITS * 4:
        raise CommandError(f"--bits must be from {signing_keys.MINIMUM_BITS} to {signing_keys.MINIMUM_BITS * 4}")
