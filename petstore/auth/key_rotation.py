"""Generate and replace signing keys, and the steps of a rotation. petstore.auth.signing_keys tells which files there are."""

from __future__ import annotations

import fcntl
import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from petstore.auth import signing_keys
from petstore.auth.signing_keys import (
    KEY_FILE,
    MINIMUM_BITS,
    NEXT_FILE,
    REFRESH_FILE,
    RETIRED_FILES,
    KeyFault,
    load_key,
    load_refresh_key,
    refresh_pem,
    retired,
    thumbprint,
)


def generate_key(folder: Path, bits: int = MINIMUM_BITS, name: str = KEY_FILE) -> Path:
    """Write a new RSA key to `folder`, readable by its owner only; beside the first one, refresh.pem. KeyFault when it exists."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    if name == KEY_FILE and not path.exists():
        with suppress(FileExistsError):  # before private.pem, so that a service that finds that has both
            _write(folder / REFRESH_FILE, refresh_pem(secrets.token_bytes(32)), os.link)
    try:
        _write(path, _new_pem(bits), os.link)  # a link never overwrites: two services that start at once get the same key
    except FileExistsError:
        raise KeyFault(f"{path} exists already; --replace makes a new key and ends every access token") from None
    return path


def _keep_refresh_key(folder: Path) -> None:
    """Write refresh.pem if it is missing: as long as it follows from private.pem, it would change with it."""
    with suppress(FileExistsError):
        if not (folder / REFRESH_FILE).exists():
            _write(folder / REFRESH_FILE, refresh_pem(load_refresh_key(folder, load_key(folder / KEY_FILE))), os.link)


def close_folder(folder: Path) -> None:
    """Make a folder that any user can enter its owner's alone, if it is for the keys only and who owns it has made them.

    Others may need what else is in it; and a group, or a service that runs as another user, may need the key.
    """
    if signing_keys.folder_fault(folder) is None:
        return
    owner, key = folder.stat().st_uid, folder / KEY_FILE
    ours = all(path.suffix == ".pem" or path.name.startswith((".", "README")) for path in folder.iterdir())
    private = key.exists() and key.stat().st_uid == owner and not key.stat().st_mode & 0o077
    if ours and private and os.geteuid() in (0, owner):
        folder.chmod(0o700)


def _new_pem(bits: int) -> bytes:
    return generate_private_key(public_exponent=65537, key_size=bits).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def replace_key(folder: Path, bits: int) -> None:
    """Replace all keys at once, as they may have leaked. Every access token becomes invalid; a rotation under way is given up."""
    for path in (folder / NEXT_FILE, *retired(folder)):
        path.unlink(missing_ok=True)
    _write(folder / REFRESH_FILE, refresh_pem(secrets.token_bytes(32)), os.replace)
    _write(folder / KEY_FILE, _new_pem(bits), os.replace)


@contextmanager
def rotation_lock(folder: Path) -> Iterator[bool]:
    """Try to lock the folder for the block. False: another process has the lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            locked = False
        yield locked
    finally:
        os.close(descriptor)  # which releases the lock


def switch(folder: Path) -> str:
    """Sign with next.pem from now on, and keep the public half of the old key as retired-<kid>.pem; the kid of the new key."""
    kid = thumbprint(load_key(folder / NEXT_FILE).public_key())
    _keep_refresh_key(folder)
    public = load_key(folder / KEY_FILE).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write(folder / RETIRED_FILES.replace("*", thumbprint(public)), pem, os.replace)
    (folder / NEXT_FILE).replace(folder / KEY_FILE)
    return kid


def _write(path: Path, pem: bytes, put: Callable[[Path, Path], None]) -> None:
    """Write a key atomically: to a temporary file, which `put` moves to its place. Its owner is that of the present key."""
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        present = path.parent / KEY_FILE
        if os.geteuid() == 0 and present.exists():  # else the service could not read what root has written
            os.chown(draft, present.stat().st_uid, present.stat().st_gid)
        put(draft, path)
    finally:
        draft.unlink(missing_ok=True)
