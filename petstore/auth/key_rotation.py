"""Makes signing keys, and the steps of a rotation (see signing_keys)."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from petstore.auth.signing_keys import KEY_FILE, MINIMUM_BITS, NEXT_FILE, RETIRED_FILES, KeyFault, load_key, retired, thumbprint


def generate_key(folder: Path, bits: int = MINIMUM_BITS, name: str = KEY_FILE) -> Path:
    """Write a new RSA key to `folder`, readable by its owner only; never over an existing one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    try:
        _write(path, _new_pem(bits), os.link)  # linked: two starts at once agree on one
    except FileExistsError:
        raise KeyFault(f"{path} exists already; --replace makes a new key and ends every access token") from None
    return path


def _new_pem(bits: int) -> bytes:
    return generate_private_key(public_exponent=65537, key_size=bits).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def replace_key(folder: Path, bits: int) -> None:
    """Put a new key in the place of the signing one at once, and give up a rotation: every access token that was signed ends."""
    for path in (folder / NEXT_FILE, *retired(folder)):
        path.unlink(missing_ok=True)
    _write(folder / KEY_FILE, _new_pem(bits), os.replace)


@contextmanager
def rotating(folder: Path) -> Iterator[bool]:
    """Whether this is the only rotation of the folder, for the block."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        yield alone
    finally:
        os.close(opened)


def switch(folder: Path) -> str:
    """Let next.pem sign from now on, and keep the public half of the one before; the new key's name."""
    kid = thumbprint(load_key(folder / NEXT_FILE).public_key())
    public = load_key(folder / KEY_FILE).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write(folder / RETIRED_FILES.replace("*", thumbprint(public)), pem, os.replace)
    (folder / NEXT_FILE).replace(folder / KEY_FILE)
    return kid


def _write(path: Path, pem: bytes, put: Callable[[Path, Path], None]) -> None:
    """Written aside and put in place: a key is there whole or not at all. It belongs to whom the folder's key belongs."""
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        present = path.parent / KEY_FILE
        if os.geteuid() == 0 and present.exists():
            os.chown(draft, present.stat().st_uid, present.stat().st_gid)
        put(draft, path)
    finally:
        draft.unlink(missing_ok=True)
