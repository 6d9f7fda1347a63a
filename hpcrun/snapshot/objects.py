"""Files that are written whole or not at all, and copies that know what they copied."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from hpcrun.errors import HpcrunError
from hpcrun.faults import told

_BLOCK = 1 << 20


def blocks(source: int, kind: type[HpcrunError], reading: str) -> Iterator[bytes]:
    """What is left of an open file; an error of reading is of that kind, and says what was read."""
    with told(reading, kind):
        while block := os.read(source, _BLOCK):
            yield block


def copy(source: Iterable[bytes], target: int) -> str:
    """Writes blocks to an open file; gives their SHA-256."""
    digest = hashlib.sha256()
    for block in source:
        digest.update(block)
        write_all(target, block)
    return digest.hexdigest()


def write_all(target: int, data: bytes) -> None:
    """Writes all of the data."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]


@contextmanager
def published(path: str) -> Iterator[int]:
    """An open file that takes its name, read-only and on the disk, when the block has ended.

    If it ends with an error, no file is left.
    """
    folder, name = os.path.split(path)
    aside = f"{folder}/.{name[:16]}.{os.urandom(6).hex()}"
    # The file system lets its maker write to a file that is read-only from the start.
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise


def sync_folder(path: str) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
